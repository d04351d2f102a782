//! Whether a runtime that others rely on is still there, and run by someone.
//!
//! Work for callers on several runtimes is done on one of them. That one may end, as at the end of a test, or live on
//! without anyone who runs it. Invariant: whoever waits elsewhere looks, and does the work itself if it has to.

use std::time::Duration;

use tokio::{
    runtime::{self, Handle},
    sync::oneshot,
    time::Instant,
};

/// How long a runtime has to give a sign of life, and how long is waited before it is asked for one.
pub(crate) const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// One who waits for work on another runtime, and looks after it every [`CHECK_INTERVAL`].
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

    /// Looks at a runtime: true if it has ended, or has given no sign of life since the last look.
    pub(crate) fn is_gone(&mut self, home: &Handle) -> bool {
        // If this runtime was not run either, as when the process was stopped, that says nothing about the other.
        let stood = self.looked.elapsed() > CHECK_INTERVAL * 2;
        self.looked = Instant::now();
        let asked = self.asked.take().filter(|(id, _)| *id == home.id() && !stood);
        let is_silent = asked.is_some_and(|(_, mut answer)| answer.try_recv().is_err());
        let (alive, mut answer) = oneshot::channel();
        home.spawn(async move {
            let _nobody_asks = alive.send(());
        });
        // A runtime that has ended drops a task at once.
        let has_ended = matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed));
        self.asked = Some((home.id(), answer));
        is_silent || has_ended
    }
}
