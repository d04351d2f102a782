//! The connections of one server, counted, spread over its cores, and told when to end.
//!
//! Invariant: `live` counts exactly the [`Member`]s alive on each core. The phase only goes forward.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};
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
    /// Serve, and let each answer close its connection, so that clients and balancers move elsewhere without an error.
    Leaving,
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
    /// By core.
    live: Box<[AtomicUsize]>,
    /// Each wakes every connection, once, when its phase has begun.
    draining: Notify,
    cut: Notify,
    /// Wakes the drain when the last connection has gone.
    empty: Notify,
}

impl Fleet {
    pub(super) fn new(cores: usize) -> Arc<Self> {
        Arc::new(Self {
            phase: AtomicU8::new(0),
            live: (0..cores).map(|_| AtomicUsize::new(0)).collect(),
            draining: Notify::new(),
            cut: Notify::new(),
            empty: Notify::new(),
        })
    }

    pub(super) fn phase(&self) -> Phase {
        match self.phase.load(Acquire) {
            0 => Phase::Serving,
            1 => Phase::Leaving,
            2 => Phase::Draining,
            _ => Phase::Cut,
        }
    }

    /// Resolve when the drain, and the cut, begin. Look at [`Fleet::phase`] after polling them once.
    pub(super) fn signals(&self) -> (Notified<'_>, Notified<'_>) {
        (self.draining.notified(), self.cut.notified())
    }

    /// A place for one more connection, on the core that has the fewest, unless `limit` are alive. For the one task
    /// that accepts.
    pub(super) fn join(self: &Arc<Self>, limit: usize) -> Option<Member> {
        let mut live = 0;
        let counts = self.live.iter().map(|count| count.load(Acquire));
        let counts = counts.inspect(|count| live += count).enumerate();
        let (core, _) = counts.min_by_key(|(_, count)| *count)?;
        if live >= limit {
            return None;
        }
        self.live[core].fetch_add(1, AcqRel);
        Some(Member {
            fleet: Arc::clone(self),
            core,
        })
    }

    fn live(&self) -> usize {
        self.live.iter().map(|count| count.load(Acquire)).sum()
    }

    async fn emptied(&self) {
        while self.live() != 0 {
            self.empty.notified().await;
        }
    }

    /// From here on every answer closes its connection. Idle connections stay: closing them would meet requests that
    /// are on their way.
    pub(super) fn leave(&self) {
        self.phase.store(Phase::Leaving as u8, Release);
    }

    /// Tells every connection to finish, waits for them up to `bound`, then cuts the rest.
    pub(super) async fn drain(&self, bound: Duration) -> Drained {
        let open = self.live();
        self.phase.store(Phase::Draining as u8, Release);
        self.draining.notify_waiters();
        if tokio::time::timeout(bound, self.emptied()).await.is_ok() {
            return Drained { finished: open, cut: 0 };
        }
        let cut = self.live();
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
pub(super) struct Member {
    fleet: Arc<Fleet>,
    core: usize,
}

impl Member {
    pub(super) fn fleet(&self) -> &Fleet {
        &self.fleet
    }

    /// The core it is to be served on.
    pub(super) fn core(&self) -> usize {
        self.core
    }
}

impl Drop for Member {
    fn drop(&mut self) {
        if self.fleet.live[self.core].fetch_sub(1, AcqRel) == 1 {
            // The last of its core: perhaps of all.
            self.fleet.empty.notify_one();
        }
    }
}
