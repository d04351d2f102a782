//! Implements the generic pool's [`Manager`] for PostgreSQL. Invariant: it only forwards to [`Connection`].

use std::sync::Arc;

use cenote_pool::{Acquisition, Condition, Manager};

use super::{hooks::Hooks, query_metrics::QueryMetrics};
use crate::{Config, Connection, ConnectionError, InvalidConfig, connect::router::Router, slow_statement::Usage, tap};

/// Opens, inspects, cleans and closes connections to PostgreSQL for a [`Pool`](crate::Pool).
#[derive(Debug)]
pub struct Postgres {
    config: Config,
    hooks: Hooks,
    metrics: Arc<QueryMetrics>,
    router: Router,
}

impl Postgres {
    pub(crate) fn new(config: Config, hooks: Hooks) -> Result<Self, InvalidConfig> {
        Ok(Self {
            hooks,
            metrics: Arc::new(QueryMetrics::new(&config)),
            router: Router::new(
                &config.server,
                &config.tls,
                config.target_session(),
                config.password.clone(),
                config.resolver.clone(),
            )?,
            config,
        })
    }

    pub(crate) fn router(&self) -> &Router {
        &self.router
    }

    /// Opens a connection. Notifications go to `listener`, if there is one.
    pub(crate) async fn open(
        &self,
        listener: Option<Box<tap::NotificationHandler>>,
    ) -> Result<Connection, ConnectionError> {
        Connection::open(&self.router, &self.config, &self.metrics, listener).await
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn metrics(&self) -> &QueryMetrics {
        &self.metrics
    }
}

impl Manager for Postgres {
    type Connection = Connection;
    type Error = ConnectionError;

    async fn connect(&self) -> Result<Connection, ConnectionError> {
        let mut connection = self.open(None).await?;
        let Some(hook) = &self.hooks.after_connect else {
            return Ok(connection);
        };
        match connection.begin_session(&**hook).await {
            Ok(()) => Ok(connection),
            Err(error) => {
                connection.close().await;
                Err(error)
            }
        }
    }

    fn peer(&self, connection: &Connection) -> Option<Arc<str>> {
        Some(connection.host().into())
    }

    fn is_permanent(&self, error: &ConnectionError) -> bool {
        error.is_permanent()
    }

    fn inspect(&self, connection: &mut Connection) -> Condition {
        connection.inspect()
    }

    #[inline]
    fn acquired(&self, connection: &mut Connection, acquisition: Acquisition) {
        *connection.usage_mut() = Usage::new(acquisition);
        connection.set_command_timeout(self.config.command_timeout);
    }

    async fn clean(&self, connection: &mut Connection) -> Result<(), ConnectionError> {
        let was_reset = connection.clean().await?;
        match &self.hooks.after_connect {
            Some(hook) if was_reset => connection.begin_session(&**hook).await,
            _ => Ok(()),
        }
    }

    async fn check(&self, connection: &mut Connection) -> Result<(), ConnectionError> {
        connection.check().await
    }

    fn inspection_due(&self) -> impl Future<Output = ()> + Send + 'static {
        let (watch, interval) = (self.router.watch().clone(), self.config.lookup_interval);
        async move { watch.inspection_due(interval).await }
    }

    async fn close(&self, connection: Connection) {
        connection.close().await;
    }
}

/// A connection acquired from a [`Pool`](crate::Pool). Dropping it returns it.
pub type Pooled<'pool> = cenote_pool::Pooled<'pool, Postgres>;

/// Like [`Pooled`], but keeps its [`Pool`](crate::Pool) alive instead of borrowing it.
pub type OwnedPooled = cenote_pool::OwnedPooled<Postgres>;
