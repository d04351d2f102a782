//! Why a configuration, or the connection string that it is made of, is refused. Invariant: no value of a connection
//! string is quoted.

use std::borrow::Cow;

/// Why a text is not a connection string. Its text continues a sentence that starts with "the database URL", and quotes
/// no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidUrl(Cow<'static, str>);

impl From<&'static str> for InvalidUrl {
    fn from(problem: &'static str) -> Self {
        Self(Cow::Borrowed(problem))
    }
}

impl From<String> for InvalidUrl {
    fn from(problem: String) -> Self {
        Self(Cow::Owned(problem))
    }
}

/// Why a [`Config`](crate::Config) could not be created or used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// Not a PostgreSQL URL or key-value connection string.
    #[error("the database URL {0}")]
    Url(InvalidUrl),
    /// `DATABASE_URL` is not set.
    #[error("DATABASE_URL is not set")]
    Missing,
    /// It asks for something unsupported or contradictory. Ignoring that could weaken what was asked for.
    #[error("the database configuration asks for {0}")]
    Unsupported(&'static str),
    /// A certificate or key cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
    /// It names no host.
    #[error("the database URL names no host")]
    NoHost,
    /// [`Config::pool`](crate::Config::pool) contradicts itself.
    #[error(transparent)]
    Pool(#[from] cenote_pool::InvalidConfig),
}

impl From<InvalidUrl> for InvalidConfig {
    fn from(error: InvalidUrl) -> Self {
        Self::Url(error)
    }
}
