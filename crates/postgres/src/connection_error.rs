//! The errors of connections. Invariant: a failure is called permanent only if another attempt cannot succeed until
//! somebody changes something.
//!
//! As in `error`, the text of an error includes its cause, so it has no `source`.

use tokio_postgres::error::DbError;

use cenote_pool::{Chain, ConnectError};

/// Why no connection could be acquired.
pub type AcquireError = cenote_pool::AcquireError<ConnectionError>;

/// Why a connection could not be opened, checked or cleaned.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectionError {
    /// The host name did not resolve, nothing listens there, or it does not answer.
    #[error("cannot reach {host}: {cause}")]
    Unreachable {
        /// The host and port.
        host: String,
        /// The error of the operating system.
        cause: std::io::Error,
    },
    /// The server refused the login: wrong password, no such database, too many connections.
    #[error("the server refused the connection: {}", .0.message())]
    Refused(Box<DbError>),
    /// The server asks for a password, and none is configured.
    #[error("{host} asks for a password, and none is set")]
    PasswordMissing {
        /// The host.
        host: String,
    },
    /// Server and client have no common login method, or the server could not prove that it knows the password.
    #[error("cannot log in to {host}: {cause}")]
    Authentication {
        /// The host.
        host: String,
        /// Why.
        cause: String,
    },
    /// Another program than PostgreSQL listens there.
    #[error("the server at {host} is not PostgreSQL")]
    NotPostgres {
        /// The host.
        host: String,
    },
    /// The login failed for another reason.
    #[error("the connection failed: {0}")]
    Failed(String),
    /// The connection could not be encrypted as configured: the server does not offer TLS, or its certificate is not
    /// accepted.
    #[error("cannot encrypt the connection to {host}: {cause}")]
    Tls {
        /// The host.
        host: String,
        /// Why.
        cause: String,
    },
    /// The role of the server is not, or no longer, suitable.
    #[error("the role of {host} does not match target_session_attrs={wanted}")]
    Unsuitable {
        /// The host.
        host: String,
        /// The configured `target_session_attrs`.
        wanted: &'static str,
    },
    /// The password could not be read.
    #[error("cannot read the password: {0}")]
    Password(std::io::Error),
    /// No host could be used: the name of each, and why.
    #[error("{}", each(.0))]
    EachHost(Vec<(String, ConnectionError)>),
    /// [`Hooks::after_connect`](crate::Hooks::after_connect) failed.
    #[error("the session could not be set up: {0}")]
    AfterConnect(String),
    /// Another of the [`Hooks`](crate::Hooks) failed.
    #[error("{0}")]
    Hook(String),
    /// It was returned in a state from which it could not be cleaned.
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
                "53300" => TOO_MANY_CONNECTIONS,
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
            Self::AfterConnect(_) => "the session could not be set up",
            Self::Hook(_) => "a hook of the application failed",
            Self::Unclean => "the connection could not be cleaned",
        }
    }

    /// Whether another attempt cannot succeed until somebody changes a setting or a rule of the server. For several
    /// hosts, if that is so for each.
    ///
    /// Failures that can pass are not permanent: a server that refuses connections, starts or has too many of them, a
    /// name that does not resolve yet, a password file that does not exist yet.
    pub fn is_permanent(&self) -> bool {
        match self {
            Self::Refused(error) => refused_for_good(error),
            Self::Tls { .. }
            | Self::PasswordMissing { .. }
            | Self::Authentication { .. }
            | Self::NotPostgres { .. } => true,
            Self::Unreachable { host, cause } => unreachable_for_good(host, cause),
            Self::EachHost(failures) => failures.iter().all(|(_, error)| error.is_permanent()),
            Self::Failed(_)
            | Self::Unsuitable { .. }
            | Self::Password(_)
            | Self::AfterConnect(_)
            | Self::Hook(_)
            | Self::Unclean => false,
        }
    }

    /// Whether another address of the same server may succeed.
    pub(crate) fn depends_on_address(&self) -> bool {
        match self {
            Self::Refused(error) => error.code().code() == "28000",
            Self::PasswordMissing { .. } | Self::Authentication { .. } => false,
            _ => true,
        }
    }

    /// Returns the more informative of two errors.
    pub(crate) fn more_useful(self, other: Self) -> Self {
        // If one address answers, the server's reason counts for more than the silence of another.
        match self.is_permanent() && !other.is_permanent() {
            true => self,
            false => other,
        }
    }
}

/// Whether a refused login will be refused again until somebody changes something.
fn refused_for_good(error: &DbError) -> bool {
    let code = error.code().code();
    match code {
        // An unknown or closed database, or a setting that cannot be changed.
        "3D000" | "55000" | "55P02" => true,
        // PostgreSQL uses this code for a bad startup packet. Poolers use it for everything, including a server that is
        // down; theirs do not name a routine of PostgreSQL's source.
        "08P01" if error.routine().is_none() => pooler_refused_for_good(error.message()),
        "08P01" => true,
        // Unsupported features, invalid values, credentials and `pg_hba.conf`, permissions, unknown settings.
        _ => matches!(code.get(..2), Some("0A" | "22" | "28" | "42")),
    }
}

/// Whether a message of PgBouncer, which has one code for all errors, means a permanent refusal.
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

/// `EAFNOSUPPORT`; the standard library has no name for it.
const NO_SUCH_FAMILY: i32 = if cfg!(target_os = "linux") { 97 } else { 47 };

/// Whether the operating system will return the same error again: an address family that it does not support, or a
/// socket path that is too long or forbidden. Network errors pass.
fn unreachable_for_good(host: &str, cause: &std::io::Error) -> bool {
    use std::io::ErrorKind::{InvalidInput, PermissionDenied, Unsupported};
    match cause.kind() {
        InvalidInput | Unsupported => true,
        // For an IP address a firewall may have caused it.
        PermissionDenied => host.starts_with('/'),
        _ => cause.raw_os_error() == Some(NO_SUCH_FAMILY),
    }
}

/// Lists the hosts with their errors. An error that contains the host is not prefixed with it.
fn each(failures: &[(String, ConnectionError)]) -> String {
    let shown = failures.iter().map(|(host, error)| match error {
        ConnectionError::Refused(_) | ConnectionError::Failed(_) | ConnectionError::Password(_) => {
            format!("{host}: {error}")
        }
        _ => error.to_string(),
    });
    shown.collect::<Vec<_>>().join("; ")
}

/// What [`summarize`] returns if the server has as many connections as it allows.
pub const TOO_MANY_CONNECTIONS: &str = "the server has too many connections";

/// Returns why a connect failed as a short text that can be shown to anyone: without addresses, names or text of the
/// server.
pub fn summarize(error: &ConnectError<ConnectionError>) -> &'static str {
    match error {
        ConnectError::Failed(error) => error.summary(),
        ConnectError::TimedOut(_) => "the server does not answer",
        _ => "the connect was aborted",
    }
}

impl ConnectionError {
    pub(crate) fn unreachable(host: &str, cause: std::io::Error) -> Self {
        let host = host.to_owned();
        Self::Unreachable { host, cause }
    }

    /// The host did not answer in time.
    pub(crate) fn timed_out(host: &str) -> Self {
        Self::unreachable(host, std::io::ErrorKind::TimedOut.into())
    }

    pub(crate) fn not_postgres(host: &str) -> Self {
        let host = host.to_owned();
        Self::NotPostgres { host }
    }

    pub(crate) fn not_encrypted(host: &str, cause: &str) -> Self {
        Self::Tls {
            host: host.to_owned(),
            cause: cause.to_owned(),
        }
    }

    /// The error of a failed login.
    pub(crate) fn of_login(error: tokio_postgres::Error, host: &str) -> Self {
        let host = host.to_owned();
        if error.as_db_error().is_some() {
            return error.into();
        }
        let cause = std::error::Error::source(&error);
        // The driver distinguishes its errors only by text. Tests with servers check these.
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
