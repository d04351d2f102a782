//! What a PostgreSQL pool is told at the start. Invariant: nothing here reads the environment or
//! the network but [`Config::from_env`].

use std::time::Duration;

use crate::{
    Retry,
    connect::credentials::Password,
    connect::dns::Resolver,
    connect::role::TargetSession,
    connect::tls::Tls,
    connect::url::{ConnectionString, InvalidUrl},
};

/// Where the database is and how its pool behaves.
///
/// `Debug` leaves the password out.
#[derive(Clone, Debug)]
pub struct Config {
    /// Servers, database, user and the like.
    pub server: tokio_postgres::Config,
    /// How far a server is trusted when `server` has the connection encrypted.
    pub tls: Tls,
    /// Which of the servers will do. [`Any`](TargetSession::Any) leaves it to what `server` says.
    pub target_session: TargetSession,
    /// Where the password comes from for each connection anew, instead of from `server`.
    pub password: Option<Password>,
    /// How names of servers are resolved, for each connection anew.
    pub resolver: Resolver,
    /// How often names of servers are looked up between connects. Connections to an address that a name has no
    /// longer, two lookups in a row, are replaced when they are next given back or taken. `None`: never.
    pub lookup_interval: Option<Duration>,
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
    /// After a command that may have changed the session.
    ///
    /// Seen are the server's command tags (`SET`, `LISTEN`, `CREATE TEMP TABLE` …), settings whose change the server
    /// reports, and in the text of a statement: calls of `pg_advisory_lock` and its variants, calls of `set_config`, and
    /// temporary tables. What ends with its transaction, such as `SET LOCAL` or a cursor, causes no reset.
    ///
    /// Not seen is what neither the wire nor the text shows: changes made inside a function, a view, a server-side
    /// prepared statement, or a statement run through [`Connection::client`](crate::Connection::client). Code that makes
    /// such changes must undo them, or use [`Reset::Always`].
    #[default]
    WhenDirty,
    /// At every return: one more round trip for each use of a connection.
    Always,
}

/// Why a [`Config`] could not be made or used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidConfig {
    /// Not a PostgreSQL URL or key-value connection string.
    #[error("the database URL {0}")]
    Url(InvalidUrl),
    /// The environment names no database.
    #[error("DATABASE_URL is not set")]
    Missing,
    /// It asks for what cannot be had, or for what contradicts itself; to go on without it would not be what was
    /// asked for.
    #[error("the database configuration asks for {0}")]
    Unsupported(&'static str),
    /// A certificate or key cannot be used.
    #[error("TLS: {0}")]
    Tls(String),
    /// It names no host to connect to.
    #[error("the database URL names no host")]
    NoHost,
    /// The pool's part contradicts itself.
    #[error(transparent)]
    Pool(#[from] cenote_pool::InvalidConfig),
}

impl From<InvalidUrl> for InvalidConfig {
    fn from(error: InvalidUrl) -> Self {
        Self::Url(error)
    }
}

impl ConnectionString {
    /// The configuration it stands for, with defaults for what it does not say.
    ///
    /// # Errors
    ///
    /// The value of an option is not valid, or contradicts that of another. The error names the option and quotes no
    /// value.
    pub fn config(&self) -> Result<Config, InvalidUrl> {
        let parts = self.parts()?;
        let mut config = Config::new(parts.server);
        config.tls = parts.tls;
        config.target_session = parts.target_session;
        Ok(config)
    }
}

impl Config {
    /// The defaults for this server.
    pub fn new(server: tokio_postgres::Config) -> Self {
        Self {
            server,
            tls: Tls::default(),
            target_session: TargetSession::Any,
            password: None,
            resolver: Resolver::default(),
            lookup_interval: Some(Duration::from_secs(30)),
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

    /// The defaults for the servers of a `postgresql://` URL or a `host=… user=…` list, with libpq's options: several
    /// hosts, `target_session_attrs`, `load_balance_hosts`, `sslmode` up to `verify-full`, `sslrootcert` (a file or
    /// `system`), `sslcert`, `sslkey`, `sslnegotiation`, `channel_binding` and so on.
    ///
    /// # Errors
    ///
    /// The text is neither, or has an option that is unknown, not supported or not valid. The error names the option and
    /// quotes no value.
    pub fn from_url(text: &str) -> Result<Self, InvalidUrl> {
        text.parse::<ConnectionString>()?.config()
    }

    /// The defaults for the server that the environment variable `DATABASE_URL` names. Blanks and line ends around its
    /// value are dropped.
    ///
    /// # Errors
    ///
    /// It is not set, or not a URL.
    pub fn from_env() -> Result<Self, InvalidConfig> {
        let url = std::env::var("DATABASE_URL").map_err(|_| InvalidConfig::Missing)?;
        Ok(Self::from_url(url.trim())?)
    }

    /// Which of the servers will do, whoever says so.
    pub(crate) fn target_session(&self) -> TargetSession {
        match self.target_session {
            TargetSession::Any => self.server.get_target_session_attrs().into(),
            target => target,
        }
    }
}
