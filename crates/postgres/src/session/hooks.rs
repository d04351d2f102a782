//! What an application does to each new session, such as `SET ROLE`.
//!
//! Invariant: the session that the hook leaves counts as clean. Whatever a user changes is undone, and the hook runs again, before
//! the next user gets the connection.

use std::{fmt, sync::Arc, sync::atomic::Ordering::Relaxed};

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::{clean::CANCELLED, connection::Connection};
use crate::{
    ConnectionError, Result,
    tap::{Dirt, TransactionStatus, Verdict},
};

/// What an application does at the turns of a connection's life. A clone holds the same functions.
///
/// ```no_run
/// use cenote_postgres::{Config, Hooks, Pool};
///
/// # fn example() -> Result<Pool, cenote_postgres::InvalidConfig> {
/// let hooks = Hooks::default().after_connect(|connection| {
///     Box::pin(async move { connection.batch_execute("SET ROLE shop; SET search_path = shop").await })
/// });
/// Pool::with_hooks(Config::from_env()?, hooks)
/// # }
/// ```
#[derive(Clone, Default)]
pub struct Hooks {
    pub(super) after_connect: Option<Arc<Work>>,
}

pub(super) type Work = dyn for<'c> Fn(&'c mut Connection) -> BoxFuture<'c, Result<()>> + Send + Sync;

impl Hooks {
    /// Runs `work` on each new connection, before its first use, and again after each reset of its session.
    ///
    /// `work` may run any command, and its settings are what every user of the connection finds. It costs each new connection and
    /// each reset its own time; a clean return costs nothing. It runs within
    /// [`connect_timeout`](cenote_pool::Config::connect_timeout), and after a reset within
    /// [`clean_timeout`](cenote_pool::Config::clean_timeout). If it fails, leaves a transaction open or deallocates prepared
    /// statements, the connection is closed, and the error is shown like that of a connect.
    ///
    /// It does not run on the connections of a [`Listener`](crate::Listener).
    #[must_use]
    pub fn after_connect(
        mut self,
        work: impl for<'c> Fn(&'c mut Connection) -> BoxFuture<'c, Result<()>> + Send + Sync + 'static,
    ) -> Self {
        self.after_connect = Some(Arc::new(work));
        self
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("after_connect", &self.after_connect.is_some())
            .finish()
    }
}

impl Connection {
    /// Runs the hook. What it did to the session counts as clean.
    pub(super) async fn begin_session(&mut self, hook: &Work) -> std::result::Result<(), ConnectionError> {
        let done = hook(self).await;
        done.map_err(|error| ConnectionError::AfterConnect(error.to_string()))?;
        let link = &self.inner.link;
        match link.wait_quiet(Instant::now() + CANCELLED).await {
            Verdict::Quiet {
                transaction: TransactionStatus::Idle,
                dirt,
            } if !dirt.contains(Dirt::STATEMENTS) => {
                link.clear_dirt(Dirt::SESSION | Dirt::CLAIMED);
                self.inner.used.store(false, Relaxed);
                Ok(())
            }
            Verdict::Quiet {
                transaction: TransactionStatus::Idle,
                ..
            } => Err(ConnectionError::AfterConnect(
                "it deallocated prepared statements, which the driver may need".to_owned(),
            )),
            _ => Err(ConnectionError::AfterConnect("it left a transaction open".to_owned())),
        }
    }
}
