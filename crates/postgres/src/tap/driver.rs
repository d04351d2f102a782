//! Polls a tokio-postgres connection: from a task, and inline by whoever needs
//! to know at once how it stands.
//!
//! Locks: one mutex around the connection, held for one poll and never across an
//! await. The task waits for it, inline polls only try. Handing out an answer
//! wakes tasks under it, and notices are logged under it; neither comes back here.
//!
//! Invariant: whoever wakes the connection leaves a mark in the status word, and
//! the mark only goes away by polling.

use std::fmt;
use std::future::Future;
use std::mem::MaybeUninit;
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, TryLockError};
use std::task::{Context, Poll, Waker};

use cenote_pool::Chain;
use futures_util::future::poll_fn;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{self, Handle};
use tokio::time::{Instant, timeout_at};
use tokio_postgres::error::{DbError, Severity};
use tokio_postgres::tls::TlsStream;
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Notification};

use crate::{error::ends_idle_session, role::Role};

use super::status::{Dirt, SqlStateCode, Status, Verdict};
use super::stream::{Settled, Tap, is_of_stranger};

/// Messages handled before others get their turn, so that a flood of notices
/// does not keep a poll from ending.
const MESSAGES_PER_POLL: usize = 128;

/// Why a connection could not be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    /// The server did not finish the start-up in time.
    #[error("the server did not finish the start-up in time")]
    Timeout,
    /// What answers does not speak PostgreSQL's protocol.
    #[error("what answers is not PostgreSQL")]
    Stranger,
    /// The server refused, or the stream failed.
    #[error(transparent)]
    Postgres(tokio_postgres::Error),
}

/// A connection that was opened.
pub(crate) struct Opened {
    pub(crate) client: Client,
    pub(crate) link: Link,
    /// What the server is, if it says so when a session starts.
    pub(crate) role: Option<Role>,
}

/// Opens a connection over a `stream` already connected to the server, and
/// encrypted if it is to be, and spawns its driver on the current runtime.
///
/// # Cancel safety
/// Dropping the future closes the stream. The backend ends when it notices.
pub(crate) async fn open<S>(stream: S, config: &Config, deadline: Instant) -> Result<Opened, OpenError>
where
    S: TlsStream + Unpin + Send + 'static,
{
    let mut config = config.clone();
    Settled::tell(&mut config);
    let status = Arc::new(Status::new());
    let tap = Tap::new(stream, Arc::clone(&status));
    let connected = timeout_at(deadline, config.connect_raw(tap, Settled)).await;
    let (client, connection) =
        connected
            .map_err(|_| OpenError::Timeout)?
            .map_err(|error| match is_of_stranger(&error) {
                true => OpenError::Stranger,
                false => OpenError::Postgres(error),
            })?;
    let role = Role::reported(|name| connection.parameter(name));
    let link = Link::spawn(connection, status);
    Ok(Opened { client, link, role })
}

type PollMessage = dyn FnMut(&mut Context<'_>) -> Poll<Option<Result<AsyncMessage, tokio_postgres::Error>>> + Send;

/// What hears the notifications of a connection.
pub(crate) type Listener = dyn FnMut(Notification) + Send;

struct Driver {
    status: Arc<Status>,
    engine: Mutex<Engine>,
    /// Where the task lives.
    home: runtime::Id,
    /// Why the connection ended; set before anybody can see that it has.
    death: OnceLock<Arc<str>>,
}

struct Engine {
    /// The connection, whatever its stream; gone when it has ended.
    connection: Option<Box<PollMessage>>,
    /// Its socket, see [`Link::look_at`]; goes with it.
    socket: Option<socket2::Socket>,
    listener: Option<Box<Listener>>,
    waker: Waker,
    /// The wire bits the status word shows.
    published: u32,
}

impl Driver {
    fn lock(&self) -> Option<MutexGuard<'_, Engine>> {
        self.engine
            .lock()
            .map_err(|poisoned| self.bury(poisoned.into_inner()))
            .ok()
    }

    /// A poll panicked, so the connection's own state is anyone's guess.
    fn bury(&self, mut engine: MutexGuard<'_, Engine>) {
        self.end(&mut engine, "the connection panicked");
        self.status.finish();
    }

    fn end(&self, engine: &mut Engine, reason: &str) {
        self.death.get_or_init(|| reason.into());
        engine.connection = None;
        engine.socket = None;
    }

    /// One poll of the connection, if anything woke it since the last.
    fn turn(&self, engine: &mut Engine) {
        if engine.connection.is_none() || !self.status.begin_poll() {
            return;
        }
        let mut polling = Polling {
            status: &self.status,
            engine,
            returned: false,
        };
        let ended = polling.run();
        polling.returned = true;
        if let Some(reason) = ended {
            self.end(polling.engine, &reason);
            self.status.finish();
        }
    }
}

/// A poll under way. Its end is published even if the poll panics.
struct Polling<'a> {
    status: &'a Status,
    engine: &'a mut Engine,
    /// Whether the poll came back. Asking whether the thread panics would not do:
    /// connections are also given back while something else unwinds.
    returned: bool,
}

impl Polling<'_> {
    /// Returns why the connection ended, if it did.
    fn run(&mut self) -> Option<String> {
        let Engine {
            connection,
            listener,
            waker,
            ..
        } = &mut *self.engine;
        let connection = connection.as_mut()?;
        let mut cx = Context::from_waker(waker);
        for _ in 0..MESSAGES_PER_POLL {
            match connection(&mut cx) {
                Poll::Pending => return None,
                Poll::Ready(Some(Ok(AsyncMessage::Notice(notice)))) => log(&notice),
                Poll::Ready(Some(Ok(AsyncMessage::Notification(notification)))) => match listener {
                    None => self.status.add_dirt(Dirt::SESSION),
                    Some(listener) => listener(notification),
                },
                Poll::Ready(Some(Ok(_))) => {}
                Poll::Ready(Some(Err(error))) => return Some(Chain(&error).to_string()),
                Poll::Ready(None) => return Some("closed by this side".to_owned()),
            }
        }
        waker.wake_by_ref();
        None
    }
}

impl Drop for Polling<'_> {
    fn drop(&mut self) {
        if !self.returned {
            self.status.finish();
            // The task finds the mutex poisoned and buries what is left.
            self.status.task.wake();
        }
        self.status.end_poll(&mut self.engine.published);
    }
}

fn log(notice: &DbError) {
    let code = notice.code().code();
    match notice.parsed_severity() {
        Some(Severity::Debug | Severity::Log | Severity::Info | Severity::Notice) => {
            tracing::debug!(code, "{}", notice.message());
        }
        _ => tracing::warn!(code, "{}", notice.message()),
    }
}

/// The task that polls when nobody else does.
struct Task(Arc<Driver>);

impl Future for Task {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let driver = &self.0;
        driver.status.task.register(cx.waker());
        let Some(mut engine) = driver.lock() else {
            return Poll::Ready(());
        };
        driver.turn(&mut engine);
        if engine.connection.is_none() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Task {
    /// Without it nobody would poll any more: the runtime shuts down.
    fn drop(&mut self) {
        if let Some(mut engine) = self.0.lock() {
            self.0.end(&mut engine, "its runtime shut down");
            self.0.status.finish();
        }
    }
}

/// What is known of a connection, and how to find out more. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link(Arc<Driver>);

impl Link {
    /// Spawns the driver of a connection whose innermost plain stream is a tap
    /// with that `status`.
    fn spawn<S, T>(mut connection: Connection<Tap<S>, T>, status: Arc<Status>) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let engine = Engine {
            connection: Some(Box::new(move |cx| connection.poll_message(cx))),
            socket: None,
            listener: None,
            waker: Waker::from(Arc::clone(&status)),
            published: 0,
        };
        let driver = Driver {
            status,
            engine: Mutex::new(engine),
            home: Handle::current().id(),
            death: OnceLock::new(),
        };
        let link = Self(Arc::new(driver));
        tokio::spawn(Task(Arc::clone(&link.0)));
        // So that the first verdict is already a useful one.
        link.poll_inline();
        link
    }

    /// From now on notifications go to `listener`, which is called while the
    /// connection is polled and must not block. Without one they are dropped and
    /// count as session dirt, as the session must be listening.
    pub(crate) fn hear_with(&self, listener: Box<Listener>) {
        if let Some(mut engine) = self.0.lock() {
            engine.listener = Some(listener);
        }
    }

    /// Gives another handle to the connection's socket, for [`has_news`](Self::has_news).
    pub(crate) fn look_at(&self, socket: socket2::Socket) {
        if let Some(mut engine) = self.0.lock()
            && engine.connection.is_some()
        {
            engine.socket = Some(socket);
        }
    }

    /// Whether the socket has something that nobody has read yet, be it its end. Only asked away from the runtime that
    /// reads it: at home, what has arrived is read as soon as the runtime looks, and here it would be a system call.
    pub(crate) fn has_news(&self) -> bool {
        if Handle::try_current().is_ok_and(|here| here.id() == self.0.home) {
            return false;
        }
        let Ok(engine) = self.0.engine.try_lock() else {
            // It is being read.
            return false;
        };
        let mut byte = [MaybeUninit::uninit()];
        let socket = engine.socket.as_ref();
        // "Would block" is the good answer.
        socket.is_some_and(|socket| match socket.peek(&mut byte) {
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
            Ok(_) => true,
        })
    }

    /// How the connection stands. A load and a comparison.
    pub(crate) fn verdict(&self) -> Verdict {
        self.0.status.verdict()
    }

    /// Polls the connection here and now if something woke it and nobody else is
    /// polling it. Does not block; may be called outside a runtime.
    pub(crate) fn poll_inline(&self) -> Verdict {
        let verdict = self.verdict();
        if verdict != Verdict::Busy {
            return verdict;
        }
        match self.0.engine.try_lock() {
            Ok(mut engine) => {
                // A task that has used up its share of the runtime's budget is
                // told "nothing to read", which is not what we want to know.
                let turn = pin!(tokio::task::unconstrained(poll_fn(|_| {
                    self.0.turn(&mut engine);
                    Poll::Ready(())
                })));
                let _ready = turn.poll(&mut Context::from_waker(Waker::noop()));
            }
            Err(TryLockError::Poisoned(poisoned)) => self.0.bury(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {}
        }
        self.verdict()
    }

    /// Waits until the verdict is not [`Verdict::Busy`], and returns it; at the
    /// deadline, returns it as it is.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn settle(&self, deadline: Instant) -> Verdict {
        self.wait(deadline, |verdict| verdict != Verdict::Busy).await
    }

    /// Waits until the connection is quiet or broken, and returns the verdict; at
    /// the deadline, returns it as it is.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn wait_quiet(&self, deadline: Instant) -> Verdict {
        let done = |verdict| matches!(verdict, Verdict::Quiet { .. } | Verdict::Broken);
        self.wait(deadline, done).await
    }

    async fn wait(&self, deadline: Instant, done: impl Fn(Verdict) -> bool) -> Verdict {
        let verdict = self.poll_inline();
        if done(verdict) {
            return verdict;
        }
        let change = self.until(|status| done(status.verdict()));
        // Whether in time or not, the answer is the same: how it stands.
        let _in_time = timeout_at(deadline, change).await;
        self.verdict()
    }

    async fn until(&self, done: impl Fn(&Status) -> bool) {
        let status = &self.0.status;
        loop {
            let mut changed = pin!(status.changed.notified());
            changed.as_mut().enable();
            status.expect_change();
            if done(status) {
                return;
            }
            changed.await;
        }
    }

    /// Whether the connection can no longer be used.
    pub(crate) fn is_broken(&self) -> bool {
        self.verdict() == Verdict::Broken
    }

    /// Why the connection ended, once it has.
    pub(crate) fn death(&self) -> Option<Arc<str>> {
        self.0.death.get().cloned()
    }

    /// The SQLSTATE of the last error the server sent since this was last asked,
    /// whoever it was delivered to; one about the server itself comes before
    /// those about statements.
    pub(crate) fn take_error(&self) -> Option<SqlStateCode> {
        self.0.status.take_error()
    }

    /// Whether the connection has ended because it was idle for too long, so that nothing unanswered was begun.
    pub(crate) fn ended_idle(&self) -> bool {
        let last = self.0.status.error();
        last.is_some_and(|code| ends_idle_session(code.as_str()))
    }

    /// Whether prepared statements may have gone, or appeared, behind the back of those who cache them,
    /// since this was last asked. The dirt stays.
    pub(crate) fn take_stale(&self) -> bool {
        self.0.status.take_stale()
    }

    /// Notes what the wire will not show. Before the command that does it is sent.
    pub(crate) fn add_dirt(&self, dirt: Dirt) {
        self.0.status.add_dirt(dirt);
    }

    /// Forgets dirt that has been cleaned up. Only after a quiet verdict, and
    /// [`Dirt::UNPROVEN`] is not forgotten but disproved.
    pub(crate) fn clear_dirt(&self, dirt: Dirt) {
        self.0.status.clear_dirt(dirt);
    }

    /// Tells that so many commands that have completed left nothing in the session, although their tags speak of a
    /// change.
    pub(crate) fn excuse(&self, claims: u32) {
        self.0.status.excuse(claims);
    }

    /// Forgets [`Dirt::CLAIMED`] if all of it is [excused](Self::excuse), and gives the verdict. Only after a quiet one.
    pub(crate) fn settle_claims(&self) -> Verdict {
        self.0.status.settle_claims();
        self.verdict()
    }

    /// The backend's process id, as in `pg_stat_activity`.
    pub(crate) fn process_id(&self) -> u32 {
        self.0.status.process_id()
    }

    /// Waits until the connection has ended. After its client was dropped this is
    /// when the backend has exited: put a deadline round it and [`abort`] then.
    ///
    /// # Cancel safety
    /// Safe.
    ///
    /// [`abort`]: Self::abort
    pub(crate) async fn closed(&self) {
        self.until(Status::is_finished).await;
    }

    /// Closes the socket without a word. What runs on the server goes on until it
    /// notices.
    pub(crate) fn abort(&self) {
        if let Some(mut engine) = self.0.lock() {
            self.0.end(&mut engine, "closed by this side");
            self.0.status.finish();
        }
        // It has nothing left to do, but cannot know.
        self.0.status.task.wake();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("process_id", &self.process_id())
            .field("verdict", &self.verdict())
            .field("death", &self.death())
            .finish()
    }
}
