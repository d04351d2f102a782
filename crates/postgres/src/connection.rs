//! A connection: commands with a deadline and a statement cache, and the way back to clean.
//!
//! Invariant: [`Connection::inspect`] says `Clean` only when the next user cannot tell that there
//! was a previous one, as far as the wire shows.

use std::{
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use cenote_pool::Condition;
use futures_util::TryStreamExt;
use tokio::time::{Instant, timeout_at};
use tokio_postgres::{CancelToken, Client, Row, types::ToSql};

use crate::{
    Config, ConnectionError, Error, Reset, Result,
    observer::Observer,
    place::Place,
    router::{Router, Session},
    statements::Statements,
    tap::{self, Dirt, Link, Transaction, Verdict},
    timer::Timer,
};

/// How often an inspection looks again while another thread is just polling the connection; that
/// takes it a microsecond or two.
const LOOKS: u32 = 200;
/// How long cleaning waits for an answer that is on its way, such as that to a rollback.
const SETTLE: Duration = Duration::from_millis(2);
/// How long one cancel may take until the server has dealt with it: a connection of its own, TLS included.
const CANCEL: Duration = Duration::from_millis(500);
/// How long a cancelled statement may take to end.
const CANCELLED: Duration = Duration::from_millis(50);
/// A cancel that arrives before the statement has begun is lost, so it is repeated.
const CANCELS: u32 = 3;

/// Statements a connection may leave prepared on the server without knowing their names.
const ABANDONED: u32 = 16;

/// What `DISCARD ALL` does, but for forgetting the prepared statements and their plans.
const RESET: &str = "CLOSE ALL; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; UNLISTEN *; \
                     SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES";

/// A parameter of a statement.
type Parameter<'a> = &'a (dyn ToSql + Sync);

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
    inner: Box<Inner>,
}

/// What the server answered to a statement.
struct Answer {
    rows: Vec<Row>,
    affected: u64,
}

struct Inner {
    client: Client,
    link: Link,
    place: Place,
    statements: Statements,
    observer: Arc<Observer>,
    command_timeout: Option<Duration>,
    timer: Timer,
    reset: Reset,
    /// A command ran into its timeout and may still be running: to be cancelled before the next.
    overdue: AtomicBool,
    /// A cancel request was sent and not confirmed: it may hit any later statement.
    stray_cancel: AtomicBool,
    /// The server may have another role than when the connection was opened: to be asked before the next use.
    role_in_doubt: AtomicBool,
    /// Something may have run since the session was last reset.
    used: AtomicBool,
    /// Preparations begun and not finished. Between commands: statements that the server keeps
    /// because whoever asked for them gave up before learning their names.
    preparing: AtomicU32,
}

impl Connection {
    pub(crate) async fn open(
        router: &Arc<Router>,
        config: &Config,
        observer: &Arc<Observer>,
    ) -> std::result::Result<Self, ConnectionError> {
        // The pool's connect timeout is the deadline of all of this.
        let deadline = Instant::now() + config.pool.connect_timeout;
        let session = Box::pin(router.open(deadline)).await?;
        let Session {
            client,
            link,
            place,
        } = session;
        Ok(Self {
            inner: Box::new(Inner {
                client,
                link,
                place,
                statements: Statements::new(config.statement_cache),
                observer: observer.clone(),
                command_timeout: config.command_timeout,
                timer: Timer::new(),
                reset: config.reset,
                overdue: AtomicBool::new(false),
                stray_cancel: AtomicBool::new(false),
                role_in_doubt: AtomicBool::new(false),
                used: AtomicBool::new(false),
                preparing: AtomicU32::new(0),
            }),
        })
    }

    /// Runs a query and returns its rows.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn query(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Vec<Row>> {
        Ok(self.prepared(sql, parameters).await?.rows)
    }

    /// Runs a query and returns its only row.
    ///
    /// # Errors
    ///
    /// [`Error::RowCount`] when there is no row, or more than one; otherwise see [`Error`].
    pub async fn query_one(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Row> {
        let row = self.query_opt(sql, parameters).await?;
        row.ok_or(Error::RowCount(0))
    }

    /// Runs a query and returns its only row, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::RowCount`] when there is more than one row; otherwise see [`Error`].
    pub async fn query_opt(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Option<Row>> {
        let mut rows = self.prepared(sql, parameters).await?.rows;
        match rows.len() {
            0 | 1 => Ok(rows.pop()),
            many => Err(Error::RowCount(many)),
        }
    }

    /// Runs a statement and returns how many rows it touched.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn execute(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<u64> {
        Ok(self.prepared(sql, parameters).await?.affected)
    }

    /// Runs statements without parameters or results, separated by semicolons, in one round trip.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn batch_execute(&self, sql: &str) -> Result<()> {
        self.command(sql, self.inner.client.batch_execute(sql))
            .await
    }

    /// Begins a transaction that is rolled back unless it is committed.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the connection to its pool's cleaning.
    pub async fn transaction(&mut self) -> Result<crate::Transaction<'_>> {
        crate::Transaction::begin(self).await
    }

    /// The driver's client, for whatever is not offered here. Commands run through it have no
    /// timeout and are not counted; the connection is cleaned afterwards all the same.
    pub fn client(&self) -> &Client {
        self.inner.used.store(true, Relaxed);
        &self.inner.client
    }

    /// As [`client`](Self::client), for what needs it exclusively.
    pub fn client_mut(&mut self) -> &mut Client {
        self.inner.used.store(true, Relaxed);
        &mut self.inner.client
    }

    /// The server process of this connection, as in `pg_stat_activity.pid`.
    pub fn process_id(&self) -> u32 {
        self.inner.link.process_id()
    }

    /// The host it is connected to, as the configuration names it: `name:port`, or the path of a socket.
    pub fn host(&self) -> &str {
        self.inner.place.name()
    }

    /// Runs a statement from the cache, preparing it first if need be. A statement that the server
    /// no longer knows or whose result has changed its shape is prepared anew, once.
    async fn prepared(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Answer> {
        let run = async {
            match self.attempt(sql, parameters).await {
                Err(error) if is_stale_statement(&error) => {
                    self.inner.statements.remove(sql);
                    // Inside a transaction the failure stands: the transaction is lost anyway.
                    match self.standing().await {
                        Some(Transaction::Idle) => self.attempt(sql, parameters).await,
                        _ => Err(error),
                    }
                }
                answer => answer,
            }
        };
        self.command(sql, run).await
    }

    async fn attempt(
        &self,
        sql: &str,
        parameters: &[Parameter<'_>],
    ) -> std::result::Result<Answer, tokio_postgres::Error> {
        let Inner {
            client,
            statements,
            preparing,
            ..
        } = &*self.inner;
        let statement = match statements.get(sql) {
            Some(statement) => statement,
            None => {
                preparing.fetch_add(1, Relaxed);
                let prepared = client.prepare(sql).await;
                preparing.fetch_sub(1, Relaxed);
                let statement = prepared?;
                statements.insert(sql, statement.clone());
                statement
            }
        };
        let parameters = parameters.iter().copied();
        let stream = client.query_raw(&statement, parameters).await?;
        let mut stream = pin!(stream);
        let mut rows = Vec::new();
        while let Some(row) = stream.try_next().await? {
            rows.push(row);
        }
        let affected = stream.rows_affected().unwrap_or(0);
        Ok(Answer { rows, affected })
    }

    /// How the transaction stands; `None` if something is still running that may change it.
    pub(crate) async fn standing(&self) -> Option<Transaction> {
        let verdict = self.inner.link.wait_quiet(Instant::now() + CANCELLED).await;
        match verdict {
            Verdict::Quiet { transaction, .. } => Some(transaction),
            _ => None,
        }
    }

    /// The one way in which commands run: counted, bounded in time, errors told apart.
    async fn command<T>(
        &self,
        sql: &str,
        run: impl Future<Output = std::result::Result<T, tokio_postgres::Error>>,
    ) -> Result<T> {
        let Inner {
            link,
            observer,
            command_timeout,
            timer,
            overdue,
            used,
            ..
        } = &*self.inner;
        if overdue.load(Relaxed) {
            self.cancel_overdue().await?;
        }
        used.store(true, Relaxed);
        observer.started(sql);
        let started = Instant::now();
        let result = match *command_timeout {
            None => run.await.map_err(|error| Error::new(error, link.death())),
            Some(limit) => match timer.bound(started + limit, run).await {
                Some(result) => result.map_err(|error| Error::new(error, link.death())),
                None => {
                    overdue.store(true, Relaxed);
                    Err(Error::Timeout(limit))
                }
            },
        };
        observer.finished(sql, started.elapsed(), result.as_ref().err());
        result
    }

    /// Ends what a timed out command left running, so that the next one need not wait behind it.
    async fn cancel_overdue(&self) -> Result<()> {
        match self.calm().await {
            Verdict::Quiet { .. } => {
                self.inner.overdue.store(false, Relaxed);
                Ok(())
            }
            _ => Err(Error::Lost {
                cause: "an earlier command could not be cancelled".into(),
            }),
        }
    }

    /// Sends a command without waiting for its answer.
    pub(crate) fn send(&self, sql: &str) {
        // The first poll puts the command into the driver's queue; its answer is nobody's concern.
        let sent = pin!(self.inner.client.batch_execute(sql));
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let _pending = sent.poll(&mut context);
    }

    /// Says whether the next user may have this connection. Costs an atomic load when all is well.
    pub(crate) fn inspect(&mut self) -> Condition {
        let link = &self.inner.link;
        let mut verdict = link.poll_inline();
        let mut looks = 0;
        while verdict == Verdict::Busy && looks < LOOKS {
            std::hint::spin_loop();
            verdict = link.poll_inline();
            looks += 1;
        }
        if let Some(code) = link.take_error()
            && self.inner.place.report(code)
        {
            self.inner.role_in_doubt.store(true, Relaxed);
        }
        let lost = self.inner.stray_cancel.load(Relaxed) || self.inner.place.is_stale();
        let unproven = self.inner.reset == Reset::Always && self.inner.used.load(Relaxed);
        match verdict {
            _ if lost => Condition::Broken,
            Verdict::Quiet {
                transaction: Transaction::Idle,
                dirt,
            } if dirt.is_none() && !unproven && !self.is_doubtful() => Condition::Clean,
            Verdict::Broken => Condition::Broken,
            _ => Condition::Dirty,
        }
    }

    /// Whether cleaning has to find out, or put right, what the wire does not show.
    fn is_doubtful(&self) -> bool {
        self.is_littered() || self.inner.role_in_doubt.load(Relaxed)
    }

    /// Whether too many statements are prepared on the server that nobody can use.
    fn is_littered(&self) -> bool {
        self.inner.preparing.load(Relaxed) > ABANDONED
    }

    /// Brings the connection back to clean: ends what runs, rolls back what is open, resets what
    /// was changed.
    pub(crate) async fn clean(&mut self) -> std::result::Result<(), ConnectionError> {
        let verdict = self.calm().await;
        let Verdict::Quiet { transaction, dirt } = verdict else {
            return Err(ConnectionError::Unclean);
        };
        // Statements that are gone may be the driver's own, with which it looks types up; it would
        // ask for them by name for ever.
        if dirt.contains(Dirt::STATEMENTS) || self.is_littered() {
            return Err(ConnectionError::Unclean);
        }
        let Inner {
            client,
            link,
            place,
            overdue,
            role_in_doubt,
            used,
            reset,
            ..
        } = &*self.inner;
        overdue.store(false, Relaxed);
        used.store(false, Relaxed);
        let mut steps = Vec::with_capacity(2);
        if transaction != Transaction::Idle {
            steps.push("ROLLBACK");
        }
        if !dirt.is_none() || *reset == Reset::Always {
            steps.push(RESET);
        }
        if !steps.is_empty() {
            client.batch_execute(&steps.join("; ")).await?;
        }
        if role_in_doubt.load(Relaxed) {
            place.check_role(client).await?;
            role_in_doubt.store(false, Relaxed);
        }
        // Statements that were evicted meanwhile are being closed on the server: wait for that too.
        match link.wait_quiet(Instant::now() + CANCELLED).await {
            Verdict::Quiet { .. } => {
                if !steps.is_empty() {
                    link.clear_dirt(Dirt::SESSION);
                }
                Ok(())
            }
            _ => Err(ConnectionError::Unclean),
        }
    }

    /// Waits for the end of what is running, cancelling it if it does not end by itself at once.
    async fn calm(&self) -> Verdict {
        if self.inner.stray_cancel.load(Relaxed) {
            return Verdict::Broken;
        }
        let mut verdict = self.rest(SETTLE).await;
        for _ in 0..CANCELS {
            if !verdict.is_cancellable() || self.cancel().await.is_err() {
                break;
            }
            verdict = self.rest(CANCELLED).await;
        }
        verdict
    }

    /// Waits for the connection to become quiet, and in the end for a poll under way, so that the verdict says
    /// something.
    async fn rest(&self, limit: Duration) -> Verdict {
        let link = &self.inner.link;
        match link.wait_quiet(Instant::now() + limit).await {
            Verdict::Busy => link.settle(Instant::now() + SETTLE).await,
            verdict => verdict,
        }
    }

    /// Asks the server to cancel what runs, and waits until it has dealt with that.
    async fn cancel(&self) -> std::result::Result<(), ConnectionError> {
        let deadline = Instant::now() + CANCEL;
        let token: CancelToken = self.inner.client.cancel_token();
        let socket = timeout_at(deadline, self.inner.place.reconnect()).await;
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
        match self.inner.place.role_matters() {
            true => self.inner.place.check_role(&self.inner.client).await,
            false => self.ping().await,
        }
    }

    /// Asks the server whether it is still there.
    pub(crate) async fn ping(&self) -> std::result::Result<(), ConnectionError> {
        Ok(self.inner.client.batch_execute("").await?)
    }

    /// Says goodbye and waits until the server process has ended.
    pub(crate) async fn close(self) {
        let Inner { client, link, .. } = *self.inner;
        let ending = Ending(link);
        drop(client);
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

/// "Cached plan must not change result type", and "prepared statement does not exist".
fn is_stale_statement(error: &tokio_postgres::Error) -> bool {
    error.as_db_error().is_some_and(|error| {
        let changed_plan =
            error.code().code() == "0A000" && error.routine() == Some("RevalidateCachedQuery");
        changed_plan || error.code().code() == "26000"
    })
}
