//! What an application does at the turns of a connection's life, such as `SET ROLE` on each new session.
//!
//! Invariant: the session that `after_connect` leaves counts as clean. Whatever a user or another hook changes is undone, and
//! `after_connect` runs again, before the next user gets the connection.

use std::{
    fmt,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use cenote_pool::{ConnectionInfo, Decision, Retired};
use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::{clean::CANCELLED, connection::Connection};
use crate::{
    ConnectionError, Result,
    slow_statement::Usage,
    tap::{Dirt, TransactionStatus, Verdict},
};

/// What an application does at the turns of a connection's life. A clone holds the same functions.
///
/// | Hook | Runs | In | At most | When it fails |
/// |---|---|---|---|---|
/// | [`after_connect`](Self::after_connect) | on each new session, and after each reset of one | a task of the pool | `connect_timeout`; `clean_timeout` after a reset | the connect has failed; the connection is closed |
/// | [`before_acquire`](Self::before_acquire) | before each use | the caller's task | `check_timeout` | the connection is closed, and the caller gets the error |
/// | [`after_release`](Self::after_release) | after each use, on the clean session | a task of the pool | `clean_timeout` | the connection is closed |
/// | [`on_close`](Self::on_close) | before each close | a task of the pool | `close_timeout`, the close included | – |
///
/// The timeouts are those of [`cenote_pool::Config`]. Each command of a hook also has the command timeout. A hook may run any
/// command on its connection, and must not acquire from the same pool. One that is not set costs nothing; the others cost a
/// use their own time, `after_release` also a task. [`cenote_pool::Hooks`] says more about cancelled callers.
///
/// They do not run on the connections of a [`Listener`](crate::Listener).
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
    pub(super) before_acquire: Option<Arc<Turn>>,
    pub(super) after_release: Option<Arc<Turn>>,
    pub(super) on_close: Option<Arc<LastTurn>>,
}

pub(super) type Work = dyn for<'c> Fn(&'c mut Connection) -> BoxFuture<'c, Result<()>> + Send + Sync;

pub(super) type Turn =
    dyn for<'c> Fn(&'c mut Connection, ConnectionInfo) -> BoxFuture<'c, Result<Decision>> + Send + Sync;

pub(super) type LastTurn =
    dyn for<'c> Fn(&'c mut Connection, ConnectionInfo, Retired) -> BoxFuture<'c, ()> + Send + Sync;

impl Hooks {
    /// Runs `work` on each new connection, before its first use, and again after each reset of its session.
    ///
    /// `work` may run any command, and its settings are what every user of the connection finds. It costs each new connection and
    /// each reset its own time; a clean return costs nothing. If it fails, leaves a transaction open or deallocates prepared
    /// statements, the connection is closed, and the error is shown like that of a connect.
    #[must_use]
    pub fn after_connect(
        mut self,
        work: impl for<'c> Fn(&'c mut Connection) -> BoxFuture<'c, Result<()>> + Send + Sync + 'static,
    ) -> Self {
        self.after_connect = Some(Arc::new(work));
        self
    }

    /// Runs `turn` on each connection that a caller is about to get, in the caller's task: it sees that task's locals, such as
    /// the tenant of a request.
    ///
    /// What it sets, the caller finds. That makes the session dirty, so the pool resets it after the use: a round trip, and
    /// another one for [`after_connect`](Self::after_connect). With [`Decision::Close`] the caller gets another connection.
    /// After an error it gets [`Reason::Rejected`](crate::Reason::Rejected), and nobody gets the connection.
    ///
    /// ```no_run
    /// use cenote_postgres::{Config, Decision, Hooks, Pool};
    ///
    /// tokio::task_local! {
    ///     static TENANT: String;
    /// }
    ///
    /// # fn example() -> Result<Pool, cenote_postgres::InvalidConfig> {
    /// let hooks = Hooks::default().before_acquire(|connection, _info| {
    ///     Box::pin(async move {
    ///         // Without a tenant the setting stays empty, and a policy that compares it shows no rows.
    ///         if let Ok(tenant) = TENANT.try_with(Clone::clone) {
    ///             let set = "SELECT set_config('app.tenant', $1, false)";
    ///             connection.execute(set, &[&tenant]).await?;
    ///         }
    ///         Ok(Decision::Keep)
    ///     })
    /// });
    /// Pool::with_hooks(Config::from_env()?, hooks)
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// If the caller is dropped meanwhile, the connection is returned and cleaned like any other.
    #[must_use]
    pub fn before_acquire(
        mut self,
        turn: impl for<'c> Fn(&'c mut Connection, ConnectionInfo) -> BoxFuture<'c, Result<Decision>> + Send + Sync + 'static,
    ) -> Self {
        self.before_acquire = Some(Arc::new(turn));
        self
    }

    /// Runs `turn` on each connection that a caller has returned, once it is clean: rolled back, and reset if that was
    /// necessary. What `turn` changes in the session is undone too.
    ///
    /// It does not run on connections that are closed instead.
    #[must_use]
    pub fn after_release(
        mut self,
        turn: impl for<'c> Fn(&'c mut Connection, ConnectionInfo) -> BoxFuture<'c, Result<Decision>> + Send + Sync + 'static,
    ) -> Self {
        self.after_release = Some(Arc::new(turn));
        self
    }

    /// Runs `turn` on each connection that the pool is about to close, with the reason. The session may have ended already, and
    /// each command fails then. It does not run for detached connections.
    #[must_use]
    pub fn on_close(
        mut self,
        turn: impl for<'c> Fn(&'c mut Connection, ConnectionInfo, Retired) -> BoxFuture<'c, ()> + Send + Sync + 'static,
    ) -> Self {
        self.on_close = Some(Arc::new(turn));
        self
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("after_connect", &self.after_connect.is_some())
            .field("before_acquire", &self.before_acquire.is_some())
            .field("after_release", &self.after_release.is_some())
            .field("on_close", &self.on_close.is_some())
            .finish()
    }
}

impl Connection {
    /// Readies it for a hook: neither the limit nor the use of its last holder concerns a hook.
    pub(super) fn lend_to_hook(&mut self, limit: Option<Duration>) {
        self.set_command_timeout(limit);
        *self.usage_mut() = Usage::default();
    }

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
