//! The database behind the cache. Invariant: the cache needs only this trait, and contains no SQL.

use std::{error::Error, future::Future};

use crate::{protocol::epoch::EpochRow, ttl::Ttl, value::Value};

/// The database.
///
/// # Cancel safety
/// The cache may drop any of these futures.
pub trait Origin: Send + Sync + 'static {
    /// Why the database did not answer. All reads that share a load get a clone.
    type Error: Error + Clone + Send + Sync + 'static;

    /// Returns the values of these keys, in their order; `None` for a key without a row.
    ///
    /// It must see everything that was committed before the call: read from the primary, and not in a snapshot that was
    /// taken earlier.
    fn load(&self, keys: &[&str]) -> impl Future<Output = Result<Vec<Option<Value>>, Self::Error>> + Send;

    /// How long the values that this origin loads are kept. `None`: as [`Config`](crate::Config) says.
    fn ttl(&self) -> Option<Ttl> {
        None
    }

    /// Returns the committed row of the epoch. It must answer or fail within [a poll
    /// interval](crate::Timing::poll_interval).
    fn epoch_row(&self) -> impl Future<Output = Result<EpochRow, Self::Error>> + Send;

    /// Whether this error of [`epoch_row`](Self::epoch_row) lasts until someone changes something, such as a missing table.
    /// Writes are then refused without waiting.
    fn is_permanent(&self, error: &Self::Error) -> bool {
        let _ = error;
        false
    }

    /// Replaces the row where its epoch is one less than the successor's, or lower by any number if the successor trusts
    /// nothing. Nothing happens where it is not.
    fn advance(&self, successor: EpochRow) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// Loads the values of these keys.
///
/// # Panics
/// If the origin returns more or fewer values than keys: then no value could be assigned to its key.
pub(crate) async fn load_each<O: Origin>(origin: &O, keys: &[&str]) -> Result<Vec<Option<Value>>, O::Error> {
    let values = origin.load(keys).await?;
    assert_eq!(values.len(), keys.len(), "an origin answers for each key");
    Ok(values)
}
