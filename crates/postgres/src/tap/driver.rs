//! Polls a tokio-postgres connection, from a task and inline from code that needs its state at once.
//!
//! Locks: one mutex around the connection, held for one poll and never across an await. The task waits for it; inline
//! polls only try. Under it answers are delivered, which wakes tasks, and notices are logged; neither calls back into
//! this module.
//!
//! Invariant: a wake leaves a mark in the status word, and only a poll removes the mark.

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

/// The number of messages that one poll handles, so that a flood of notices does not keep it from ending.
const MESSAGES_PER_POLL: usize = 128;

type PollMessage = dyn FnMut(&mut Context<'_>) -> Poll<Option<Result<AsyncMessage, tokio_postgres::Error>>> + Send;

/// Receives the notifications of a connection.
pub(crate) type NotificationHandler = dyn FnMut(Notification) + Send;

pub(super) struct Driver {
    pub(super) status: Arc<Status>,
    pub(super) polled: Mutex<PolledConnection>,
    /// The runtime of the task.
    pub(super) runtime: runtime::Id,
    /// Why the connection ended. Set before the end is published.
    pub(super) end_reason: OnceLock<Arc<str>>,
}

pub(super) struct PolledConnection {
    /// The connection. `None` when it has ended.
    pub(super) connection: Option<Box<PollMessage>>,
    /// A handle to its socket, for [`Link::has_unread_input`](super::link::Link::has_unread_input). `None` when the connection has
    /// ended.
    pub(super) socket: Option<socket2::Socket>,
    pub(super) listener: Option<Box<NotificationHandler>>,
    waker: Waker,
    /// The wire bits that were published last.
    published: u32,
}

impl Driver {
    /// Creates the driver of a connection whose plain stream is a tap with this `status`.
    pub(super) fn new<S, T>(mut connection: Connection<Tap<S>, T>, status: Arc<Status>) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let polled = PolledConnection {
            connection: Some(Box::new(move |cx| connection.poll_message(cx))),
            socket: None,
            listener: None,
            waker: Waker::from(Arc::clone(&status)),
            published: 0,
        };
        Self {
            status,
            polled: Mutex::new(polled),
            runtime: Handle::current().id(),
            end_reason: OnceLock::new(),
        }
    }

    pub(super) fn lock(&self) -> Option<MutexGuard<'_, PolledConnection>> {
        self.polled
            .lock()
            .map_err(|poisoned| self.end_after_panic(poisoned.into_inner()))
            .ok()
    }

    /// Ends a connection whose poll panicked: its own state is unknown.
    pub(super) fn end_after_panic(&self, mut polled: MutexGuard<'_, PolledConnection>) {
        self.end(&mut polled, "the connection panicked");
        self.status.finish();
    }

    pub(super) fn end(&self, polled: &mut PolledConnection, reason: &str) {
        self.end_reason.get_or_init(|| reason.into());
        polled.connection = None;
        polled.socket = None;
    }

    /// Polls the connection once, if something woke it since the last poll.
    pub(super) fn poll_once(&self, polled: &mut PolledConnection) {
        if polled.connection.is_none() || !self.status.begin_poll() {
            return;
        }
        let mut polling = Polling {
            status: &self.status,
            polled,
            returned: false,
        };
        let ended = polling.run();
        polling.returned = true;
        if let Some(reason) = ended {
            self.end(polling.polled, &reason);
            self.status.finish();
        }
    }
}

/// A poll in progress. Its end is published even if it panics.
struct Polling<'a> {
    status: &'a Status,
    polled: &'a mut PolledConnection,
    /// Whether the poll returned. `thread::panicking` would not do: a connection may also be returned while another
    /// panic unwinds.
    returned: bool,
}

impl Polling<'_> {
    /// Returns why the connection ended, if it did.
    fn run(&mut self) -> Option<String> {
        let PolledConnection {
            connection,
            listener,
            waker,
            ..
        } = &mut *self.polled;
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
            // The task finds the mutex poisoned and ends the connection.
            self.status.task.wake();
        }
        self.status.end_poll(&mut self.polled.published);
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

/// The task that polls the connection whenever it is woken.
pub(super) struct Task(pub(super) Arc<Driver>);

impl Future for Task {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let driver = &self.0;
        driver.status.task.register(cx.waker());
        let Some(mut polled) = driver.lock() else {
            return Poll::Ready(());
        };
        driver.poll_once(&mut polled);
        if polled.connection.is_none() {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl Drop for Task {
    /// The runtime shuts down. Nothing would poll the connection any more, so it ends.
    fn drop(&mut self) {
        if let Some(mut polled) = self.0.lock() {
            self.0.end(&mut polled, "its runtime shut down");
            self.0.status.finish();
        }
    }
}
