//! Who asks for a connection, and who has one. Invariant: known without asking anyone, from the
//! call itself, so that it costs next to nothing.

use std::{fmt, panic::Location, time::Duration};

use tokio::task;

/// One of the runtimes that a pool's connections live on, by its place among them.
pub(crate) type HomeId = usize;

/// A call that asks for a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) at: &'static Location<'static>,
    pub(crate) task: Option<task::Id>,
    /// Whose connections it prefers.
    pub(crate) home: HomeId,
}

impl Caller {
    /// The call at this source line, from the task that is running.
    pub(crate) fn new(at: &'static Location<'static>, home: HomeId) -> Self {
        let task = task::try_id();
        Self { at, task, home }
    }

    pub(crate) fn holding(self, held: Duration) -> Holder {
        Holder {
            caller: self.at,
            held,
            task: self.task,
        }
    }
}

/// Who has a connection, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Where in the source it was asked for.
    pub caller: &'static Location<'static>,
    /// For how long, to within a second.
    pub held: Duration,
    /// Which tokio task asked for it. `None` if it was none, such as the future given to
    /// `block_on`.
    pub task: Option<task::Id>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} s, since {}", self.held.as_secs_f64(), self.caller)?;
        match self.task {
            Some(task) => write!(f, " in task {task}"),
            None => Ok(()),
        }
    }
}
