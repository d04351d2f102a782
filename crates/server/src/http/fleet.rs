//! The connections of one server, counted, and told when to end.
//!
//! Invariant: `live` counts exactly the [`Member`]s alive. The phase only goes forward.

use std::sync::Arc;
use std::sync::atomic::{
    AtomicU8, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Release,
};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// How long connections that are cut have to let go of what they hold.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// What connections are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    /// Serve.
    Serving,
    /// Finish what is in flight, take nothing new.
    Draining,
    /// End now.
    Cut,
}

/// How the connections open at shutdown ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that ended by themselves, their requests answered.
    pub finished: usize,
    /// Connections still busy when the bound was reached, and cut.
    pub cut: usize,
}

#[derive(Debug)]
pub(super) struct Fleet {
    phase: AtomicU8,
    live: AtomicUsize,
    /// Each wakes every connection, once, when its phase has begun.
    draining: Notify,
    cut: Notify,
    /// Wakes the drain when the last connection has gone.
    empty: Notify,
}

impl Fleet {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            phase: AtomicU8::new(0),
            live: AtomicUsize::new(0),
            draining: Notify::new(),
            cut: Notify::new(),
            empty: Notify::new(),
        })
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Acquire) {
            0 => Phase::Serving,
            1 => Phase::Draining,
            _ => Phase::Cut,
        }
    }

    /// Resolve when the drain, and the cut, begin. Look at [`Fleet::phase`] after polling them once.
    pub(super) fn signals(&self) -> (Notified<'_>, Notified<'_>) {
        (self.draining.notified(), self.cut.notified())
    }

    /// A place for one more connection, unless `limit` are alive.
    pub(super) fn join(self: &Arc<Self>, limit: usize) -> Option<Member> {
        let member = Member(Arc::clone(self));
        (self.live.fetch_add(1, AcqRel) < limit).then_some(member)
    }

    async fn emptied(&self) {
        while self.live.load(Acquire) != 0 {
            self.empty.notified().await;
        }
    }

    /// Tells every connection to finish, waits for them up to `bound`, then cuts the rest.
    pub(super) async fn drain(&self, bound: Duration) -> Drained {
        let open = self.live.load(Acquire);
        self.phase.store(Phase::Draining as u8, Release);
        self.draining.notify_waiters();
        if tokio::time::timeout(bound, self.emptied()).await.is_ok() {
            return Drained {
                finished: open,
                cut: 0,
            };
        }
        let cut = self.live.load(Acquire);
        self.phase.store(Phase::Cut as u8, Release);
        self.cut.notify_waiters();
        // They are cut either way; waiting lets their destructors run first.
        let _ = tokio::time::timeout(CUT_GRACE, self.emptied()).await;
        Drained {
            finished: open.saturating_sub(cut),
            cut,
        }
    }
}

/// One connection's place in the fleet, given up on drop.
#[derive(Debug)]
pub(super) struct Member(Arc<Fleet>);

impl Member {
    pub(super) fn fleet(&self) -> &Fleet {
        &self.0
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.0.live.fetch_sub(1, AcqRel) == 1 {
            self.0.empty.notify_one();
        }
    }
}
