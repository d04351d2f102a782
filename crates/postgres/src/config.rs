//! The configuration of a pool. Invariant: nothing here reads the environment or the network, except
//! [`Config::from_env`].

use std::time::Duration;

use crate::{
    InvalidConfig, InvalidUrl, Retry,
    connect::{credentials::Password, dns::Resolver, tls::Tls, url::ConnectionString},
    server_role::TargetSession,
    slow_statement::SlowStatementHook,
};

/// The servers, and the behaviour of the pool and its connections.
///
/// `Debug` does not print the password.
#[derive(Clone, Debug)]
pub struct Config {
    /// Hosts, database, user, and options of the session.
    pub server: tokio_postgres::Config,
    /// What is checked of a server when `server` asks for encryption.
    pub tls: Tls,
    /// Which servers are suitable. With [`Any`](TargetSession::Any), `target_session_attrs` of `server` decides.
    pub target_session: TargetSession,
    /// The source of the password, read for each new connection. `None`: the password of `server`.
    pub password: Option<Password>,
    /// Resolves the names of hosts, for each new connection.
    pub resolver: Resolver,
    /// How often the names of hosts are resolved besides that, to notice that one has moved. A connection is replaced,
    /// when it is next returned or acquired, if two look-ups in a row lack its address. `None`: never.
    pub lookup_interval: Option<Duration>,
    /// Sizes, timeouts and lifetimes of the generic pool.
    pub pool: cenote_pool::Config,
    /// The longest time for one command. A command that takes longer is cancelled on the server. `None`: no limit.
    pub command_timeout: Option<Duration>,
    /// The number of prepared statements that each connection keeps.
    pub statement_cache: usize,
    /// When a returned connection's session is reset.
    pub reset: Reset,
    /// The attempts of [`Pool::retry`](crate::Pool::retry), [`Pool::retry_idempotent`](crate::Pool::retry_idempotent),
    /// [`Pool::transaction`](crate::Pool::transaction), and of statements that batches repeat.
    pub retry: Retry,
    /// Logs every statement at level `info`, without its parameters.
    pub echo: bool,
    /// Logs statements that take longer at level `warn`, without their parameters. `None`: never.
    pub slow_query: Option<Duration>,
    /// Is told of these statements too.
    pub on_slow_statement: Option<SlowStatementHook>,
    /// The names of statements that are counted apart: see [`SlowStatement::name`](crate::SlowStatement::name). Few, because
    /// each is a series of metrics.
    pub statement_names: &'static [&'static str],
    /// A health check that takes longer reports [`HealthState::Degraded`](crate::HealthState::Degraded).
    pub degraded_latency: Duration,
}

/// When a returned connection's session is reset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(rename_all = "kebab-case"))]
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
    /// At every return. This costs a round trip each time a connection was used.
    Always,
}

impl ConnectionString {
    /// Returns the configuration, with defaults for everything that the text does not set.
    ///
    /// # Errors
    ///
    /// An option has an invalid value, or contradicts another. The error names the option and quotes no value.
    pub fn config(&self) -> Result<Config, InvalidUrl> {
        let parts = self.parts()?;
        let mut config = Config::new(parts.server);
        config.tls = parts.tls;
        config.target_session = parts.target_session;
        Ok(config)
    }
}

/// Names no host: a pool needs one.
impl Default for Config {
    fn default() -> Self {
        Self::new(tokio_postgres::Config::new())
    }
}

impl Config {
    /// Creates a configuration with defaults for this server.
    pub fn new(server: tokio_postgres::Config) -> Self {
        Self {
            server,
            tls: Tls::default(),
            target_session: TargetSession::Any,
            password: None,
            resolver: Resolver::default(),
            lookup_interval: Some(Duration::from_secs(30)),
            pool: cenote_pool::Config {
                // Nothing beside a statement.
                time_uses: true,
                ..cenote_pool::Config::default()
            },
            command_timeout: Some(Duration::from_secs(5)),
            statement_cache: 256,
            reset: Reset::default(),
            retry: Retry::default(),
            echo: false,
            slow_query: Some(Duration::from_secs(1)),
            on_slow_statement: None,
            statement_names: &[],
            degraded_latency: Duration::from_millis(250),
        }
    }

    /// Creates a configuration with defaults from a `postgresql://` URL or a `host=… user=…` list.
    ///
    /// libpq's options are understood: several hosts, `target_session_attrs`, `load_balance_hosts`, `sslmode` up to
    /// `verify-full`, `sslrootcert` (a file or `system`), `sslcert`, `sslkey`, `sslnegotiation`, `channel_binding` and
    /// so on.
    ///
    /// # Errors
    ///
    /// The text has neither form, or has an unknown, unsupported or invalid option. The error names the option and
    /// quotes no value.
    pub fn from_url(text: &str) -> Result<Self, InvalidUrl> {
        text.parse::<ConnectionString>()?.config()
    }

    /// Creates a configuration with defaults from the environment variable `DATABASE_URL`. White space around the value
    /// is ignored.
    ///
    /// # Errors
    ///
    /// It is not set, or not a connection string.
    pub fn from_env() -> Result<Self, InvalidConfig> {
        let url = std::env::var("DATABASE_URL").map_err(|_| InvalidConfig::Missing)?;
        Ok(Self::from_url(url.trim())?)
    }

    /// Returns which servers are suitable: `target_session`, or else what `server` says.
    pub(crate) fn target_session(&self) -> TargetSession {
        match self.target_session {
            TargetSession::Any => self.server.get_target_session_attrs().into(),
            target => target,
        }
    }
}
