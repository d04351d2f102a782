//! From settings to a pool, over the database they name or a private one. Invariant: a private server ends with
//! the command that started it, however that ends.

use std::{sync::Arc, time::Duration};

use cenote_local::PostgresServer;
use cenote_postgres::{Config, InvalidConfig, InvalidUrl, Pool, Retry};
use tokio::{
    runtime::Handle,
    task::JoinSet,
    time::{sleep, timeout},
};

use super::{
    cache::{has_feed, statement_limit},
    reach,
};
use crate::{
    settings::{PoolSettings, Settings},
    store::change_feed::OWN_SESSION,
};

/// Longest wait for the connections to be closed at the end.
const CLOSING: Duration = Duration::from_secs(5);

/// Pause between looks at the private server. It doubles with each vain try to start it again.
const LOOK: Duration = Duration::from_millis(500);
/// The longest of these pauses.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A pool, and the private server under it if there is one.
pub(super) struct Database {
    pub(super) pool: Pool,
    pub(super) private: Option<Private>,
}

/// A private server, and the task that starts it again when it has ended by itself: it has no operator who would.
pub(super) struct Private {
    server: Arc<PostgresServer>,
    /// Ends when this is dropped, so that the server does too.
    keeper: JoinSet<()>,
}

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
pub(super) enum DatabaseError {
    #[error("no database is set (DATABASE_URL or DB_HOST), and no private one can be started: {0}")]
    Private(cenote_local::Error),
    #[error(transparent)]
    Invalid(#[from] InvalidConfig),
    #[error("the private server's address {0}")]
    Address(InvalidUrl),
}

impl From<cenote_local::Error> for DatabaseError {
    fn from(error: cenote_local::Error) -> Self {
        Self::Private(error)
    }
}

impl From<InvalidUrl> for DatabaseError {
    fn from(error: InvalidUrl) -> Self {
        Self::Address(error)
    }
}

impl Database {
    /// Builds the pool, with connections that live on these runtimes, and starts a private PostgreSQL first if the
    /// settings name none.
    pub(super) async fn open(settings: &Settings, homes: &[Handle]) -> Result<Self, DatabaseError> {
        let (config, private) = match &settings.database {
            Some(config) => (config.clone(), None),
            None => {
                let private = Private::start(settings).await?;
                (Config::from_url(&private.server.url())?, Some(private))
            }
        };
        reach::announce(&config);
        let pool = Pool::on_runtimes(with_settings(config, settings), homes.to_vec())?;
        Ok(Self { pool, private })
    }

    /// Closes the connections, then stops a private server.
    pub(super) async fn close(self) {
        if timeout(CLOSING, self.pool.close()).await.is_err() {
            tracing::warn!("some connections did not close in time");
        }
        if let Some(private) = self.private {
            private.stop().await;
        }
    }
}

impl Private {
    async fn start(settings: &Settings) -> Result<Self, DatabaseError> {
        let directory = match &settings.data_dir {
            Some(directory) => directory.clone(),
            None => cenote_local::default_data_dir()?.join("postgres"),
        };
        let server = PostgresServer::persistent(directory).start().await?;
        // In the message: a field would be shown in quotes and with escapes, which no shell takes.
        tracing::info!(
            data = %server.data_dir().display(),
            "no database is set; started a private PostgreSQL. Look into it with: {}",
            server.psql_line()
        );
        let server = Arc::new(server);
        let mut keeper = JoinSet::new();
        keeper.spawn(keep(server.clone()));
        Ok(Self { server, keeper })
    }

    async fn stop(mut self) {
        // First, so that nothing starts the server again.
        self.keeper.shutdown().await;
        if let Err(error) = self.server.stop().await {
            tracing::warn!(%error, "the private PostgreSQL did not stop");
        }
    }
}

/// Starts a server again whenever it has ended.
async fn keep(server: Arc<PostgresServer>) {
    let mut pause = LOOK;
    loop {
        sleep(pause).await;
        if server.pid().is_some() {
            continue;
        }
        tracing::warn!("the private PostgreSQL has ended; starting it again");
        match server.restart().await {
            Ok(()) => {
                pause = LOOK;
                tracing::info!("the private PostgreSQL runs again");
            }
            Err(error) => {
                pause = (pause * 2).min(LONGEST_PAUSE);
                tracing::warn!(%error, "the private PostgreSQL did not start");
            }
        }
    }
}

fn with_settings(mut config: Config, settings: &Settings) -> Config {
    let PoolSettings {
        min,
        max,
        overflow,
        timeout,
        max_waiters,
        queue_bytes: _,
        queue_wait: _,
        recycle,
        idle_timeout,
        connect_timeout,
    } = settings.pool;
    let count = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    config.pool.min_size = Some(count(min));
    config.pool.max_size = count(max);
    config.pool.max_overflow = count(overflow);
    config.pool.acquire_timeout = timeout;
    config.pool.max_waiters = count(max_waiters);
    config.pool.max_lifetime = recycle;
    config.pool.idle_timeout = idle_timeout;
    config.pool.connect_timeout = connect_timeout;
    config.command_timeout = Some(settings.statements.timeout);
    let limit = statement_limit(settings);
    let limit = limit.map(|limit| format!("-c statement_timeout={}", limit.as_millis()));
    let own = has_feed(settings).then(|| OWN_SESSION.to_owned());
    for set in [limit, own].into_iter().flatten() {
        let options = match config.server.get_options() {
            Some(options) => format!("{options} {set}"),
            None => set,
        };
        config.server.options(options);
    }
    config.statement_cache = settings.statements.cache;
    config.echo = settings.statements.echo;
    config.slow_query = settings.statements.slow;
    config.retry = Retry {
        attempts: settings.retry.attempts,
        delay: settings.retry.delay,
    };
    config
}
