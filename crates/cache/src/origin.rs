//! What the cache is in front of. Invariant: the cache asks for nothing but this, and knows no SQL.

use std::{error::Error, future::Future};

use bytes::Bytes;

use crate::protocol::epoch::EpochRow;

/// The value of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Value {
    /// Grows with every write of the key and never starts again.
    pub version: i64,
    /// The value itself, possibly empty.
    pub bytes: Bytes,
}

/// The database.
///
/// # Cancel safety
/// The cache may drop any of these futures.
pub trait Origin: Send + Sync + 'static {
    /// Why the database did not answer. Everybody who waited for the same load gets a clone.
    type Error: Error + Clone + Send + Sync + 'static;

    /// What there is under these keys now, in their order; `None` where there is no row.
    ///
    /// Nothing that was committed before the call may be missing: it reads from the primary, outside any snapshot that
    /// was taken before.
    fn load(&self, keys: &[&str]) -> impl Future<Output = Result<Vec<Option<Value>>, Self::Error>> + Send;

    /// The epoch's row, as it is committed now. It must answer or fail within a poll interval.
    fn epoch_row(&self) -> impl Future<Output = Result<EpochRow, Self::Error>> + Send;

    /// Says whether asking for the epoch's row again cannot help until someone changes something, such as a missing
    /// table. Writes are then refused without waiting for it.
    fn is_permanent(&self, error: &Self::Error) -> bool {
        let _ = error;
        false
    }

    /// Replaces the row where its epoch is one less than the successor's, or lower by any number if the successor trusts
    /// nothing. Nothing happens where it is not.
    fn advance(&self, successor: EpochRow) -> impl Future<Output = Result<(), Self::Error>> + Send;
}

/// What the origin has under each of these keys.
///
/// # Panics
/// If it answers for more or fewer: then no answer could be told from another's.
pub(crate) async fn load_each<O: Origin>(origin: &O, keys: &[&str]) -> Result<Vec<Option<Value>>, O::Error> {
    let values = origin.load(keys).await?;
    assert_eq!(values.len(), keys.len(), "an origin answers for each key");
    Ok(values)
}
