//! PostgreSQL for the generic pool. Invariant: it only translates; what a connection is and does
//! is in `connection`.

use std::sync::Arc;

use cenote_pool::{Condition, Manager};

use crate::{Config, Connection, ConnectionError, InvalidConfig, observer::Observer, router::Router, tap};

/// Opens, inspects, cleans and closes connections to PostgreSQL for a [`Pool`](crate::Pool).
#[derive(Debug)]
pub struct Postgres {
    config: Config,
    observer: Arc<Observer>,
    router: Arc<Router>,
}

impl Postgres {
    pub(crate) fn new(config: Config) -> Result<Self, InvalidConfig> {
        Ok(Self {
            observer: Arc::new(Observer::new(&config)),
            router: Arc::new(Router::new(&config)?),
            config,
        })
    }

    pub(crate) fn router(&self) -> &Arc<Router> {
        &self.router
    }

    /// Opens a connection; what its session is notified of goes to the listener, if it has one.
    pub(crate) async fn open(&self, listener: Option<Box<tap::Listener>>) -> Result<Connection, ConnectionError> {
        Connection::open(&self.router, &self.config, &self.observer, listener).await
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn observer(&self) -> &Observer {
        &self.observer
    }
}

impl Manager for Postgres {
    type Connection = Connection;
    type Error = ConnectionError;

    async fn connect(&self) -> Result<Connection, ConnectionError> {
        self.open(None).await
    }

    fn is_permanent(&self, error: &ConnectionError) -> bool {
        error.is_permanent()
    }

    fn inspect(&self, connection: &mut Connection) -> Condition {
        connection.inspect()
    }

    async fn clean(&self, connection: &mut Connection) -> Result<(), ConnectionError> {
        connection.clean().await
    }

    async fn check(&self, connection: &mut Connection) -> Result<(), ConnectionError> {
        connection.check().await
    }

    fn news(&self) -> impl Future<Output = ()> + Send + 'static {
        let (router, interval) = (self.router.clone(), self.config.lookup_interval);
        async move { router.news(interval).await }
    }

    async fn close(&self, connection: Connection) {
        connection.close().await;
    }
}
