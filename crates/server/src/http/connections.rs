//! The open connections of the server: counted by core, and told when to end.
//!
//! Invariant: `open` counts exactly the [`ConnectionPermit`]s alive on each core, and the phase only moves forward.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering::AcqRel, Ordering::Acquire, Ordering::Release};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::sync::futures::Notified;

/// How long the tasks of cut connections have to run their destructors.
const CUT_GRACE: Duration = Duration::from_secs(1);

/// What connections do at this stage of the server's life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ServerPhase {
    /// Serve requests.
    Serving,
    /// Serve requests, and close each connection with its next response, so that clients and load balancers move to
    /// another instance without an error.
    Leaving,
    /// Finish requests in flight, accept no new ones.
    Draining,
    /// End now.
    Cut,
}

/// How the connections that were open at the shutdown ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Drained {
    /// Connections that ended by themselves, their requests answered.
    pub finished: usize,
    /// Connections that were still busy at the drain timeout, and were closed.
    pub cut: usize,
}

/// Counts connections and tells them the server's phase.
#[derive(Debug)]
pub(super) struct Connections {
    phase: AtomicU8,
    /// Open connections, by core.
    open: Box<[AtomicUsize]>,
    /// Wakes every connection once, when [`ServerPhase::Draining`] begins.
    draining: Notify,
    /// Wakes every connection once, when [`ServerPhase::Cut`] begins.
    cut: Notify,
    /// Wakes the drain when a core's last connection has ended.
    emptied: Notify,
}

impl Connections {
    pub(super) fn new(cores: usize) -> Arc<Self> {
        Arc::new(Self {
            phase: AtomicU8::new(ServerPhase::Serving as u8),
            open: (0..cores).map(|_| AtomicUsize::new(0)).collect(),
            draining: Notify::new(),
            cut: Notify::new(),
            emptied: Notify::new(),
        })
    }

    pub(super) fn phase(&self) -> ServerPhase {
        match self.phase.load(Acquire) {
            0 => ServerPhase::Serving,
            1 => ServerPhase::Leaving,
            2 => ServerPhase::Draining,
            _ => ServerPhase::Cut,
        }
    }

    /// Returns futures that resolve when the drain and the cut begin. A future that has not been polled misses the
    /// signal, so read [`Connections::phase`] after the first poll of both.
    pub(super) fn signals(&self) -> (Notified<'_>, Notified<'_>) {
        (self.draining.notified(), self.cut.notified())
    }

    /// Admits a connection to the core that has the fewest; `None` if `limit` connections are open.
    ///
    /// Only the accept loop may call this: between counting and adding, nobody else may add.
    pub(super) fn admit(self: &Arc<Self>, limit: usize) -> Option<ConnectionPermit> {
        let mut open = 0;
        let counts = self.open.iter().map(|count| count.load(Acquire));
        let counts = counts.inspect(|count| open += count).enumerate();
        let (core, _) = counts.min_by_key(|(_, count)| *count)?;
        if open >= limit {
            return None;
        }
        self.open[core].fetch_add(1, AcqRel);
        Some(ConnectionPermit {
            connections: Arc::clone(self),
            core,
        })
    }

    /// The open connections of all cores.
    pub(super) fn count(&self) -> usize {
        self.open.iter().map(|count| count.load(Acquire)).sum()
    }

    async fn until_empty(&self) {
        while self.count() != 0 {
            self.emptied.notified().await;
        }
    }

    /// From now on every response closes its connection. Idle connections stay open: closing them could meet a request
    /// that is on its way.
    pub(super) fn leave(&self) {
        self.phase.store(ServerPhase::Leaving as u8, Release);
    }

    /// Tells every connection to finish, waits for at most `bound`, then closes the rest.
    pub(super) async fn drain(&self, bound: Duration) -> Drained {
        let open = self.count();
        // The phase before the signal: a connection that misses the signal reads the phase.
        self.phase.store(ServerPhase::Draining as u8, Release);
        self.draining.notify_waiters();
        if tokio::time::timeout(bound, self.until_empty()).await.is_ok() {
            return Drained { finished: open, cut: 0 };
        }
        let cut = self.count();
        self.phase.store(ServerPhase::Cut as u8, Release);
        self.cut.notify_waiters();
        // They end in any case. The wait lets their destructors run before the runtimes stop.
        let _ = tokio::time::timeout(CUT_GRACE, self.until_empty()).await;
        Drained {
            finished: open.saturating_sub(cut),
            cut,
        }
    }
}

/// One open connection among the counted ones; dropping it ends the count.
#[derive(Debug)]
pub(super) struct ConnectionPermit {
    connections: Arc<Connections>,
    core: usize,
}

impl ConnectionPermit {
    pub(super) fn connections(&self) -> &Connections {
        &self.connections
    }

    /// The core that serves the connection.
    pub(super) fn core(&self) -> usize {
        self.core
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        if self.connections.open[self.core].fetch_sub(1, AcqRel) == 1 {
            // The last one of its core, and perhaps of the server.
            self.connections.emptied.notify_one();
        }
    }
}
