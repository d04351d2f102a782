//! A session with the server, from its opening to its end.
//!
//! The other modules of this room use it: `commands` and `streams` run statements, `clean` cleans it.
//!
//! Invariant: a cancel request that may still hit a later statement is remembered, so that the connection is closed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::{Instant, timeout_at};
use tokio_postgres::{CancelToken, Client};

use crate::{
    Config, ConnectionError, Reset,
    connect::host_binding::HostBinding,
    connect::router::{OpenSession, Router},
    session::command_limit::CommandLimit,
    session::query_metrics::QueryMetrics,
    session::statement_cache::Announced,
    session::statement_cache::StatementCache,
    slow_statement::Usage,
    tap::{self, Link},
    timer::{Timer, after},
};

/// How long a cancel request may take until the server has handled it: a separate connection, with TLS.
const CANCEL: Duration = Duration::from_millis(500);

/// An open connection to PostgreSQL.
///
/// Every statement is prepared once per connection and kept in a bounded cache. Every command is counted and ends after
/// the command timeout.
///
/// # Cancel safety
///
/// Dropping the future of a command does not stop it on the server. When the connection is returned to its pool, a
/// running command is cancelled and an open transaction is rolled back.
pub struct Connection {
    // Boxed, because the pool moves connections.
    pub(super) inner: Box<Inner>,
}

pub(super) struct Inner {
    pub(super) client: Client,
    pub(super) link: Link,
    pub(super) binding: HostBinding,
    pub(super) statements: StatementCache,
    pub(super) announced: Announced,
    pub(super) metrics: Arc<QueryMetrics>,
    pub(super) command_limit: CommandLimit,
    pub(super) timer: Timer,
    pub(super) reset: Reset,
    /// A command ran into its timeout and may still run. It is cancelled before the next command.
    pub(super) overdue: AtomicBool,
    /// A cancel request was sent and not confirmed. It may hit any later statement, so the connection is closed.
    pub(super) stray_cancel: AtomicBool,
    /// The role of the server is in doubt. It is checked before the next use.
    pub(super) role_in_doubt: AtomicBool,
    /// A command may have run since the last reset.
    pub(super) used: AtomicBool,
    /// The driver may have prepared its own statements, with which it looks types up.
    pub(super) types_looked_up: AtomicBool,
    /// The server has forgotten these statements, and the driver cannot be told: types can no longer be looked up.
    pub(super) types_lost: AtomicBool,
    /// The number of portals that were begun, for their names.
    pub(super) portals: AtomicU32,
    /// The number of unfinished preparations. Between commands: statements that the server keeps, although the callers
    /// that prepared them have gone and nobody knows their names.
    pub(super) preparing: AtomicU32,
    /// Who has it now.
    pub(super) usage: Usage,
}

impl Connection {
    /// Connects. Notifications go to `listener`, if there is one.
    pub(crate) async fn open(
        router: &Router,
        config: &Config,
        metrics: &Arc<QueryMetrics>,
        listener: Option<Box<tap::NotificationHandler>>,
    ) -> std::result::Result<Self, ConnectionError> {
        // The pool's connect timeout is the deadline of all steps.
        let deadline = after(Instant::now(), config.pool.connect_timeout);
        let session = Box::pin(router.open(deadline)).await?;
        let OpenSession { client, link, binding } = session;
        if let Some(listener) = listener {
            link.set_notification_handler(listener);
        }
        Ok(Self {
            inner: Box::new(Inner {
                client,
                link,
                binding,
                statements: StatementCache::new(config.statement_cache),
                announced: Announced::default(),
                metrics: metrics.clone(),
                command_limit: CommandLimit::new(config.command_timeout),
                timer: Timer::new(),
                reset: config.reset,
                overdue: AtomicBool::new(false),
                stray_cancel: AtomicBool::new(false),
                role_in_doubt: AtomicBool::new(false),
                used: AtomicBool::new(false),
                types_looked_up: AtomicBool::new(false),
                types_lost: AtomicBool::new(false),
                portals: AtomicU32::new(0),
                preparing: AtomicU32::new(0),
                usage: Usage::default(),
            }),
        })
    }

    /// Returns the driver's client, for functions that this crate does not offer. Its commands have no timeout and are
    /// not counted; the connection is cleaned afterwards all the same.
    ///
    /// The texts of its statements are not read. Undo changes that the wire does not show, such as an advisory lock, or
    /// use [`Reset::Always`].
    pub fn client(&self) -> &Client {
        self.inner.used.store(true, Relaxed);
        self.inner.types_looked_up.store(true, Relaxed);
        &self.inner.client
    }

    /// Like [`client`](Self::client), for functions that need exclusive access.
    pub fn client_mut(&mut self) -> &mut Client {
        self.inner.used.store(true, Relaxed);
        self.inner.types_looked_up.store(true, Relaxed);
        &mut self.inner.client
    }

    /// Notes who has the connection now, for what is told of slow statements.
    pub(crate) fn usage_mut(&mut self) -> &mut Usage {
        &mut self.inner.usage
    }

    /// Returns the longest time for a command on this connection. `None`: no limit.
    pub fn command_timeout(&self) -> Option<Duration> {
        self.inner.command_limit.get()
    }

    /// Changes the longest time for a command: until the connection is returned, or if it was set on a transaction, until that
    /// ends. `None`: no limit. Commands that were sent before keep theirs. See also [`within`](Self::within) and
    /// [`Pool::within`](crate::Pool::within).
    ///
    /// ```no_run
    /// # async fn example(pool: &cenote_postgres::Pool) -> cenote_postgres::Result<()> {
    /// let transaction = pool.begin().await?;
    /// transaction.set_command_timeout(None);
    /// transaction.execute("REFRESH MATERIALIZED VIEW report", &[]).await?;
    /// transaction.commit().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_command_timeout(&self, limit: Option<Duration>) {
        self.inner.command_limit.set(limit);
    }

    /// Runs `commands` of this connection with this command timeout instead. `None`: no limit. Other commands, also at the same
    /// time, keep theirs.
    ///
    /// ```no_run
    /// # async fn example(connection: &cenote_postgres::Connection) -> cenote_postgres::Result<()> {
    /// let refresh = connection.batch_execute("REFRESH MATERIALIZED VIEW report");
    /// connection.within(None, refresh).await?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Cancel safety
    ///
    /// As `commands`. The timeout of the connection does not change.
    pub fn within<F: Future>(&self, limit: Option<Duration>, commands: F) -> impl Future<Output = F::Output> {
        self.inner.command_limit.during(limit, commands)
    }

    /// Returns the server process of this connection, as in `pg_stat_activity.pid`.
    pub fn process_id(&self) -> u32 {
        self.inner.link.process_id()
    }

    /// Returns the host, as the configuration names it: `name:port`, or the path of a socket.
    pub fn host(&self) -> &str {
        self.inner.binding.name()
    }

    /// Cancels the running statement, and waits until the server has handled the request.
    pub(super) async fn cancel(&self) -> std::result::Result<(), ConnectionError> {
        let deadline = Instant::now() + CANCEL;
        let token: CancelToken = self.inner.client.cancel_token();
        let socket = timeout_at(deadline, self.inner.binding.reconnect()).await;
        let Ok(Ok(socket)) = socket else {
            return Err(ConnectionError::Unclean);
        };
        // Stays set if this future is dropped: the request may still arrive.
        self.inner.stray_cancel.store(true, Relaxed);
        let cancelled = tap::cancel(&token, socket, deadline).await;
        cancelled.map_err(|_| ConnectionError::Unclean)?;
        self.inner.stray_cancel.store(false, Relaxed);
        Ok(())
    }

    /// Checks that the server answers and, where it matters, still has its role.
    pub(crate) async fn check(&self) -> std::result::Result<(), ConnectionError> {
        match self.inner.binding.role_matters() {
            true => self.inner.binding.check_role(&self.inner.client).await,
            false => self.ping().await,
        }
    }

    /// Checks that the server answers.
    pub(crate) async fn ping(&self) -> std::result::Result<(), ConnectionError> {
        Ok(self.inner.client.batch_execute("").await?)
    }

    /// Completes when either side has ended the session.
    pub(crate) async fn ended(&self) {
        self.inner.link.closed().await;
    }

    /// Closes the socket without sending Terminate. A running statement continues until the server notices.
    pub(crate) fn abort(&self) {
        self.inner.link.abort();
    }

    /// Ends the session, and waits until the server process has ended. For connections that were
    /// [detached](cenote_pool::Pooled::detach): the pool closes its own. Dropping a connection does the same without waiting.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the socket is closed at once.
    pub async fn close(self) {
        let Inner { client, link, .. } = *self.inner;
        let stuck = link.verdict().is_held();
        let ending = Ending(link);
        drop(client);
        if stuck {
            // Terminate would wait behind an unfinished stream or COPY that somebody still holds.
            return;
        }
        ending.0.closed().await;
    }
}

/// Closes the socket if the future that waits for the end is dropped.
struct Ending(Link);

impl Drop for Ending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Connection").field(&self.inner.link).finish()
    }
}
