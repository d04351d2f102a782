//! What can go wrong, named for what the caller does next. Invariant: a command whose effect is not
//! known is never reported as failed without effect.
//!
//! The text of an error says all of it, its cause included, and so it has no `source`: whoever prints a chain of causes
//! would print it twice. What is worth a look is in the variant's fields.

use std::{sync::Arc, time::Duration};

use tokio_postgres::error::{DbError, SqlState};

use cenote_pool::Chain;

use crate::{AcquireError, ConnectError};

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

/// Why a connection could not be opened, checked or cleaned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The host name did not resolve, or nothing listens there.
    #[error("cannot reach {host}: {cause}")]
    Unreachable {
        /// The host and port tried last.
        host: String,
        /// What the operating system said.
        cause: std::io::Error,
    },
    /// The server refused the connection: wrong password, no such database, too many connections.
    #[error("the server refused the connection: {}", .0.message())]
    Refused(Box<DbError>),
    /// The server asks for a password, and none is configured.
    #[error("{host} asks for a password, and none is set")]
    PasswordMissing {
        /// The host.
        host: String,
    },
    /// The server and this program know no common way to log in, or the server could not prove that it knows the
    /// password.
    #[error("cannot log in to {host}: {cause}")]
    Authentication {
        /// The host.
        host: String,
        /// Why.
        cause: String,
    },
    /// Something else than PostgreSQL listens there.
    #[error("what answers at {host} is not PostgreSQL")]
    NotPostgres {
        /// The host.
        host: String,
    },
    /// The start-up failed otherwise.
    #[error("the connection failed: {0}")]
    Failed(String),
    /// It could not be encrypted as asked: the server does not offer TLS, or its certificate is not trusted.
    #[error("cannot encrypt the connection to {host}: {cause}")]
    Tls {
        /// The host.
        host: String,
        /// Why.
        cause: String,
    },
    /// The server is not, or no longer, what was asked for.
    #[error("{host} is not fit for target_session_attrs={wanted}")]
    Unsuitable {
        /// The host.
        host: String,
        /// libpq's word for what was asked for.
        wanted: &'static str,
    },
    /// The password could not be had.
    #[error("cannot read the password: {0}")]
    Password(std::io::Error),
    /// None of several hosts could be used: each by its name, and why.
    #[error("{}", each(.0))]
    EachHost(Vec<(String, ConnectionError)>),
    /// It came back in a state from which it could not be cleaned.
    #[error("the connection could not be cleaned")]
    Unclean,
}

impl ConnectionError {
    fn summary(&self) -> &'static str {
        match self {
            Self::Unreachable { cause, .. } => match cause.kind() {
                std::io::ErrorKind::ConnectionRefused => "connection refused",
                std::io::ErrorKind::TimedOut => "the server does not answer",
                _ => "the server cannot be reached",
            },
            Self::Refused(error) => match error.code().code() {
                "53300" => "the server has too many connections",
                "57P03" => "the server is starting up or shutting down",
                "3D000" => "the database does not exist",
                code if code.starts_with("28") => "the server refused the credentials",
                _ => "the server refused the connection",
            },
            Self::PasswordMissing { .. } => "the server asks for a password",
            Self::Authentication { .. } => "logging in to the server failed",
            Self::NotPostgres { .. } => "the server is not PostgreSQL",
            Self::Failed(_) => "the connection failed",
            Self::EachHost(failures) => {
                let first = failures.first();
                first.map_or("no server can be used", |(_, error)| error.summary())
            }
            Self::Tls { .. } => "the connection could not be encrypted",
            Self::Unsuitable { .. } => "no server has the role that is asked for",
            Self::Password(_) => "the password could not be read",
            Self::Unclean => "the connection could not be cleaned",
        }
    }

    /// True if trying again cannot help until someone changes a setting or the server's rules. Of several hosts, if
    /// that holds for each.
    ///
    /// What may still come is not permanent: a server that refuses connections or is starting, one that has too many,
    /// a name that does not resolve yet, a password file that is not there yet.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Refused(error) => refused_for_good(error),
            Self::Tls { .. }
            | Self::PasswordMissing { .. }
            | Self::Authentication { .. }
            | Self::NotPostgres { .. } => true,
            Self::Unreachable { host, cause } => unreachable_for_good(host, cause),
            Self::EachHost(failures) => failures.iter().all(|(_, error)| error.is_permanent()),
            Self::Failed(_) | Self::Unsuitable { .. } | Self::Password(_) | Self::Unclean => false,
        }
    }

    /// True if another address of the same server may be more successful.
    pub(crate) fn depends_on_address(&self) -> bool {
        match self {
            Self::Refused(error) => error.code().code() == "28000",
            Self::PasswordMissing { .. } | Self::Authentication { .. } => false,
            _ => true,
        }
    }

    /// Of several attempts that failed, the one to tell of.
    pub(crate) fn or_rather(self, other: Self) -> Self {
        // Where one address answers, what the server says there counts for more than the silence of another.
        match self.is_permanent() && !other.is_permanent() {
            true => self,
            false => other,
        }
    }
}

/// Whether a refused login will be refused again until someone changes something.
fn refused_for_good(error: &DbError) -> bool {
    let code = error.code().code();
    match code {
        // An unknown or closed database, a setting that may not be changed.
        "3D000" | "55000" | "55P02" => true,
        // From PostgreSQL this is about the start-up message. Poolers have it for everything, also for a server that
        // is down; theirs do not name the place in PostgreSQL's source.
        "08P01" if error.routine().is_none() => pooler_refused_for_good(error.message()),
        "08P01" => true,
        // Unsupported features, invalid values, credentials and `pg_hba.conf`, permissions and unknown settings.
        _ => matches!(code.get(..2), Some("0A" | "22" | "28" | "42")),
    }
}

/// Whether PgBouncer, which has one code for all, means something that does not pass.
fn pooler_refused_for_good(message: &str) -> bool {
    const FOR_GOOD: [&str; 7] = [
        "unsupported startup parameter",
        "no such database",
        "no such user",
        "password authentication failed",
        "SASL authentication failed",
        "SSL required",
        "login rejected",
    ];
    FOR_GOOD.iter().any(|words| message.starts_with(words))
}

/// `EAFNOSUPPORT`, for which the standard library has no name.
const NO_SUCH_FAMILY: i32 = if cfg!(target_os = "linux") { 97 } else { 47 };

/// Whether the operating system would say the same again: an address of a kind it cannot reach at all, or a socket's
/// path that is too long or forbidden. What is about the network passes.
fn unreachable_for_good(host: &str, cause: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    match cause.kind() {
        InvalidInput | Unsupported => true,
        // Of an address it may be a firewall that says so.
        PermissionDenied => host.starts_with('/'),
        _ => cause.raw_os_error() == Some(NO_SUCH_FAMILY),
    }
}

/// Each host with its error, unless the error names the host itself.
fn each(failures: &[(String, ConnectionError)]) -> String {
    let shown = failures.iter().map(|(host, error)| match error {
        ConnectionError::Refused(_) | ConnectionError::Failed(_) | ConnectionError::Password(_) => {
            format!("{host}: {error}")
        }
        _ => error.to_string(),
    });
    shown.collect::<Vec<_>>().join("; ")
}

/// Why a connect failed, in words fit for strangers: no addresses, no names, no server's text.
pub fn summarize(error: &ConnectError<ConnectionError>) -> &'static str {
    match error {
        ConnectError::Failed(error) => error.summary(),
        ConnectError::TimedOut(_) => "the server does not answer",
        ConnectError::Aborted => "the connect was aborted",
    }
}

impl ConnectionError {
    /// Why logging in to a host failed.
    pub(crate) fn of_login(error: tokio_postgres::Error, host: &str) -> Self {
        let host = host.to_owned();
        if error.as_db_error().is_some() {
            return error.into();
        }
        let cause = std::error::Error::source(&error);
        // The driver tells the kinds of its errors apart in words only; tests with servers watch over these.
        match (error.to_string().as_str(), cause) {
            ("invalid configuration", _) => Self::PasswordMissing { host },
            ("authentication error", Some(cause)) => Self::Authentication {
                host,
                cause: cause.to_string(),
            },
            ("unexpected message from server" | "error parsing response from server", _) => Self::NotPostgres { host },
            _ => error.into(),
        }
    }
}

impl From<tokio_postgres::Error> for ConnectionError {
    fn from(error: tokio_postgres::Error) -> Self {
        match error.as_db_error() {
            Some(refused) => Self::Refused(Box::new(refused.clone())),
            None => Self::Failed(Chain(&error).to_string()),
        }
    }
}

#[cfg(test)]
#[path = "error_tests.rs"]
mod tests;
