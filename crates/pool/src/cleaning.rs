//! The task that cleans a released connection and runs the hook after a release. Invariant: a connection that does not come
//! out of it clean is closed, even if its task panics or its runtime ends.

use std::sync::Arc;

use crate::{Condition, Decision, Manager, inner::PoolInner, retired::Retired, shim::timeout, slots::Live};

impl<M: Manager> PoolInner<M> {
    /// Cleans a connection in the background, then releases it.
    pub(crate) fn clean(self: &Arc<Self>, live: Live<M::Connection>) {
        self.core_now().start_cleaning(live.slot);
        self.spawn_cleaning(live, Condition::Dirty);
    }

    /// Runs the hook after a release on a clean connection, in the background, then releases it.
    #[inline(never)] // only with a hook
    pub(crate) fn run_release_hook(self: &Arc<Self>, live: Live<M::Connection>) {
        self.core_now().start_hook(live.slot);
        self.spawn_cleaning(live, Condition::Clean);
    }

    fn spawn_cleaning(self: &Arc<Self>, live: Live<M::Connection>, condition: Condition) {
        let cleaning = Cleaning {
            inner: self.clone(),
            live: Some(live),
        };
        if let Some(runtime) = self.maintenance_runtime() {
            runtime.spawn(cleaning.run(condition));
        }
    }
}

/// A connection that is being cleaned. Dropping it with the connection inside closes the connection.
struct Cleaning<M: Manager> {
    inner: Arc<PoolInner<M>>,
    live: Option<Live<M::Connection>>,
}

impl<M: Manager> Cleaning<M> {
    async fn run(mut self, condition: Condition) {
        let mut condition = condition;
        if condition == Condition::Dirty {
            condition = self.clean().await;
        }
        let Some(live) = &mut self.live else { return };
        if is_clean(condition) && std::mem::take(&mut live.hook_due) {
            condition = self.run_hook().await;
            // What the hook has changed concerns the next caller as much as what its predecessor has changed.
            if condition == Condition::Dirty {
                condition = self.clean().await;
            }
        }
        if is_clean(condition)
            && let Some(mut live) = self.live.take()
        {
            live.unknown = condition == Condition::Unknown;
            self.inner.release_clean(live);
        }
    }

    /// Cleans the connection, and returns its condition afterwards.
    async fn clean(&mut self) -> Condition {
        let Some(live) = &mut self.live else {
            return Condition::Broken;
        };
        let cleaned = self.inner.manager.clean(&mut live.connection);
        match timeout(self.inner.config.clean_timeout, cleaned).await {
            Ok(Ok(())) => self.inner.manager.inspect(&mut live.connection),
            _ => Condition::Broken,
        }
    }

    /// Runs the hook, and returns the condition of the connection afterwards.
    async fn run_hook(&mut self) -> Condition {
        let (Some(hook), Some(live)) = (&self.inner.hooks.after_release, &mut self.live) else {
            return Condition::Broken;
        };
        let info = self.inner.describe(live.slot);
        let decided = hook(&mut live.connection, info);
        match timeout(self.inner.config.clean_timeout, decided).await {
            Ok(Ok(Decision::Keep)) => return self.inner.manager.inspect(&mut live.connection),
            Ok(Ok(Decision::Close)) => {
                if let Some(live) = self.live.take() {
                    self.inner.retire(live, Retired::Discarded);
                }
            }
            Ok(Err(error)) => tracing::warn!(%error, "the hook after a release failed; the connection is closed"),
            Err(_) => tracing::warn!("the hook after a release took too long; the connection is closed"),
        }
        Condition::Broken
    }
}

fn is_clean(condition: Condition) -> bool {
    matches!(condition, Condition::Clean | Condition::Unknown)
}

impl<M: Manager> Drop for Cleaning<M> {
    fn drop(&mut self) {
        if let Some(live) = self.live.take() {
            self.inner.retire(live, Retired::Broken);
        }
    }
}
