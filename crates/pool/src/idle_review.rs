//! Looks at every idle connection, for the pool or its user. Invariant: only one at a time is off the idle stack, so that
//! callers find the others.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
};

use crate::{ConnectionInfo, ConnectionState, Manager, inner::PoolInner, retired::Retired, slots::Live};

impl<M: Manager> PoolInner<M> {
    /// Inspects every idle connection.
    pub(crate) fn inspect_idle(self: &Arc<Self>) {
        self.review_idle(|_| Ok(()));
    }

    /// Inspects every idle connection, and closes those that are not to be kept. Returns their number.
    pub(crate) fn retain(self: &Arc<Self>, mut keep: impl FnMut(&mut M::Connection, ConnectionInfo) -> bool) -> usize {
        let mut closed = 0;
        self.review_idle(|live| {
            let mut info = self.describe(live.slot);
            (info.state, info.idle) = (ConnectionState::Idle, live.idle_for(self.now()));
            let kept = catch_unwind(AssertUnwindSafe(|| keep(&mut live.connection, info)));
            closed += usize::from(matches!(kept, Ok(false)));
            match kept {
                Ok(true) => Ok(()),
                Ok(false) => Err(None),
                Err(panic) => Err(Some(panic)),
            }
        });
        closed
    }

    /// Inspects every idle connection and then asks `review`. After an error the connection is closed, and a panic goes on.
    fn review_idle(
        self: &Arc<Self>,
        mut review: impl FnMut(&mut Live<M::Connection>) -> Result<(), Option<Box<dyn std::any::Any + Send>>>,
    ) {
        let idle = self.core().idle();
        for slot in idle {
            let inspected = self.core().begin_inspection(slot);
            let Some(mut live) = inspected.and_then(|live| self.keep_if_clean(live)) else {
                continue;
            };
            match review(&mut live) {
                Ok(()) => {
                    let now = self.now();
                    let released = self.core().end_inspection(live, now);
                    self.carry_out(released);
                }
                Err(panic) => {
                    self.retire(live, Retired::Discarded);
                    if let Some(panic) = panic {
                        resume_unwind(panic);
                    }
                }
            }
        }
    }
}
