//! What the owner of a connection knows of it, and how to find out more.
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

/// What is known of a connection, and how to find out more. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Link(Arc<Driver>);

impl Link {
    /// Spawns the driver of a connection whose innermost plain stream is a tap
    /// with that `status`.
    pub(super) fn spawn<S, T>(connection: Connection<Tap<S>, T>, status: Arc<Status>) -> Self
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let link = Self(Arc::new(Driver::new(connection, status)));
        tokio::spawn(Task(Arc::clone(&link.0)));
        // So that the first verdict is already a useful one.
        link.poll_inline();
        link
    }

    /// From now on notifications go to `listener`, which is called while the
    /// connection is polled and must not block. Without one they are dropped and
    /// count as session dirt, as the session must be listening.
    pub(crate) fn hear_with(&self, listener: Box<NotificationHandler>) {
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
