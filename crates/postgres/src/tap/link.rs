//! The owner's view of a connection's state.
//!
//! Invariant: everything sent on a connection before [`Link::verdict`] is called is accounted for in its answer.

use std::{
    fmt,
    future::{Future, poll_fn},
    mem::MaybeUninit,
    pin::pin,
    sync::{Arc, TryLockError},
    task::{Context, Poll, Waker},
};

use tokio::{
    io::{AsyncRead, AsyncWrite},
    runtime::Handle,
    time::{Instant, timeout_at},
};
use tokio_postgres::Connection;

use super::{
    driver::{Driver, NotificationHandler, Task},
    status::{Dirt, SqlStateCode, Status, Verdict},
    stream::Tap,
};
use crate::error::ends_idle_session;

/// A handle to the state of a connection. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link(Arc<Driver>);

impl Link {
    /// Spawns the driver of a connection whose plain stream is a tap with this `status`.
    pub(super) fn spawn<S, T>(connection: Connection<Tap<S>, T>, status: Arc<Status>) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let link = Self(Arc::new(Driver::new(connection, status)));
        tokio::spawn(Task(Arc::clone(&link.0)));
        // Poll once, so that the first verdict is not `Busy`.
        link.poll_inline();
        link
    }

    /// Sends notifications to `listener` from now on. It is called during a poll and must not block. Without a
    /// listener, notifications are dropped and count as session dirt, because the session must be listening.
    pub(crate) fn set_notification_handler(&self, listener: Box<NotificationHandler>) {
        if let Some(mut polled) = self.0.lock() {
            polled.listener = Some(listener);
        }
    }

    /// Sets another handle to the connection's socket, for [`has_unread_input`](Self::has_unread_input).
    pub(crate) fn set_socket(&self, socket: socket2::Socket) {
        if let Some(mut polled) = self.0.lock()
            && polled.connection.is_some()
        {
            polled.socket = Some(socket);
        }
    }

    /// Whether the socket has unread data or has ended. Returns false on the runtime that reads the socket: there data
    /// is read as soon as it arrives, and the look would cost a system call.
    pub(crate) fn has_unread_input(&self) -> bool {
        if Handle::try_current().is_ok_and(|here| here.id() == self.0.runtime) {
            return false;
        }
        let Ok(polled) = self.0.polled.try_lock() else {
            // Another thread is reading it.
            return false;
        };
        let mut byte = [MaybeUninit::uninit()];
        let socket = polled.socket.as_ref();
        // "Would block" means that there is nothing to read.
        socket.is_some_and(|socket| match socket.peek(&mut byte) {
            Err(error) => error.kind() != std::io::ErrorKind::WouldBlock,
            Ok(_) => true,
        })
    }

    /// Returns the verdict. A load and a comparison.
    pub(crate) fn verdict(&self) -> Verdict {
        self.0.status.verdict()
    }

    /// Polls the connection now, if something woke it and no other thread polls it. Does not block, and may be called
    /// outside a runtime.
    pub(crate) fn poll_inline(&self) -> Verdict {
        let verdict = self.verdict();
        if verdict != Verdict::Busy {
            return verdict;
        }
        match self.0.polled.try_lock() {
            Ok(mut polled) => {
                // A task that has used up its budget is told "nothing to read" by tokio, which would be wrong here.
                let turn = pin!(tokio::task::unconstrained(poll_fn(|_| {
                    self.0.poll_once(&mut polled);
                    Poll::Ready(())
                })));
                let _ready = turn.poll(&mut Context::from_waker(Waker::noop()));
            }
            Err(TryLockError::Poisoned(poisoned)) => self.0.end_after_panic(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => {}
        }
        self.verdict()
    }

    /// Waits until the verdict is not [`Verdict::Busy`], or until the deadline. Returns the verdict.
    ///
    /// # Cancel safety
    /// Safe.
    pub(crate) async fn settle(&self, deadline: Instant) -> Verdict {
        self.wait(deadline, |verdict| verdict != Verdict::Busy).await
    }

    /// Waits until the connection is quiet or broken, or until the deadline. Returns the verdict.
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
        // In time or not, the current verdict is the answer.
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

    /// Returns why the connection ended, if it has.
    pub(crate) fn end_reason(&self) -> Option<Arc<str>> {
        self.0.end_reason.get().cloned()
    }

    /// Takes the SQLSTATE of the last error that the server sent on this connection. An error about the server is
    /// preferred to one about a statement.
    pub(crate) fn take_error(&self) -> Option<SqlStateCode> {
        self.0.status.take_error()
    }

    /// Whether the server ended the session because it was idle for too long. An unanswered command was not begun then.
    pub(crate) fn ended_idle(&self) -> bool {
        let last = self.0.status.error();
        last.is_some_and(|code| ends_idle_session(code.as_str()))
    }

    /// Whether, since the last call, prepared statements may have been dropped or created without the statement cache.
    /// The dirt remains.
    pub(crate) fn take_stale(&self) -> bool {
        self.0.status.take_stale()
    }

    /// Adds dirt that the wire will not show. Call it before the command is sent.
    pub(crate) fn add_dirt(&self, dirt: Dirt) {
        self.0.status.add_dirt(dirt);
    }

    /// Clears dirt. Only after a quiet verdict; [`Dirt::UNPROVEN`] is not cleared by this but by the next statement.
    pub(crate) fn clear_dirt(&self, dirt: Dirt) {
        self.0.status.clear_dirt(dirt);
    }

    /// Excuses `claims` completed commands that changed nothing in the session, although their tags are those of a
    /// change.
    pub(crate) fn excuse(&self, claims: u32) {
        self.0.status.excuse(claims);
    }

    /// Clears [`Dirt::CLAIMED`] if all of it is [excused](Self::excuse), and returns the verdict. Only after a quiet
    /// verdict.
    pub(crate) fn settle_claims(&self) -> Verdict {
        self.0.status.settle_claims();
        self.verdict()
    }

    /// Returns the process id of the server, as in `pg_stat_activity`.
    pub(crate) fn process_id(&self) -> u32 {
        self.0.status.process_id()
    }

    /// Waits until the connection has ended. After its client was dropped, that is when the server process has exited.
    /// Set a timeout around it, and call [`abort`] then.
    ///
    /// # Cancel safety
    /// Safe.
    ///
    /// [`abort`]: Self::abort
    pub(crate) async fn closed(&self) {
        self.until(Status::is_finished).await;
    }

    /// Closes the socket without sending Terminate. A running statement continues until the server notices.
    pub(crate) fn abort(&self) {
        if let Some(mut polled) = self.0.lock() {
            self.0.end(&mut polled, "closed by this side");
            self.0.status.finish();
        }
        // Wakes the task, so that it ends.
        self.0.status.task.wake();
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("process_id", &self.process_id())
            .field("verdict", &self.verdict())
            .field("end_reason", &self.end_reason())
            .finish()
    }
}
