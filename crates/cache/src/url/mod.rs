//! Where a Redis server is and how to log in there. Invariant: `Display` and `Debug` never show the password.

mod parser;

use std::{borrow::Cow, fmt, path::PathBuf};

use cenote_secret::{REDACTED, Secret};

/// Where one server is and how to log in there.
///
/// ```text
/// redis://[[user]:password@]host[:port][/database][?option=value&…]
/// unix://[[user]:password@]/path/of/the/socket[?option=value&…]
/// ```
///
/// | Scheme | Meaning |
/// |---|---|
/// | `redis`, `valkey` | without TLS |
/// | `rediss`, `valkeys` | with TLS; the server's certificate is checked |
/// | `redis+cluster`, `rediss+cluster` | the same; the server must belong to a cluster |
/// | `unix`, `redis+unix`, `valkey+unix` | over a Unix socket |
///
/// The options are `db`, `user` or `username`, `pass` or `password`, and `protocol` (`2` or `3`). A part that appears twice must
/// have the same value. In every part, `%` and two hexadecimal digits stand for a byte. A user and a password may contain any
/// character in that form, and all but `/ ? # %` and blanks as they are.
///
/// `Display` and `Debug` leave the password out.
#[derive(Clone, PartialEq, Eq)]
pub struct RedisUrl {
    pub(crate) endpoint: Endpoint,
    pub(crate) user: Option<String>,
    pub(crate) password: Option<Secret<String>>,
    pub(crate) database: u32,
    /// The version of the protocol that the URL asks for.
    pub(crate) protocol: Option<Protocol>,
    pub(crate) must_be_cluster: bool,
}

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Tcp { host: String, port: u16, tls: bool },
    Unix(PathBuf),
}

/// A version of Redis's protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Resp2,
    Resp3,
}

/// Why a text is not a URL of a Redis. `Display` continues a sentence that begins with "the URL", and quotes nothing of the text
/// but the name of an option.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidRedisUrl(Cow<'static, str>);

impl From<&'static str> for InvalidRedisUrl {
    fn from(complaint: &'static str) -> Self {
        Self(Cow::Borrowed(complaint))
    }
}

impl From<String> for InvalidRedisUrl {
    fn from(complaint: String) -> Self {
        Self(Cow::Owned(complaint))
    }
}

pub(crate) type Result<T> = std::result::Result<T, InvalidRedisUrl>;

impl RedisUrl {
    /// Refuses servers that cannot belong to one cluster: all must agree on TLS, login and protocol, and the database must be 0.
    ///
    /// # Errors
    /// [`InvalidRedisUrl`] that names the difference.
    pub fn check_all(servers: &[Self]) -> Result<()> {
        let Some((first, others)) = servers.split_first() else {
            return Err("names no server".into());
        };
        let differ = |part: &dyn Fn(&Self, &Self) -> bool| others.iter().any(|it| part(it, first));
        if differ(&|one, other| one.is_tls() != other.is_tls()) {
            return Err("names servers with TLS and servers without".into());
        }
        if differ(&|one, other| one.user != other.user || one.password != other.password) {
            return Err("names servers with different users or passwords; those of a cluster have the same".into());
        }
        if differ(&|one, other| one.database != other.database) {
            return Err("names servers with different databases".into());
        }
        if differ(&|one, other| one.protocol != other.protocol) {
            return Err("names servers with different protocols".into());
        }
        if first.database != 0 && (!others.is_empty() || servers.iter().any(|server| server.must_be_cluster)) {
            return Err("names a database of a cluster, which has none but number 0".into());
        }
        Ok(())
    }

    /// Returns the password, if there is one.
    #[must_use]
    pub fn password(&self) -> Option<&Secret<String>> {
        self.password.as_ref()
    }

    /// Whether both lead to the same server as the same user, perhaps with different passwords.
    #[must_use]
    pub fn is_same_but_password(&self, other: &Self) -> bool {
        let (one, other) = (
            self.with_password(Secret::default()),
            other.with_password(Secret::default()),
        );
        one == other
    }

    /// The same server with another password.
    pub(crate) fn with_password(&self, password: Secret<String>) -> Self {
        Self {
            password: Some(password),
            ..self.clone()
        }
    }

    /// Whether connections are encrypted.
    #[must_use]
    pub fn is_tls(&self) -> bool {
        matches!(self.endpoint, Endpoint::Tcp { tls: true, .. })
    }

    /// The server at another address, with the same login and the same kind of connection.
    pub(crate) fn at(&self, host: &str, port: u16) -> Self {
        let (host, tls) = (host.to_owned(), self.is_tls());
        Self {
            endpoint: Endpoint::Tcp { host, port, tls },
            ..self.clone()
        }
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match (&self.endpoint, self.must_be_cluster) {
            (Endpoint::Unix(_), _) => "unix",
            (Endpoint::Tcp { tls: false, .. }, false) => "redis",
            (Endpoint::Tcp { tls: true, .. }, false) => "rediss",
            (Endpoint::Tcp { tls: false, .. }, true) => "redis+cluster",
            (Endpoint::Tcp { tls: true, .. }, true) => "rediss+cluster",
        };
        write!(f, "{scheme}://")?;
        match (&self.user, &self.password) {
            (None, None) => {}
            // A user without a password may be a password in the wrong place.
            (Some(_), Some(password)) if password.expose().is_empty() => write!(f, "{REDACTED}@")?,
            (user, _) => {
                let user = user.as_deref().unwrap_or_default();
                write!(f, "{}:{REDACTED}@", user.escape_debug())?;
            }
        }
        write!(f, "{}", self.endpoint)?;
        match (&self.endpoint, self.database) {
            (_, 0) => {}
            (Endpoint::Unix(_), database) => write!(f, "?db={database}")?,
            (_, database) => write!(f, "/{database}")?,
        }
        Ok(())
    }
}

/// The address alone.
impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RedisUrl({self})")
    }
}
