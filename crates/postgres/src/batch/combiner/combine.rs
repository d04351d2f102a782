//! The trait that the user of a combiner implements. Invariant: [`Combine::commit`] makes all writes that it is given,
//! or none.

use std::{hash::Hash, time::Duration};

use super::rows::Rows;
use crate::{Connection, Error};

/// Writes that one statement can make together.
///
/// ```no_run
/// use std::time::Duration;
///
/// use cenote_postgres::{Combine, Combiner, Connection, Error, Pool, Result, Rows};
///
/// /// Adds to counters, each caller's in the order in which they came.
/// struct Counters;
///
/// /// So much to that counter.
/// struct Add(String, i64);
///
/// const ADD: &str = "WITH patience AS MATERIALIZED (SELECT set_config('lock_timeout', $3, true))
///     INSERT INTO counter (name, total)
///     SELECT added.* FROM patience, unnest($1::text[], $2::bigint[]) AS added
///     ON CONFLICT (name) DO UPDATE SET total = counter.total + excluded.total";
///
/// impl Combine for Counters {
///     type Key = str;
///     type Write = Add;
///     type Outcome = (); // that it was counted
///     type Error = Error;
///
///     fn key<'a>(&self, add: &'a Add) -> &'a str {
///         &add.0
///     }
///
///     fn bytes(&self, add: &Add) -> usize {
///         add.0.len() + 8
///     }
///
///     fn database_error(error: &Error) -> Option<&Error> {
///         Some(error)
///     }
///
///     /// Sums can be made before they are sent.
///     fn folds(&self, _: &[&Add], _: &Add) -> bool {
///         true
///     }
///
///     async fn commit(
///         &self,
///         connection: &Connection,
///         rows: &Rows<'_, Add>,
///         lock_timeout: Duration,
///     ) -> Result<Vec<()>> {
///         let names: Vec<&str> = rows.iter().map(|adds| &*adds[0].0).collect();
///         let sums: Vec<i64> = rows.iter().map(|adds| adds.iter().map(|add| add.1).sum()).collect();
///         let limit = lock_timeout.as_millis().to_string();
///         connection.query(ADD, &[&names, &sums, &limit]).await?;
///         Ok(rows.iter().flatten().map(|_| ()).collect()) // one for each write
///     }
/// }
///
/// # async fn example(pool: Pool) -> Result<()> {
/// let counters = Combiner::new(Counters, &pool);
/// counters.submit(Add("visits".to_owned(), 1)).await?; // committed
/// # Ok(())
/// # }
/// ```
pub trait Combine: Send + Sync + 'static {
    /// The key of a write, such as that of its row.
    type Key: Hash + Ord + ?Sized;
    /// The write of one caller.
    type Write: Send + Sync + 'static;
    /// The result of one write.
    type Outcome: Send + 'static;
    /// Why a write was not made: [`Error`], or a type with it as one case. Every caller of a failed statement gets a
    /// clone.
    type Error: From<Error> + Clone + Send + 'static;

    /// Returns the key of a write.
    fn key<'a>(&self, write: &'a Self::Write) -> &'a Self::Key;

    /// Returns the approximate number of bytes that the write adds to a statement.
    fn bytes(&self, write: &Self::Write) -> usize;

    /// Returns the database's error inside an error, if there is one.
    ///
    /// The combiner decides by it whether to repeat or to halve a statement. Any other error goes to all callers of the
    /// statement.
    fn database_error(error: &Self::Error) -> Option<&Error>;

    /// Whether `next` can be folded into a row with the writes before it, all of one key.
    ///
    /// A statement cannot change a row twice, so one row must stand for all of them, and `commit` must be able to tell
    /// the outcome of each from the row's. A write that cannot be folded follows in a later statement.
    ///
    /// A write that is folded away never reaches the database. Refuse what the database would refuse before you submit
    /// it, or send all writes of the row; otherwise a bad write may be reported as made and then replaced.
    fn folds(&self, row: &[&Self::Write], next: &Self::Write) -> bool;

    /// Makes all these writes, or none, and commits, in one statement or one transaction. Returns an outcome for each
    /// write, in order.
    ///
    /// Each row has a different key, and rows are in the order of their keys, so that two statements cannot deadlock.
    ///
    /// `lock_timeout` is how long to wait for rows that another session has locked; zero means as long as the command
    /// timeout allows. Put it in force in the statement, as `set_config('lock_timeout', $n, true)` does for one
    /// transaction; then only the writes to a locked row wait for it. Otherwise the whole statement waits.
    ///
    /// A single statement runs in the isolation level of `default_transaction_isolation`. Above `read committed` it
    /// fails where others change the same rows, and is repeated after a pause. Begin a transaction with
    /// [`TransactionOptions`](crate::TransactionOptions) where that setting may be changed.
    ///
    /// # Cancel safety
    ///
    /// Like [`Batch::run`](crate::Batch::run).
    fn commit(
        &self,
        connection: &Connection,
        rows: &Rows<'_, Self::Write>,
        lock_timeout: Duration,
    ) -> impl Future<Output = Result<Vec<Self::Outcome>, Self::Error>> + Send;
}
