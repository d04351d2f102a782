//! What a PostgreSQL pool is told at the start. Invariant: nothing here reads the environment or
//! the network but [`Config::from_env`].

use std::{str::FromStr, time::Duration};

use crate::Retry;

/// Where the database is and how its pool behaves.
///
/// `Debug` leaves the password out.
#[derive(Clone, Debug)]
pub struct Config {
    /// Server, database, user and the like.
    pub server: tokio_postgres::Config,
    /// Sizes, deadlines and lifetimes of the pool.
    pub pool: cenote_pool::Config,
    /// Longest time for one command, after which it is cancelled on the server too. `None`: no
    /// limit.
    pub command_timeout: Option<Duration>,
    /// Prepared statements kept per connection.
    pub statement_cache: usize,
    /// When a returned connection's session is reset.
    pub reset: Reset,
    /// How [`Pool::retry`](crate::Pool::retry) and its sibling repeat.
    pub retry: Retry,
    /// Logs every statement, without its parameters, at level `info`.
    pub echo: bool,
    /// Logs statements that take longer, without their parameters, at level `warn`.
    pub slow_query: Option<Duration>,
    /// A health check slower than this means "degraded".
    pub degraded_latency: Duration,
}

/// When a returned connection's session is reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reset {
    /// When a command was seen that may have changed the session, such as `SET` or `LISTEN`.
    ///
    /// Some changes leave no trace on the wire: `set_config` of settings the server does not
    /// report, advisory locks, temporary tables made inside a function. Code that does such things
    /// must undo them, or use [`Reset::Always`].
    #[default]
    WhenDirty,
    /// At every return: one more round trip for each use of a connection.
    Always,
}

/// Why a [`Config`] could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// Not a PostgreSQL URL or key-value connection string.
    #[error("invalid database URL: {}", .0.to_string().trim_start_matches("invalid connection string: "))]
    Url(#[from] tokio_postgres::Error),
    /// The environment names no database.
    #[error("DATABASE_URL is not set")]
    Missing,
    /// It asks for something that is not there yet; to go on without it would not be what was asked for.
    #[error("{0} is not supported yet")]
    Unsupported(&'static str),
    /// It names no host to connect to.
    #[error("the database URL names no host")]
    NoHost,
    /// The pool's part contradicts itself.
    #[error(transparent)]
    Pool(#[from] cenote_pool::InvalidConfig),
}

impl Config {
    /// The defaults for this server.
    pub fn new(server: tokio_postgres::Config) -> Self {
        Self {
            server,
            pool: cenote_pool::Config::default(),
            command_timeout: Some(Duration::from_secs(5)),
            statement_cache: 256,
            reset: Reset::default(),
            retry: Retry::default(),
            echo: false,
            slow_query: Some(Duration::from_secs(1)),
            degraded_latency: Duration::from_millis(250),
        }
    }

    /// The defaults for the server of a `postgresql://` URL or a `host=… user=…` string.
    ///
    /// # Errors
    ///
    /// The text is neither.
    pub fn from_url(url: &str) -> Result<Self, InvalidConfig> {
        Ok(Self::new(tokio_postgres::Config::from_str(url)?))
    }

    /// The defaults for the server that the environment variable `DATABASE_URL` names.
    ///
    /// # Errors
    ///
    /// It is not set, or not a URL.
    pub fn from_env() -> Result<Self, InvalidConfig> {
        let url = std::env::var("DATABASE_URL").map_err(|_| InvalidConfig::Missing)?;
        Self::from_url(&url)
    }
}
