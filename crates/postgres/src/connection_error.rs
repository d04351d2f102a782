//! Why a connection could not be opened, checked or cleaned. Invariant: a failure is called permanent only if trying
//! again cannot help until somebody changes something.
//!
//! As in `error`, the text of an error says all of it, so it has no `source`.

use tokio_postgres::error::DbError;

use cenote_pool::{Chain, ConnectError};

/// Why no connection could be acquired.
pub type AcquireError = cenote_pool::AcquireError<ConnectionError>;

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
    pub(crate) fn unreachable(host: &str, cause: std::io::Error) -> Self {
        let host = host.to_owned();
        Self::Unreachable { host, cause }
    }

    /// The host did not answer in time.
    pub(crate) fn silent(host: &str) -> Self {
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
