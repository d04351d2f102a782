//! Which tokio runtimes a pool uses: the one its maintenance task runs on, and those its connections live on.
//!
//! Invariant: a bound runtime has a sentinel exactly while it is known to be alive.

use std::time::Duration;

use tokio::sync::oneshot;

use crate::shim::Handle;

/// The runtimes of a pool.
pub(crate) struct Runtimes {
    /// Where the maintenance task runs. `None` once it ended with its runtime.
    pub(crate) maintenance: Option<Handle>,
    /// How often the maintenance task was started. Tells the current one from its predecessors, which may still report
    /// their end.
    pub(crate) generation: u64,
    /// The maintenance task is being spawned, which may reveal that the runtime has ended.
    pub(crate) is_starting: bool,
    /// In the order in which the pool was given them.
    pub(crate) bound: Box<[BoundRuntime]>,
    /// The earliest time at which a caller that does not wait for the pool may start the next liveness probe.
    pub(crate) next_probe: Duration,
}

/// A runtime that connections live on.
pub(crate) struct BoundRuntime {
    pub(crate) handle: Handle,
    /// Dropping it ends the sentinel task. `None` if the runtime has ended, or does not run and was replaced.
    pub(crate) sentinel: Option<oneshot::Sender<()>>,
    /// How often a sentinel was started.
    pub(crate) generation: u64,
    /// The sentinel is being spawned, which may reveal that the runtime has ended.
    pub(crate) is_starting: bool,
}

impl Runtimes {
    pub(crate) fn new(handles: Vec<Handle>) -> Self {
        let bound = |handle| BoundRuntime {
            handle,
            sentinel: None,
            generation: 0,
            is_starting: false,
        };
        Self {
            maintenance: None,
            generation: 0,
            is_starting: false,
            bound: handles.into_iter().map(bound).collect(),
            next_probe: Duration::ZERO,
        }
    }

    pub(crate) fn living(&self) -> Vec<Handle> {
        let living = self.bound.iter().filter(|bound| bound.sentinel.is_some());
        living.map(|bound| bound.handle.clone()).collect()
    }
}
