//! Polls a tokio-postgres connection: from a task, and inline by whoever needs
//! to know at once how it stands.
//!
//! Locks: one mutex around the connection, held for one poll and never across an
//! await. The task waits for it, inline polls only try. Handing out an answer
//! wakes tasks under it, and notices are logged under it; neither comes back here.
//!
//! Invariant: whoever wakes the connection leaves a mark in the status word, and
//! the mark only goes away by polling.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::task::{Context, Poll, Waker};

use cenote_pool::Chain;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::runtime::{self, Handle};
use tokio_postgres::error::{DbError, Severity};
use tokio_postgres::{AsyncMessage, Connection, Notification};

use super::status::{Dirt, Status};
use super::stream::Tap;

/// Messages handled before others get their turn, so that a flood of notices
/// does not keep a poll from ending.
const MESSAGES_PER_POLL: usize = 128;

type PollMessage = dyn FnMut(&mut Context<'_>) -> Poll<Option<Result<AsyncMessage, tokio_postgres::Error>>> + Send;

/// What hears the notifications of a connection.
pub(crate) type NotificationHandler = dyn FnMut(Notification) + Send;

pub(super) struct Driver {
    pub(super) status: Arc<Status>,
    pub(super) engine: Mutex<Engine>,
    /// Where the task lives.
    pub(super) home: runtime::Id,
    /// Why the connection ended; set before anybody can see that it has.
    pub(super) death: OnceLock<Arc<str>>,
}

pub(super) struct Engine {
    /// The connection, whatever its stream; gone when it has ended.
    pub(super) connection: Option<Box<PollMessage>>,
    /// Its socket, see [`Link::look_at`]; goes with it.
    pub(super) socket: Option<socket2::Socket>,
    pub(super) listener: Option<Box<NotificationHandler>>,
    waker: Waker,
    /// The wire bits the status word shows.
    published: u32,
}

impl Driver {
    /// The driver of a connection whose innermost plain stream is a tap with that `status`.
    pub(super) fn new<S, T>(mut connection: Connection<Tap<S>, T>, status: Arc<Status>) -> Self
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
        Self {
            status,
            engine: Mutex::new(engine),
            home: Handle::current().id(),
            death: OnceLock::new(),
        }
    }

    pub(super) fn lock(&self) -> Option<MutexGuard<'_, Engine>> {
        self.engine
            .lock()
            .map_err(|poisoned| self.bury(poisoned.into_inner()))
            .ok()
    }

    /// A poll panicked, so the connection's own state is anyone's guess.
    pub(super) fn bury(&self, mut engine: MutexGuard<'_, Engine>) {
        self.end(&mut engine, "the connection panicked");
        self.status.finish();
    }

    pub(super) fn end(&self, engine: &mut Engine, reason: &str) {
        self.death.get_or_init(|| reason.into());
        engine.connection = None;
        engine.socket = None;
    }

    /// One poll of the connection, if anything woke it since the last.
    pub(super) fn turn(&self, engine: &mut Engine) {
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
pub(super) struct Task(pub(super) Arc<Driver>);

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
