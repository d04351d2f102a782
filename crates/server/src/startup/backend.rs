//! The settings, and the pool over the database that they name or over a private one.
//!
//! Invariant: what depends on several settings is decided here, once, for `serve`, `check` and `migrate`.

use std::{sync::Arc, time::Duration};

use cenote_cache::{Config as CacheConfig, Mode};
use cenote_postgres::{Capacity, Config, Error, InvalidConfig, InvalidUrl, Pool};
use tokio::{
    runtime::Handle,
    time::{Instant, timeout},
};

use super::{
    cache::{CacheError, connections_beside_pool, statement_limit},
    private::Private,
    reach::{self, InLog, Unusable, reach},
};
use crate::{
    settings::{Migrate, Settings},
    store::{
        Backlog, STATEMENTS, Store, Tables,
        change_feed::OWN_SESSION,
        schema::{Extras, Migration},
    },
};

/// Maximum wait for the connections to close.
const CLOSING: Duration = Duration::from_secs(5);

/// The settings and a pool. Clones share both.
#[derive(Clone)]
pub(crate) struct Backend {
    pub(crate) settings: Arc<Settings>,
    pub(crate) pool: Pool,
    /// Whether the table of API keys is needed.
    has_api_keys: bool,
}

/// Why there is no database.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DatabaseError {
    #[error("no database is set (DATABASE_URL or DB_HOST), and no private one can be started: {0}")]
    Private(cenote_local::Error),
    #[error(transparent)]
    Invalid(#[from] InvalidConfig),
    #[error("the private server's address {0}")]
    Address(InvalidUrl),
}

/// A backend, and the private server that it uses, if any. A drop ends both, without waiting for them.
pub(crate) struct Opened {
    pub(crate) backend: Backend,
    private: Option<Private>,
}

impl Opened {
    /// Builds the pool, whose connections live on these runtimes. If the settings name no database, it starts a private
    /// one first.
    pub(super) async fn open(settings: Settings, runtimes: &[Handle]) -> Result<Self, DatabaseError> {
        let mut config = settings.postgres.clone();
        let private = match settings.names_database() {
            true => None,
            false => {
                let private = Private::start(&settings).await.map_err(DatabaseError::Private)?;
                config.server = Config::from_url(&private.url()).map_err(DatabaseError::Address)?.server;
                Some(private)
            }
        };
        let limit = statement_limit(&settings).map(|limit| format!("-c statement_timeout={}", limit.as_millis()));
        let own = settings.change_feed.then(|| OWN_SESSION.to_owned());
        for set in limit.into_iter().chain(own) {
            let options = match config.server.get_options() {
                Some(options) => format!("{options} {set}"),
                None => set,
            };
            config.server.options(options);
        }
        config.statement_names = STATEMENTS;
        let pool = Pool::on_runtimes(config, runtimes.to_vec())?;
        let has_api_keys = settings.auth.mode.has_keys();
        let backend = Backend {
            settings: Arc::new(settings),
            pool,
            has_api_keys,
        };
        Ok(Self { backend, private })
    }

    /// Whether the database is a private one.
    pub(crate) fn is_private(&self) -> bool {
        self.private.is_some()
    }

    /// Closes the connections, then stops the private server.
    pub(crate) async fn close(self) {
        if timeout(CLOSING, self.backend.pool.close()).await.is_err() {
            tracing::warn!("some connections did not close in time");
        }
        if let Some(private) = self.private {
            private.stop().await;
        }
    }
}

impl Backend {
    /// Logs the addresses of the database.
    pub(crate) fn announce(&self) {
        reach::announce(self.pool.config());
    }

    /// One store for each runtime of the pool.
    pub(crate) fn stores(&self, config: CacheConfig) -> Result<Vec<Store>, CacheError> {
        let tables = Tables {
            schema: self.settings.schema.clone(),
            backlog: Backlog {
                bytes: self.settings.queue_bytes,
                wait: self.settings.queue_wait,
            },
        };
        Ok(Store::per_runtime(&self.pool, config, &tables)?)
    }

    /// Creates a store for tests. It takes no part in the epoch, on which the instances agree, so it does not disturb them.
    pub(crate) fn trial(&self, mut config: CacheConfig) -> Result<Store, CacheError> {
        config.mode = match config.mode {
            Mode::Strong(redis) | Mode::Bounded { redis, .. } => Mode::Ttl(redis),
            mode => mode,
        };
        // The pool of a trial is on one runtime.
        Ok(self.stores(config)?.swap_remove(0))
    }

    /// The same backend, which needs the table of API keys even if the service does not accept any yet.
    pub(crate) fn with_api_keys(&self) -> Self {
        Self {
            has_api_keys: true,
            ..self.clone()
        }
    }

    /// Returns the migration to the schema that the settings need.
    pub(crate) fn migration(&self) -> Migration {
        Migration {
            schema: self.settings.schema.clone(),
            extras: Extras {
                feed: self.settings.change_feed,
                api_keys: self.has_api_keys,
            },
        }
    }

    /// Returns the deadline until which `check` and `migrate` wait for the database.
    pub(crate) fn deadline(&self) -> Instant {
        let pool = &self.settings.postgres.pool;
        // Even with DB_POOL_TIMEOUT=0 there must be time for one connect.
        Instant::now() + pool.acquire_timeout.max(pool.connect_timeout)
    }

    /// Adds what the schema lacks and returns the names of the additions. Waits for the database until [`deadline`](Self::deadline).
    pub(crate) async fn bring_up_to_date(&self) -> Result<Vec<String>, Unusable> {
        let deadline = self.deadline();
        reach(&self.pool, Some(deadline)).await?;
        let added = self.migration().run(&self.pool, &InLog, Some(deadline)).await?;
        Ok(added)
    }

    /// As `MIGRATE` says: adds what the schema lacks, or fails if it lacks anything, or does not look. Waits for the
    /// database until [`deadline`](Self::deadline).
    pub(crate) async fn bring_up_to_date_as_set(&self) -> Result<(), Unusable> {
        let deadline = self.deadline();
        reach(&self.pool, Some(deadline)).await?;
        match self.settings.migrate {
            Migrate::Off => {}
            Migrate::Check => self.migration().check(&self.pool).await?,
            Migrate::Auto => {
                self.migration().run(&self.pool, &InLog, Some(deadline)).await?;
            }
        }
        Ok(())
    }

    /// Returns the number of connections to PostgreSQL that each instance has outside its pool.
    pub(crate) fn beside_pool(&self) -> u32 {
        connections_beside_pool(&self.settings)
    }

    /// Compares the connections of all instances with the limit of the server.
    pub(crate) async fn capacity(&self) -> Result<Capacity, Error> {
        self.pool
            .check_capacity(self.settings.instances, self.beside_pool())
            .await
    }

    /// Checks that the server ends statements in time. A connection pooler may not have passed the limit on.
    pub(crate) async fn check_statement_limit(&self) -> Result<(), String> {
        let Some(limit) = statement_limit(&self.settings) else {
            return Ok(());
        };
        let sql = "SELECT setting::bigint FROM pg_settings WHERE name = 'statement_timeout'";
        let asked = async { self.pool.get().await?.query_one(sql, &[]).await };
        let row = asked.await.map_err(|error: Error| error.to_string())?;
        let found: i64 = row.get(0);
        let wanted = i64::try_from(limit.as_millis()).unwrap_or(i64::MAX);
        match (1..=wanted).contains(&found) {
            true => Ok(()),
            false => Err(format!(
                "the server ends statements after {found} ms (0: never), not after {wanted} ms: it was not given the \
                 startup parameter `options`. A write may take effect after it was answered as failed, unseen by the cache"
            )),
        }
    }
}
