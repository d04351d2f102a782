//! What a user of a combiner implements. Invariant: [`Combine::commit`] makes all writes that it is given, or none.

use std::{hash::Hash, time::Duration};

use super::rows::Rows;
use crate::{Connection, Error};

/// Writes that can be made together.
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
    /// What a write is about.
    type Key: Hash + Ord + ?Sized;
    /// What one caller wants to be written.
    type Write: Send + Sync + 'static;
    /// What it is told.
    type Outcome: Send + 'static;
    /// Why a write was not made: [`Error`], or one that has it as a case. All callers of a statement get a clone.
    type Error: From<Error> + Clone + Send + 'static;

    /// What this write is about.
    fn key<'a>(&self, write: &'a Self::Write) -> &'a Self::Key;

    /// About how many bytes it adds to a statement.
    fn bytes(&self, write: &Self::Write) -> usize;

    /// Returns the database's error in an error, if it is one.
    ///
    /// By it the combiner decides whether to repeat or to halve a statement. Any other error goes to all callers of the
    /// statement as it is.
    fn database_error(error: &Self::Error) -> Option<&Error>;

    /// Whether a write can be folded into a row with those before it, all of one key, so that one statement makes all of
    /// them: a statement cannot touch a row twice. That is so if their outcomes can be told from the row's. What cannot
    /// be folded follows in a statement of its own.
    ///
    /// What is folded away never reaches the database. Whatever the database would refuse should be refused before it is
    /// submitted, or be a part of what is sent: otherwise it may be taken for written and replaced.
    fn folds(&self, row: &[&Self::Write], next: &Self::Write) -> bool;

    /// Makes all these writes, or none, and commits: one statement, or one transaction. Each row has a key of its own,
    /// and they are in the order of their keys, so that two statements never wait for each other in a circle. Answers
    /// with an outcome for each write, in order.
    ///
    /// `lock_timeout` is how long to wait for rows that somebody else has locked. If the statement puts it in force, as
    /// `set_config('lock_timeout', $n, true)` does for one transaction, then such a row holds up only the writes to it;
    /// zero means: as long as a command may take. If it does not, the whole statement waits.
    ///
    /// A single statement runs in the isolation level that `default_transaction_isolation` names. Above `read committed`
    /// it fails where others change the same rows, and is tried again after a pause: begin a transaction with
    /// [`TransactionOptions`](crate::TransactionOptions) where that may be set.
    ///
    /// # Cancel safety
    ///
    /// As for [`Batch::run`].
    fn commit(
        &self,
        connection: &Connection,
        rows: &Rows<'_, Self::Write>,
        lock_timeout: Duration,
    ) -> impl Future<Output = Result<Vec<Self::Outcome>, Self::Error>> + Send;
}
