//! The task that closes a connection. Invariant: a slot is freed exactly once, when the close is confirmed or given up.

use std::{sync::Arc, time::Duration};

use crate::{
    Manager,
    inner::PoolInner,
    retired::Retired,
    shim::timeout,
    slots::{Live, SlotId},
};

/// How long to wait for the close of a connection whose runtime is gone. Its socket has no reactor any more, so a
/// confirmation cannot arrive; the manager only gets the chance to drop it.
const LOST_CLOSE_TIMEOUT: Duration = Duration::from_millis(50);

impl<M: Manager> PoolInner<M> {
    /// Closes an open connection, counting the reason.
    pub(crate) fn retire(self: &Arc<Self>, live: Live<M::Connection>, reason: Retired) {
        self.core_now().retire(live.slot, reason);
        self.close(live);
    }

    /// Closes a connection whose slot is closing already.
    pub(crate) fn close(self: &Arc<Self>, live: Live<M::Connection>) {
        self.close_within(live, self.config.close_timeout, true);
    }

    /// Closes a connection whose runtime has ended or is not run.
    pub(crate) fn close_lost(self: &Arc<Self>, live: Live<M::Connection>) {
        self.close_within(live, LOST_CLOSE_TIMEOUT.min(self.config.close_timeout), false);
    }

    /// Frees the slot of a connection that its holder keeps.
    pub(crate) fn detach(self: &Arc<Self>, slot: SlotId) {
        let is_awaited = self.core_now().detach(slot);
        self.freed(is_awaited);
    }

    /// Does what follows when a slot is free.
    fn freed(self: &Arc<Self>, is_awaited: bool) {
        if is_awaited {
            self.state_changed.notify_waiters();
        }
        self.connect_due();
    }

    fn close_within(self: &Arc<Self>, mut live: Live<M::Connection>, limit: Duration, with_hook: bool) {
        let closing = Closing {
            inner: self.clone(),
            slot: live.slot,
        };
        let hook = self.hooks.on_close.clone().filter(|_| with_hook);
        let hook = hook.zip(self.core().retired_for(live.slot));
        let Some(runtime) = self.maintenance_runtime() else {
            return;
        };
        runtime.spawn(async move {
            let inner = &closing.inner;
            let closed = async {
                if let Some((hook, reason)) = hook {
                    hook(&mut live.connection, inner.describe(live.slot), reason).await;
                }
                inner.manager.close(live.connection).await;
            };
            if timeout(limit, closed).await.is_err() {
                tracing::debug!("a connection's close was not confirmed in time");
            }
        });
        self.connect_due();
    }
}

/// A slot whose connection is being closed. Dropping it frees the slot.
struct Closing<M: Manager> {
    inner: Arc<PoolInner<M>>,
    slot: SlotId,
}

impl<M: Manager> Drop for Closing<M> {
    fn drop(&mut self) {
        let is_awaited = self.inner.core().free(self.slot);
        self.inner.freed(is_awaited);
    }
}
