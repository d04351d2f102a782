//! A session with the server, from its opening to its end.
//!
//! What is done on it is in `commands`, `copy` and `streams`; how it becomes clean again in `clean`.
//! Invariant: a cancel request that may still hit a later statement is known as such.

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
    session::query_metrics::QueryMetrics,
    session::statement_cache::StatementCache,
    session::tap::{self, Link},
    timer::{Timer, after},
};

/// How long one cancel may take until the server has dealt with it: a connection of its own, TLS included.
const CANCEL: Duration = Duration::from_millis(500);

/// An open connection to PostgreSQL.
///
/// Every command is prepared once per connection and kept in a bounded cache, is counted, and ends
/// after the command timeout.
///
/// # Cancel safety
///
/// Dropping the future of a command does not stop it on the server. When the connection is given
/// back to its pool what is still running is cancelled, what is open is rolled back.
pub struct Connection {
    // Boxed, because the pool moves connections about.
    pub(super) inner: Box<Inner>,
}

pub(super) struct Inner {
    pub(super) client: Client,
    pub(super) link: Link,
    pub(super) binding: HostBinding,
    pub(super) statements: StatementCache,
    pub(super) metrics: Arc<QueryMetrics>,
    pub(super) command_timeout: Option<Duration>,
    pub(super) timer: Timer,
    pub(super) reset: Reset,
    /// A command ran into its timeout and may still be running: to be cancelled before the next.
    pub(super) overdue: AtomicBool,
    /// A cancel request was sent and not confirmed: it may hit any later statement.
    pub(super) stray_cancel: AtomicBool,
    /// The server may have another role than when the connection was opened: to be asked before the next use.
    pub(super) role_in_doubt: AtomicBool,
    /// Something may have run since the session was last reset.
    pub(super) used: AtomicBool,
    /// The driver may have prepared statements of its own, with which it looks types up.
    pub(super) types_looked_up: AtomicBool,
    /// The server has forgotten those, and the driver cannot be told: types cannot be looked up any more.
    pub(super) types_lost: AtomicBool,
    /// Preparations begun and not finished. Between commands: statements that the server keeps
    /// because whoever asked for them gave up before learning their names.
    pub(super) preparing: AtomicU32,
}

impl Connection {
    /// Connects; what the session is notified of goes to the listener, if it has one.
    pub(crate) async fn open(
        router: &Router,
        config: &Config,
        metrics: &Arc<QueryMetrics>,
        listener: Option<Box<tap::NotificationHandler>>,
    ) -> std::result::Result<Self, ConnectionError> {
        // The pool's connect timeout is the deadline of all of this.
        let deadline = after(Instant::now(), config.pool.connect_timeout);
        let session = Box::pin(router.open(deadline)).await?;
        let OpenSession { client, link, binding } = session;
        if let Some(listener) = listener {
            link.hear_with(listener);
        }
        Ok(Self {
            inner: Box::new(Inner {
                client,
                link,
                binding,
                statements: StatementCache::new(config.statement_cache),
                metrics: metrics.clone(),
                command_timeout: config.command_timeout,
                timer: Timer::new(),
                reset: config.reset,
                overdue: AtomicBool::new(false),
                stray_cancel: AtomicBool::new(false),
                role_in_doubt: AtomicBool::new(false),
                used: AtomicBool::new(false),
                types_looked_up: AtomicBool::new(false),
                types_lost: AtomicBool::new(false),
                preparing: AtomicU32::new(0),
            }),
        })
    }

    /// The driver's client, for whatever is not offered here. Commands run through it have no
    /// timeout and are not counted; the connection is cleaned afterwards all the same.
    ///
    /// What the wire does not show, such as an advisory lock, is then seen by nobody: undo it, or use
    /// [`Reset::Always`].
    pub fn client(&self) -> &Client {
        self.inner.used.store(true, Relaxed);
        self.inner.types_looked_up.store(true, Relaxed);
        &self.inner.client
    }

    /// As [`client`](Self::client), for what needs it exclusively.
    pub fn client_mut(&mut self) -> &mut Client {
        self.inner.used.store(true, Relaxed);
        self.inner.types_looked_up.store(true, Relaxed);
        &mut self.inner.client
    }

    /// The server process of this connection, as in `pg_stat_activity.pid`.
    pub fn process_id(&self) -> u32 {
        self.inner.link.process_id()
    }

    /// The host it is connected to, as the configuration names it: `name:port`, or the path of a socket.
    pub fn host(&self) -> &str {
        self.inner.binding.name()
    }

    /// Asks the server to cancel what runs, and waits until it has dealt with that.
    pub(super) async fn cancel(&self) -> std::result::Result<(), ConnectionError> {
        let deadline = Instant::now() + CANCEL;
        let token: CancelToken = self.inner.client.cancel_token();
        let socket = timeout_at(deadline, self.inner.binding.reconnect()).await;
        let Ok(Ok(socket)) = socket else {
            return Err(ConnectionError::Unclean);
        };
        // Stays set if this future is dropped.
        self.inner.stray_cancel.store(true, Relaxed);
        let cancelled = tap::cancel(&token, socket, deadline).await;
        cancelled.map_err(|_| ConnectionError::Unclean)?;
        self.inner.stray_cancel.store(false, Relaxed);
        Ok(())
    }

    /// Asks the server whether it is still there and, where it matters, still what it was.
    pub(crate) async fn check(&self) -> std::result::Result<(), ConnectionError> {
        match self.inner.binding.role_matters() {
            true => self.inner.binding.check_role(&self.inner.client).await,
            false => self.ping().await,
        }
    }

    /// Asks the server whether it is still there.
    pub(crate) async fn ping(&self) -> std::result::Result<(), ConnectionError> {
        Ok(self.inner.client.batch_execute("").await?)
    }

    /// Completes when the session has ended, from whichever side.
    pub(crate) async fn ended(&self) {
        self.inner.link.closed().await;
    }

    /// Closes the socket without a word. What runs on the server goes on until it notices.
    pub(crate) fn abort(&self) {
        self.inner.link.abort();
    }

    /// Says goodbye and waits until the server process has ended.
    pub(crate) async fn close(self) {
        let Inner { client, link, .. } = *self.inner;
        let stuck = link.verdict().is_held();
        let ending = Ending(link);
        drop(client);
        if stuck {
            // A goodbye would wait behind what somebody holds and does not read or send.
            return;
        }
        ending.0.closed().await;
    }
}

/// Closes the socket if the good end is not waited for.
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
