//! The state of a pool as a whole: start, resize, pause, resume, end. The core's part is in `slots/pool_state.rs`.
//!
//! Invariant: whatever changes the pool's state notifies `state_changed`, so a wait for a state ends when it is
//! reached.

use std::sync::Arc;

use crate::{
    Config, Hooks, InvalidConfig, Limits, Manager,
    delivery::{Delivery, refuse_all},
    inner::{Core, PoolInner},
    runtime_binding::liveness::probe_maintenance,
    shim::Handle,
    slots::Slots,
};

impl<M: Manager> PoolInner<M> {
    pub(crate) fn start(manager: M, config: Config, hooks: Hooks<M>, runtimes: Vec<Handle>) -> Arc<Self> {
        let inner = Arc::new(Self::new(manager, config, hooks, runtimes));
        inner.bind_runtimes();
        inner.connect_due();
        inner
    }

    /// Changes the limits, closes connections that are too many and opens those that are missing.
    pub(crate) fn resize(self: &Arc<Self>, limits: Limits) -> Result<(), InvalidConfig> {
        let excess = {
            let mut core = self.core();
            let resized = core.config().resized(limits)?;
            core.resize(resized)
        };
        for live in excess {
            self.close(live);
        }
        self.connect_due();
        // The warm minimum may have changed, so a wait for it may be over.
        self.state_changed.notify_waiters();
        Ok(())
    }

    /// Closes the idle connections, and has the others closed when they are released.
    pub(crate) fn replace_all(self: &Arc<Self>) {
        let now = self.now();
        let idle = self.core().replace_all(now);
        for live in idle {
            self.close(live);
        }
        self.connect_due();
        self.state_changed.notify_waiters();
    }

    pub(crate) fn resume(self: &Arc<Self>) {
        let now = self.now();
        let released = self.core().resume(now);
        for released in released {
            self.carry_out(released);
        }
        self.connect_due();
        self.wake_maintenance.notify_one();
        self.state_changed.notify_waiters();
    }

    /// Ends the pool. Completes when every connection is closed.
    pub(crate) async fn shut(self: &Arc<Self>, serve_waiters: bool) {
        let now = self.now();
        let (released, refused) = self.core().shut(serve_waiters, now);
        refuse_all(refused, || Delivery::Closed);
        for released in released {
            self.carry_out(released);
        }
        self.connect_due();
        self.wake_maintenance.notify_one();
        // Also for an earlier call, if this one has emptied the queue that it waits for.
        self.state_changed.notify_waiters();
        self.until(Slots::is_terminated).await;
    }

    /// Completes when the pool has reached a state.
    pub(crate) async fn until(self: &Arc<Self>, is_reached: impl Fn(&Core<M>) -> bool) {
        self.maintenance_runtime();
        let reaching = async {
            loop {
                // Enabled before the look: a notification between the look and the await would be lost otherwise.
                let mut changed = std::pin::pin!(self.state_changed.notified());
                changed.as_mut().enable();
                if is_reached(&self.core()) {
                    return;
                }
                changed.await;
            }
        };
        if !self.needs_probing() {
            return reaching.await;
        }
        tokio::select! {
            biased;
            () = reaching => {}
            () = probe_maintenance(Arc::downgrade(self), None) => {}
        }
    }
}
