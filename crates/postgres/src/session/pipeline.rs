//! Sends several statements in one round trip.
//!
//! Invariant: they are executed in the given order, and each has its own result.

use std::fmt;

use futures_util::future::join_all;

use super::{
    commands::{CommandOutput, Parameter},
    connection::Connection,
    execution::Failure,
    prepare::Runnable,
};
use crate::{Error, Result, session::staleness::Staleness};

/// A statement and its parameters, for [`Connection::pipeline`].
#[derive(Clone, Copy)]
pub struct Command<'a> {
    sql: &'a str,
    parameters: &'a [Parameter<'a>],
}

/// Parameters are not printed: they may be secret.
impl fmt::Debug for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("sql", &self.sql)
            .field("parameters", &self.parameters.len())
            .finish()
    }
}

impl<'a> Command<'a> {
    /// Creates a command from a statement and its parameters.
    pub fn new(sql: &'a str, parameters: &'a [Parameter<'a>]) -> Self {
        Self { sql, parameters }
    }
}

impl Connection {
    /// Sends several statements at once and waits for all results. That takes one round trip, and another one before it
    /// if a statement is not in the cache.
    ///
    /// They are executed in order, each in its own transaction, as if they were sent one by one: a failure stops none
    /// of the others. Within a [`Transaction`](crate::Transaction), which can be used like a connection, the statements
    /// after a failed one fail too.
    ///
    /// ```no_run
    /// # async fn example(connection: &cenote_postgres::Connection, id: i64) -> cenote_postgres::Result<()> {
    /// use cenote_postgres::Command;
    ///
    /// let [item, orders] = connection
    ///     .pipeline([
    ///         Command::new("SELECT name FROM item WHERE id = $1", &[&id]),
    ///         Command::new("DELETE FROM cart WHERE item = $1", &[&id]),
    ///     ])
    ///     .await;
    /// println!("{} items, {} carts", item?.rows.len(), orders?.affected);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Each statement has its own; see [`Error`]. If the connection is lost or the command timeout passes, unanswered
    /// statements have an unknown outcome. A statement whose tables or types have changed since it was prepared fails
    /// with [`Error::Stale`]: it cannot be repeated, because those after it were executed. It is prepared anew the next
    /// time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops no statement that was sent. When the connection is returned to its pool, statements
    /// that still run are cancelled; it is then unknown which of them were executed.
    pub async fn pipeline<const N: usize>(&self, commands: [Command<'_>; N]) -> [Result<CommandOutput>; N] {
        let mut answers = self.pipeline_all(&commands).await.into_iter();
        std::array::from_fn(|_| answers.next().unwrap_or(Err(Error::RowCount(0))))
    }

    /// Like [`pipeline`](Self::pipeline), for any number of statements.
    ///
    /// # Cancel safety
    ///
    /// As [`pipeline`](Self::pipeline).
    pub async fn pipeline_all(&self, commands: &[Command<'_>]) -> Vec<Result<CommandOutput>> {
        // Everything that must be waited for comes first, so that the statements are sent together.
        if let Err(error) = self.make_ready().await {
            return commands.iter().map(|_| Err(error.clone())).collect();
        }
        let prepared = commands.iter().map(|command| async {
            let preparing = async { Ok(self.statement(command.sql).await) };
            // Bounded in time. It is counted when it is executed.
            self.bounded(preparing).await
        });
        let prepared = join_all(prepared).await;
        let sent = commands.iter().zip(prepared).map(|(command, prepared)| {
            let run = async move {
                match prepared {
                    Ok(prepared) => self.answer_to(&prepared?, command).await.map(Ok),
                    Err(error) => Ok(Err(error)),
                }
            };
            let rows = |output: &Result<CommandOutput>| output.as_ref().ok().map(|output| output.affected);
            async move { self.command(command.sql, run, rows).await? }
        });
        join_all(sent).await
    }

    async fn answer_to(
        &self,
        runnable: &Runnable,
        command: &Command<'_>,
    ) -> std::result::Result<CommandOutput, Failure> {
        let answer = self.collect(runnable, command.parameters).await;
        answer.map_err(|failure| {
            match self.forget_if_stale(command.sql, runnable, failure) {
                // Parameters that do not fit may be the caller's mistake.
                (failure, Staleness::None | Staleness::Parameters) => failure,
                (failure, _) => failure.stale(),
            }
        })
    }
}
