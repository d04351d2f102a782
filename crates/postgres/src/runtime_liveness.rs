//! Checks that a runtime on which others rely is still running.
//!
//! Callers on several runtimes can share work that one runtime does. That runtime may end, as at the end of a test, or
//! may exist while no thread runs it.
//!
//! Invariant: a caller on another runtime that waits notices this and does the work itself.

use std::time::Duration;

use tokio::{
    runtime::{self, Handle},
    sync::oneshot,
    time::Instant,
};

/// How long a runtime has to answer, and the pause before it is asked.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// The state of a caller that waits for another runtime and checks it every [`CHECK_INTERVAL`].
pub(crate) struct LivenessCheck {
    asked: Option<(runtime::Id, oneshot::Receiver<()>)>,
    looked: Instant,
}

impl LivenessCheck {
    pub(crate) fn new() -> Self {
        Self {
            asked: None,
            looked: Instant::now(),
        }
    }

    /// Checks a runtime. Returns true if it has ended, or has not run the task of the last check.
    pub(crate) fn is_gone(&mut self, runtime: &Handle) -> bool {
        // If this runtime did not run either, as when the process was stopped, the last check says nothing.
        let stood = self.looked.elapsed() > CHECK_INTERVAL * 2;
        self.looked = Instant::now();
        let asked = self.asked.take().filter(|(id, _)| *id == runtime.id() && !stood);
        let is_silent = asked.is_some_and(|(_, mut answer)| answer.try_recv().is_err());
        let (alive, mut answer) = oneshot::channel();
        runtime.spawn(async move {
            let _nobody_asks = alive.send(());
        });
        // A runtime that has ended drops a new task at once.
        let has_ended = matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        self.asked = Some((runtime.id(), answer));
        is_silent || has_ended
    }
}
