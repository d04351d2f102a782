//! The errors of commands, named for what the caller does next. Invariant: a command whose outcome is unknown is never
//! reported as one without effect.
//!
//! The text of an error includes its cause. So an error has no `source`: a program that prints a chain of causes would
//! print it twice. Details are in the fields of the variant.

use std::{sync::Arc, time::Duration};

use tokio_postgres::error::{DbError, SqlState};

use cenote_pool::{Chain, Reason};

use crate::{connection_error::AcquireError, driver_error};

/// The result of a command.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a command did not succeed.
///
/// Types of other crates in it are those of the driver, which this crate re-exports as
/// [`tokio_postgres`](crate::tokio_postgres), and no others.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Could not acquire a connection; nothing was sent.
    #[error("no database connection: {0}")]
    Acquire(AcquireError),

    /// The connection was lost before the command was executed: before it was sent, or while it was prepared.
    #[error("the connection was lost before the command was executed: {cause}")]
    Disconnected {
        /// What ended the connection.
        cause: Arc<str>,
    },

    /// The queue of a batcher is full, or the request would not be sent in time. It was not sent.
    #[error("too many requests wait for the database: {waiting} requests, {bytes} bytes")]
    QueueFull {
        /// Waiting requests.
        waiting: usize,
        /// Bytes of the waiting requests.
        bytes: usize,
        /// The time after which to try again, if it can be estimated. An earlier attempt would be refused too.
        retry_after: Option<Duration>,
    },

    /// The deadline of the caller has passed. A request that was sent with others continues, and may take effect.
    #[error("not answered within {:.2} s{}", .waited.as_secs_f64(), match .sent {
        true => "; it was sent",
        false => "; it was not sent",
    })]
    Deadline {
        /// How long the caller waited.
        waited: Duration,
        /// Whether the request was sent.
        sent: bool,
    },

    /// The command took longer than the command timeout. It is cancelled on the server, but may have taken effect
    /// before.
    #[error(
        "the command took longer than its command timeout, {:.1} s (Config::command_timeout, 5 s by default)",
        .0.as_secs_f64()
    )]
    Timeout(Duration),

    /// The connection ended before the command was answered. It may have taken effect.
    #[error("the connection was lost before the command was answered: {cause}")]
    Lost {
        /// What ended the connection.
        cause: Arc<str>,
    },

    /// The server refused the command. It had no effect.
    #[error("{}: {}", .0.severity(), .0.message())]
    Database(Box<DbError>),

    /// A table, type or function has changed since the statement was prepared, and the statement cannot be repeated
    /// alone, because it is in a transaction or a pipeline.
    ///
    /// It had no effect and is prepared anew the next time. Repeat the transaction, as
    /// [`Pool::transaction`](crate::Pool::transaction) does.
    #[error("the schema has changed since the statement was prepared; repeat the transaction: {}", .0.message())]
    Stale(Box<DbError>),

    /// An earlier statement of the transaction failed, so the commit became a rollback.
    #[error("the transaction had failed and was rolled back")]
    RolledBack,

    /// A statement or a row does not have the required shape: the statement of a [`Loader`](crate::Loader), so that rows cannot
    /// be assigned to keys, or a row of a [binary COPY](crate::BinaryCopyIn).
    #[error("{0}")]
    WrongStatement(Arc<str>),

    /// A [`Loader`](crate::Loader) found several rows for a key.
    #[error("several rows for the key {key}, of which a loader finds one; LoaderMany finds them all")]
    SeveralRows {
        /// The key, shortened to 100 characters.
        key: Arc<str>,
    },

    /// A row could not be read, for example because a column has another type.
    #[error("cannot read a row: {}", undecoded(.0))]
    Decode(Arc<dyn std::error::Error + Send + Sync>),

    /// The code that serves a batch panicked. What it sent before may have taken effect.
    #[error("the code that serves the batch panicked: {0}")]
    Panicked(Arc<str>),

    /// [`Combine::commit`](crate::Combine::commit) returned another number of outcomes than it was given writes. They
    /// may have taken effect.
    #[error("the commit returned {outcomes} outcomes for {writes} writes")]
    Miscounted {
        /// The number of outcomes.
        outcomes: usize,
        /// The number of writes.
        writes: usize,
    },

    /// The query returned this number of rows instead of one.
    #[error("the query returned {0} rows instead of one")]
    RowCount(usize),

    /// The name of a channel is empty or longer than the 63 bytes that PostgreSQL keeps. Nothing was sent.
    #[error("a channel's name has 1 to 63 bytes")]
    ChannelName,

    /// The command was not sent, for example because the number or types of its parameters are wrong.
    #[error("{}", driver(.0))]
    NotSent(Arc<tokio_postgres::Error>),

    /// The server's answer was not understood. The command may have taken effect.
    #[error("{}", driver(.0))]
    NotUnderstood(Arc<tokio_postgres::Error>),
}

impl From<AcquireError> for Error {
    fn from(error: AcquireError) -> Self {
        Self::Acquire(error)
    }
}

/// For `?` on what the driver's own functions return, such as [`tokio_postgres::Row::try_get`], and on what a
/// [`GenericClient`](crate::GenericClient) returns: an error of this crate inside the driver's comes out unchanged.
impl From<tokio_postgres::Error> for Error {
    fn from(error: tokio_postgres::Error) -> Self {
        // The driver distinguishes its errors only by text. A test checks these.
        let text = error.to_string();
        match text.starts_with("error deserializing column") || text.starts_with("invalid column") {
            true => Self::Decode(Arc::new(error)),
            false => Self::executed(error, None),
        }
    }
}

fn driver(error: &Arc<tokio_postgres::Error>) -> Chain<'_> {
    Chain(&**error)
}

fn undecoded(error: &Arc<dyn std::error::Error + Send + Sync>) -> Chain<'_> {
    Chain(&**error)
}

/// Returns the text of a panic.
pub(crate) fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

impl Error {
    /// The same failure of a command that certainly was not executed.
    pub(crate) fn unexecuted(self) -> Self {
        match self {
            Self::Lost { cause } => Self::Disconnected { cause },
            Self::NotUnderstood(error) => Self::NotSent(error),
            other => other,
        }
    }

    /// The error of a command that was sent, unless the error says that it was not.
    pub(crate) fn executed(error: tokio_postgres::Error, death: Option<Arc<str>>) -> Self {
        Self::sort(error, death).0
    }

    /// Like [`executed`](Self::executed), and also returns the driver's error, unless it has become a part of this one.
    pub(crate) fn sort(error: tokio_postgres::Error, death: Option<Arc<str>>) -> (Self, Option<tokio_postgres::Error>) {
        let source = std::error::Error::source(&error);
        if let Some(database) = error.as_db_error() {
            // A fatal error ends the connection. The server may have committed before.
            let cause = || database.message().into();
            let sorted = match is_fatal(database) {
                true if ends_idle_session(database.code().code()) => Self::Disconnected { cause: cause() },
                true => Self::Lost { cause: cause() },
                false => Self::Database(Box::new(database.clone())),
            };
            return (sorted, Some(error));
        }
        if let Some(own) = driver_error::inside::<Self>(&error) {
            return (own.clone(), Some(error));
        }
        // A failure of the stream or of an answer is an I/O error or has no cause. Any other cause is a value that
        // could not be encoded, which happens before anything is sent.
        let io = source.and_then(|cause| cause.downcast_ref::<std::io::Error>());
        if source.is_some() && io.is_none() {
            return (Self::NotSent(Arc::new(error)), None);
        }
        // `InvalidInput` is a message that could not be written or parsed; the stream itself works.
        let stream_failed = io.is_some_and(|io| io.kind() != std::io::ErrorKind::InvalidInput);
        match death {
            Some(cause) => (Self::Lost { cause }, Some(error)),
            None if error.is_closed() || stream_failed => {
                let cause = Chain(&error).to_string().into();
                (Self::Lost { cause }, Some(error))
            }
            None => (Self::NotUnderstood(Arc::new(error)), None),
        }
    }

    /// The same failure of a command that failed because something that it depends on has changed.
    pub(crate) fn stale(self) -> Self {
        match self {
            Self::Database(error) => Self::Stale(error),
            other => other,
        }
    }

    /// Returns why no connection could be acquired, if that is the error.
    pub fn acquire_error(&self) -> Option<&AcquireError> {
        match self {
            Self::Acquire(error) => Some(error),
            _ => None,
        }
    }

    /// Returns the SQLSTATE, if the server refused the command.
    pub fn code(&self) -> Option<&SqlState> {
        match self {
            Self::Database(error) | Self::Stale(error) => Some(error.code()),
            _ => None,
        }
    }

    /// Returns the name of the constraint that the command would have violated.
    pub fn constraint(&self) -> Option<&str> {
        match self {
            Self::Database(error) => error.constraint(),
            _ => None,
        }
    }

    /// Returns a text that anyone may see: without hosts, names, source lines, statements and values, and without the
    /// server's own words.
    pub fn public(&self) -> &'static str {
        match self {
            Self::Acquire(error) => match error.reason() {
                Reason::Timeout { .. } | Reason::Overloaded => "the database is busy",
                Reason::Unavailable | Reason::Permanent => "the database cannot be reached",
                Reason::Closed => "the service is shutting down",
                _ => "an internal error; nothing was changed",
            },
            Self::QueueFull { .. } | Self::Deadline { sent: false, .. } => "the database is busy",
            Self::Disconnected { .. } => "the connection to the database was lost; nothing was changed",
            Self::Deadline { sent: true, .. } | Self::Timeout(_) => {
                "the database did not answer in time; a change may have been made"
            }
            Self::Lost { .. } => "the connection to the database was lost; a change may have been made",
            Self::Database(error) | Self::Stale(error) => match error.code().code().get(..2) {
                Some("22") => "a value is not valid",
                Some("23") => "the change contradicts data that is there",
                Some("40" | "55") => "the change collided with another one; nothing was changed",
                _ => "the database refused; nothing was changed",
            },
            Self::RolledBack => "the transaction failed; nothing was changed",
            Self::WrongStatement(_)
            | Self::SeveralRows { .. }
            | Self::Decode(_)
            | Self::RowCount(_)
            | Self::ChannelName
            | Self::NotSent(_) => "an internal error",
            Self::Panicked(_) | Self::Miscounted { .. } | Self::NotUnderstood(_) => {
                "an internal error; a change may have been made"
            }
        }
    }

    /// Whether the command may have taken effect although it did not succeed. Repeat it only if it changes nothing;
    /// otherwise find out first.
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

    /// Whether a command that is safe to repeat may succeed a moment later.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Lost { .. } | Self::Disconnected { .. } | Self::Stale(_) => true,
            Self::Database(error) => is_transient(error.code()),
            // A caller that waited for a connection until the timeout has waited enough.
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
    /// Whether a value of the command cannot be stored or read: data exceptions, violated constraints, exceeded limits.
    pub(crate) fn is_about_data(&self) -> bool {
        let class = self.code().and_then(|code| code.code().get(..2));
        // P0 is the class of errors that a trigger of the user raises.
        matches!(class, Some("22" | "23" | "54" | "P0"))
    }

    /// Whether another session held a lock for longer than `lock_timeout`.
    pub(crate) fn is_lock_timeout(&self) -> bool {
        self.code() == Some(&SqlState::LOCK_NOT_AVAILABLE)
    }

    /// Whether the error passes and the command certainly had no effect.
    pub(crate) fn certainly_passes(&self) -> bool {
        self.is_retryable() && !self.is_outcome_unknown()
    }
}

/// Whether the server ends a session with this SQLSTATE only while it waits for a command: `idle_session_timeout` and
/// `idle_in_transaction_session_timeout`. An unanswered command was not begun then.
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

/// SQLSTATEs of failures that pass: conflicts between transactions, and a server that starts or stops.
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
