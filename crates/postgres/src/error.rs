//! What can go wrong, named for what the caller does next. Invariant: a command whose effect is not
//! known is never reported as failed without effect.
//!
//! The text of an error says all of it, its cause included, and so it has no `source`: whoever prints a chain of causes
//! would print it twice. What is worth a look is in the variant's fields.

use std::{sync::Arc, time::Duration};

use tokio_postgres::error::{DbError, SqlState};

use cenote_pool::Chain;

use crate::connection_error::AcquireError;

/// The result of a command.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a command did not succeed.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Could not acquire a connection; nothing was sent.
    #[error("no database connection: {0}")]
    Acquire(AcquireError),

    /// The connection was lost before the command was executed: when it came, or while it was being
    /// prepared.
    #[error("the connection was lost before the command was executed: {cause}")]
    Disconnected {
        /// What ended the connection.
        cause: Arc<str>,
    },

    /// Too much waits to be sent with others already, or this would not be sent in time; it was not.
    #[error("too much waits for the database: {waiting} requests, {bytes} bytes")]
    QueueFull {
        /// Requests that wait.
        waiting: usize,
        /// Bytes of theirs.
        bytes: usize,
        /// After which time to try again, if that can be said: trying earlier is in vain.
        retry_after: Option<Duration>,
    },

    /// The caller's time was over. What has been sent with others by then goes on, and may take effect.
    #[error("not answered within {:.2} s{}", .waited.as_secs_f64(), match .sent {
        true => "; it has been sent",
        false => ", nor sent",
    })]
    Deadline {
        /// How long it waited.
        waited: Duration,
        /// Whether it had been sent.
        sent: bool,
    },

    /// The command took longer than the command timeout. It is being cancelled on the server, but
    /// may have taken effect before.
    #[error("the command took longer than {:.1} s", .0.as_secs_f64())]
    Timeout(Duration),

    /// The connection ended before the command was answered; it may have taken effect.
    #[error("the connection was lost before the command was answered: {cause}")]
    Lost {
        /// What ended the connection.
        cause: Arc<str>,
    },

    /// The server refused the command; it had no effect.
    #[error("{}: {}", .0.severity(), .0.message())]
    Database(Box<DbError>),

    /// A table, type or function has changed since the statement was prepared, in the middle of a transaction or a
    /// pipeline, where it cannot be run again by itself. It had no effect, and is prepared anew the next time: repeat the
    /// transaction, as [`Pool::transaction`](crate::Pool::transaction) does.
    #[error("the schema has changed since the statement was prepared; repeat the transaction: {}", .0.message())]
    Stale(Box<DbError>),

    /// A statement of the transaction failed before, so the commit became a rollback.
    #[error("the transaction had failed and was rolled back")]
    RolledBack,

    /// The statement of a [`Loader`](crate::Loader) is not one by which it can tell whose rows are whose.
    #[error("{0}")]
    WrongStatement(Arc<str>),

    /// There are several rows for a key of a [`Loader`](crate::Loader).
    #[error("several rows for the key {key}, of which a loader finds one; LoaderMany finds them all")]
    SeveralRows {
        /// The key, shortened if it is long.
        key: Arc<str>,
    },

    /// A row was not what its reader expects.
    #[error("cannot read a row: {}", undecoded(.0))]
    Decode(Arc<dyn std::error::Error + Send + Sync>),

    /// The code that serves a batch panicked; what it had sent by then may have taken effect.
    #[error("the code that serves the batch panicked: {0}")]
    Panicked(Arc<str>),

    /// [`Combine::commit`](crate::Combine::commit) told the outcome of another number of writes than it was given; they
    /// may have taken effect.
    #[error("{outcomes} outcomes were told of {writes} writes")]
    Miscounted {
        /// Outcomes that were told.
        outcomes: usize,
        /// Writes of which they were to be told.
        writes: usize,
    },

    /// The query answered with this many rows where one was asked for.
    #[error("the query answered with {0} rows instead of one")]
    RowCount(usize),

    /// A channel's name is empty or longer than the 63 bytes PostgreSQL keeps of it; nothing was sent.
    #[error("a channel's name has 1 to 63 bytes")]
    ChannelName,

    /// The command was not sent: wrong number or types of parameters and the like. Nothing was
    /// executed.
    #[error("{}", driver(.0))]
    NotSent(Arc<tokio_postgres::Error>),

    /// The server's answer was not understood; the command may have taken effect.
    #[error("{}", driver(.0))]
    NotUnderstood(Arc<tokio_postgres::Error>),
}

impl From<AcquireError> for Error {
    fn from(error: AcquireError) -> Self {
        Self::Acquire(error)
    }
}

fn driver(error: &Arc<tokio_postgres::Error>) -> Chain<'_> {
    Chain(&**error)
}

fn undecoded(error: &Arc<dyn std::error::Error + Send + Sync>) -> Chain<'_> {
    Chain(&**error)
}

/// What a panic said.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

impl Error {
    /// Of a command that certainly was not executed, whatever the error.
    pub(crate) fn unexecuted(error: tokio_postgres::Error, death: Option<Arc<str>>) -> Self {
        match Self::executed(error, death) {
            Self::Lost { cause } => Self::Disconnected { cause },
            Self::NotUnderstood(error) => Self::NotSent(error),
            other => other,
        }
    }

    /// Of a command that was about to be executed. It is taken for sent unless the error says that it was not.
    pub(crate) fn executed(error: tokio_postgres::Error, death: Option<Arc<str>>) -> Self {
        let source = std::error::Error::source(&error);
        if let Some(database) = error.as_db_error() {
            // A fatal error ends the connection; the server may have got as far as the commit.
            let cause = || database.message().into();
            return match is_fatal(database) {
                true if ends_idle_session(database.code().code()) => Self::Disconnected { cause: cause() },
                true => Self::Lost { cause: cause() },
                false => Self::Database(Box::new(database.clone())),
            };
        }
        // What is wrong with an answer or the stream is an I/O error or has no cause at all. Any other cause
        // is that for which a value refused to be encoded, which is before anything is sent.
        let io = source.and_then(|cause| cause.downcast_ref::<std::io::Error>());
        if source.is_some() && io.is_none() {
            return Self::NotSent(Arc::new(error));
        }
        // Invalid input is a message that cannot be written or read.
        let stream_failed = io.is_some_and(|io| io.kind() != std::io::ErrorKind::InvalidInput);
        match death {
            Some(cause) => Self::Lost { cause },
            None if error.is_closed() || stream_failed => Self::Lost {
                cause: Chain(&error).to_string().into(),
            },
            None => Self::NotUnderstood(Arc::new(error)),
        }
    }

    /// Of a command that failed because what it depends on has changed since it was prepared.
    pub(crate) fn stale(error: tokio_postgres::Error, death: Option<Arc<str>>) -> Self {
        match Self::executed(error, death) {
            Self::Database(error) => Self::Stale(error),
            other => other,
        }
    }

    /// The server's error code, if it was the server that refused.
    pub fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Database(error) | Self::Stale(error) => Some(error.code()),
            _ => None,
        }
    }

    /// The constraint that the command would have violated.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Self::Database(error) => error.constraint(),
            _ => None,
        }
    }

    /// True if the command may have taken effect although it did not succeed. A command that
    /// changes nothing may simply be repeated; one that does must be looked into first.
    pub fn is_outcome_unknown(&self) -> bool {
        matches!(
            self,
            Self::Timeout(_)
                | Self::Lost { .. }
                | Self::NotUnderstood(_)
                | Self::Panicked(_)
                | Self::Miscounted { .. }
                | Self::Deadline { sent: true, .. }
        )
    }

    /// True if repeating a command that is safe to repeat may well succeed a moment later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Lost { .. } | Self::Disconnected { .. } | Self::Stale(_) => true,
            Self::Database(error) => is_transient(error.code()),
            // Whoever waited for a connection until the timeout has waited enough.
            Self::Acquire(_)
            | Self::QueueFull { .. }
            | Self::Deadline { .. }
            | Self::Timeout(_)
            | Self::RolledBack
            | Self::WrongStatement(_)
            | Self::SeveralRows { .. }
            | Self::Decode(_)
            | Self::Panicked(_)
            | Self::Miscounted { .. }
            | Self::RowCount(_)
            | Self::ChannelName
            | Self::NotSent(_)
            | Self::NotUnderstood(_) => false,
        }
    }
}

impl Error {
    /// Data exceptions, broken constraints and exceeded limits: some value of the command cannot be stored or read.
    pub(crate) fn is_about_data(&self) -> bool {
        let class = self.code().and_then(|code| code.code().get(..2));
        // P0: what a trigger of the user's raises.
        matches!(class, Some("22" | "23" | "54" | "P0"))
    }

    /// Somebody else has locked what the command needs for longer than its `lock_timeout`.
    pub(crate) fn is_lock_timeout(&self) -> bool {
        self.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
    }

    /// It passes, and had no effect.
    pub(crate) fn certainly_passes(&self) -> bool {
        self.is_retryable() && !self.is_outcome_unknown()
    }
}

/// Whether the server ends a session for this reason only while it waits for a command: `idle_session_timeout` and
/// `idle_in_transaction_session_timeout`. What it has not answered then, it has not begun.
pub(crate) fn ends_idle_session(code: &str) -> bool {
    matches!(code, "57P05" | "25P03")
}

fn is_fatal(error: &DbError) -> bool {
    use tokio_postgres::error::Severity;
    match error.parsed_severity() {
        Some(severity) => matches!(severity, Severity::Fatal | Severity::Panic),
        None => matches!(error.severity(), "FATAL" | "PANIC"),
    }
}

/// Codes that say "not now": conflicts between transactions and a server coming or going.
fn is_transient(code: &SqlState) -> bool {
    let code = code.code();
    matches!(
        code,
        "40001" | "40P01" | "55P03" | "53300" | "57P01" | "57P02" | "57P03"
    ) || code.starts_with("08")
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
