//! The task that cleans a dirty connection. Invariant: a cleaning that ends in any other way than success closes the
//! connection, even if its task panics or its runtime ends.

use std::sync::Arc;

use crate::{Condition, Manager, inner::PoolInner, retired::Retired, shim::timeout, slots::Live};

impl<M: Manager> PoolInner<M> {
    /// Cleans a connection in the background, then releases it.
    pub(crate) fn clean(self: &Arc<Self>, live: Live<M::Connection>) {
        self.core_now().start_cleaning(live.slot);
        let mut cleaning = Cleaning {
            inner: self.clone(),
            live: Some(live),
        };
        let Some(runtime) = self.maintenance_runtime() else {
            return;
        };
        runtime.spawn(async move {
            let Some(live) = &mut cleaning.live else {
                return;
            };
            let inner = cleaning.inner.clone();
            let cleaned = inner.manager.clean(&mut live.connection);
            let cleaned = timeout(inner.config.clean_timeout, cleaned).await;
            if matches!(cleaned, Ok(Ok(())))
                && is_clean(inner.manager.inspect(&mut live.connection))
                && let Some(live) = cleaning.live.take()
            {
                inner.release_clean(live);
            }
        });
    }
}

fn is_clean(condition: Condition) -> bool {
    matches!(condition, Condition::Clean | Condition::Unknown)
}

/// A connection that is being cleaned. Dropping it with the connection inside closes the connection.
struct Cleaning<M: Manager> {
    inner: Arc<PoolInner<M>>,
    live: Option<Live<M::Connection>>,
}

impl<M: Manager> Drop for Cleaning<M> {
    fn drop(&mut self) {
        if let Some(live) = self.live.take() {
            self.inner.retire(live, Retired::Broken);
        }
    }
}
