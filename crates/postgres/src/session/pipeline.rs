//! Several statements in one round trip.
//!
//! Invariant: they are executed in the order in which they are given, and each has its own answer.

use std::fmt;

use futures_util::future::join_all;

use super::{
    commands::{CommandOutput, Parameter},
    connection::Connection,
    execution::Failure,
    prepare::Ready,
};
use crate::{Error, Result, session::staleness::Staleness};

/// A statement and its parameters, for [`Connection::pipeline`].
#[derive(Clone, Copy)]
pub struct Command<'a> {
    sql: &'a str,
    parameters: &'a [Parameter<'a>],
}

/// What a parameter is may be a secret.
impl fmt::Debug for Command<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Command")
            .field("sql", &self.sql)
            .field("parameters", &self.parameters.len())
            .finish()
    }
}

impl<'a> Command<'a> {
    /// A statement with these parameters.
    pub fn new(sql: &'a str, parameters: &'a [Parameter<'a>]) -> Self {
        Self { sql, parameters }
    }
}

impl Connection {
    /// Sends several statements at once and waits for the answers: one round trip for all of them, and another one
    /// before it if any is not in the statement cache yet.
    ///
    /// They are executed in order, each in a transaction of its own, as if they had been sent one by one: one that fails
    /// stops none of the others. Within a [`Transaction`](crate::Transaction), which can be used like a connection, those
    /// after it fail too, and nothing of any of them stays.
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
    /// Each statement has its own, see [`Error`]. If the connection is lost, or the command timeout passes, whatever was
    /// not answered by then has an unknown outcome, and what was is not affected. A statement whose tables or types have
    /// changed since it was prepared is not repeated here, as those after it have been executed: it fails with
    /// [`Error::Stale`], and is prepared anew the next time.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future stops nothing that was sent. When the connection is given back to its pool what is still
    /// running is cancelled; which of the statements were executed is not known then.
    pub async fn pipeline<const N: usize>(&self, commands: [Command<'_>; N]) -> [Result<CommandOutput>; N] {
        let mut answers = self.pipeline_all(&commands).await.into_iter();
        std::array::from_fn(|_| answers.next().unwrap_or(Err(Error::RowCount(0))))
    }

    /// As [`pipeline`](Self::pipeline), for any number of statements.
    ///
    /// # Cancel safety
    ///
    /// As [`pipeline`](Self::pipeline).
    pub async fn pipeline_all(&self, commands: &[Command<'_>]) -> Vec<Result<CommandOutput>> {
        // What has to be waited for comes first, so that nothing is waited for between the statements.
        if let Err(error) = self.make_ready().await {
            return commands.iter().map(|_| Err(error.clone())).collect();
        }
        let prepared = commands.iter().map(|command| async {
            let preparing = async { Ok(self.prepare(command.sql).await) };
            // Bounded in time; counted with its execution.
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
            async { self.command(command.sql, run).await? }
        });
        join_all(sent).await
    }

    async fn answer_to(&self, ready: &Ready, command: &Command<'_>) -> std::result::Result<CommandOutput, Failure> {
        let answer = self.collect(ready, command.parameters).await;
        answer.map_err(|failure| {
            match self.forget_if_stale(command.sql, ready, failure) {
                // What does not fit may be the caller's fault.
                (failure, Staleness::None | Staleness::Parameters) => failure,
                (failure, _) => failure.stale(),
            }
        })
    }
}
