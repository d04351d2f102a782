//! How a connection comes back: inspected, then handed over, kept, cleaned or closed.
//!
//! Invariant: only a connection that its manager found clean reaches a waiter or the idle stack.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
};

use crate::{
    Condition, Manager,
    delivery::{Delivery, Sender, refuse_all},
    inner::PoolInner,
    retired::Retired,
    slots::{Live, Released},
};

impl<M: Manager> PoolInner<M> {
    /// Takes a connection back from a caller that had it, whatever its condition.
    #[inline]
    pub(crate) fn give_back(self: &Arc<Self>, mut live: Live<M::Connection>) {
        if self.hooks.after_release.is_none() {
            return self.release(live);
        }
        live.hook_due = true;
        if let Some(live) = self.keep_if_clean(live) {
            self.run_release_hook(live);
        }
    }

    /// Takes a connection back that no caller has used, whatever its condition.
    pub(crate) fn release(self: &Arc<Self>, live: Live<M::Connection>) {
        if let Some(live) = self.keep_if_clean(live) {
            self.release_clean(live);
        }
    }

    /// Returns a connection that needs no work; has it cleaned or closed otherwise.
    #[inline]
    pub(crate) fn keep_if_clean(self: &Arc<Self>, mut live: Live<M::Connection>) -> Option<Live<M::Connection>> {
        // Caught here rather than by a value with a `Drop`, which would move the connection twice more in the common
        // case.
        let inspect = AssertUnwindSafe(|| self.manager.inspect(&mut live.connection));
        let condition = match catch_unwind(inspect) {
            Ok(condition) => condition,
            Err(panic) => {
                self.retire(live, Retired::Broken);
                resume_unwind(panic)
            }
        };
        match condition {
            Condition::Clean | Condition::Unknown => {
                live.unknown = condition == Condition::Unknown;
                return Some(live);
            }
            Condition::Dirty => self.clean(live),
            Condition::Broken => self.retire(live, Retired::Broken),
        }
        None
    }

    pub(crate) fn release_clean(self: &Arc<Self>, live: Live<M::Connection>) {
        // Reading the clock is a good part of the cost of a release, so only a waiter makes it necessary, or the
        // measurement of uses.
        let now = (self.config.time_uses || self.has_waiters()).then(|| self.now());
        let released = self.core().release(live, now);
        self.carry_out(released);
    }

    /// Does what the core decided, without its lock.
    #[inline(always)] // the common case does nothing, and is not worth a call
    pub(crate) fn carry_out(self: &Arc<Self>, released: Released<M::Connection, Sender<M>>) {
        match released {
            Released::Idle { quiesced: false } => {}
            Released::Idle { quiesced: true } => self.state_changed.notify_waiters(),
            Released::Handed { to, live, shed } => {
                self.hand_over(to, live);
                refuse_all(shed, || Delivery::Shed);
            }
            Released::Retired(live) => self.close(live),
            Released::Lost(live) => self.close_lost(live),
        }
    }

    /// Sends a connection to its waiter, or to the next one if the waiter has just given up.
    fn hand_over(self: &Arc<Self>, to: Sender<M>, live: Live<M::Connection>) {
        if let Err(Delivery::Connection(live)) = to.send(Delivery::Connection(live)) {
            self.release_clean(live);
        }
    }
}
