//! Who asks for a connection, and who holds one.
//!
//! Invariant: everything here is known from the call itself, so recording it costs next to nothing.

use std::{fmt, panic::Location, time::Duration};

use tokio::task;

/// The position of a runtime in the list that the pool was built with.
pub(crate) type RuntimeIndex = usize;

/// A call that asks for a connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller {
    pub(crate) at: &'static Location<'static>,
    pub(crate) task: Option<task::Id>,
    /// The runtime whose connections this caller prefers.
    pub(crate) runtime: RuntimeIndex,
}

impl Caller {
    /// The call at this source line, from the task that is running.
    pub(crate) fn new(at: &'static Location<'static>, runtime: RuntimeIndex) -> Self {
        let task = task::try_id();
        Self { at, task, runtime }
    }

    pub(crate) fn holding(self, held: Duration) -> Holder {
        Holder {
            caller: self.at,
            held,
            task: self.task,
        }
    }
}

/// How a caller got its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Acquisition {
    /// The source line that asked for the connection.
    pub caller: &'static Location<'static>,
    /// How long the caller waited; zero if a connection was idle.
    pub waited: Duration,
}

impl Acquisition {
    /// Describes an acquire. For tests of managers: a pool makes its own.
    #[inline]
    pub fn new(caller: &'static Location<'static>, waited: Duration) -> Self {
        Self { caller, waited }
    }
}

/// A caller that holds a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// The source line that asked for the connection.
    pub caller: &'static Location<'static>,
    /// How long the caller has held it: exactly with [`Config::time_uses`](crate::Config::time_uses), or else to within a
    /// second.
    pub held: Duration,
    /// The tokio task that asked for it. `None` outside a task, as in the future given to `block_on`.
    pub task: Option<task::Id>,
}

impl Holder {
    /// Describes a caller outside a task. For tests of code that shows holders: a pool makes its own.
    pub fn new(caller: &'static Location<'static>, held: Duration) -> Self {
        Self {
            caller,
            held,
            task: None,
        }
    }
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
