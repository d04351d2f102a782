//! The task that opens a connection. Invariant: a connect ends in success or in a failure that the core is told of,
//! even if the task panics or its runtime ends.

use std::{sync::Arc, time::Duration};

use crate::{
    ConnectError, Manager,
    delivery::{Delivery, refuse_all},
    inner::PoolInner,
    outage,
    shim::{Instant, timeout},
    slots::{Opened, SlotId},
};

impl<M: Manager> PoolInner<M> {
    /// Starts the connects that waiters and the warm minimum need now.
    pub(crate) fn connect_due(self: &Arc<Self>) {
        let due = self.core().connects_due();
        self.connect(due);
    }

    /// Starts the connects that runtimes need whose callers often took a connection of another one.
    pub(crate) fn connect_for_affinity(self: &Arc<Self>) {
        let due = self.core().connects_for_affinity();
        self.connect(due);
    }

    /// Starts a connect for each of these reserved slots.
    pub(crate) fn connect(self: &Arc<Self>, slots: Vec<SlotId>) {
        for slot in slots {
            let runtime = self.core().runtime_of(slot);
            let connecting = Connecting {
                inner: self.clone(),
                slot: Some(slot),
                started: Instant::now(),
            };
            if let Some(runtime) = self.living_runtime(runtime) {
                runtime.spawn(connecting.run());
            }
        }
    }

    /// Returns a lifetime for one connection. A tenth of it is random, so that connections opened together end apart.
    fn lifetime(&self) -> Option<Duration> {
        let jitter = 0.1 * fastrand::f64();
        let lifetime = self.config.max_lifetime?;
        Some(lifetime - lifetime.mul_f64(jitter))
    }
}

/// A slot whose connect is under way. Dropping it with the slot inside counts as a failed connect.
struct Connecting<M: Manager> {
    inner: Arc<PoolInner<M>>,
    slot: Option<SlotId>,
    started: Instant,
}

impl<M: Manager> Connecting<M> {
    async fn run(mut self) {
        let inner = self.inner.clone();
        if let Some(slot) = self.slot
            && inner.core().is_lost(slot)
        {
            // The runtime did not run this task in time, and the pool has replaced it.
            return;
        }
        let connection = match self.open().await {
            Ok(connection) => connection,
            Err(error) => return self.fail(error),
        };
        let peer = inner.manager.peer(&connection);
        let Some(slot) = self.slot.take() else { return };
        let opened = Opened {
            connection,
            peer,
            took: self.started.elapsed(),
            lifetime: inner.lifetime(),
        };
        let now = inner.now();
        let (released, recovered_from) = inner.core().connected(slot, opened, now);
        if recovered_from.is_some() {
            tracing::info!("connecting works again");
        }
        inner.carry_out(released);
        inner.connect_due();
        inner.state_changed.notify_waiters();
    }

    /// Opens the connection and runs the hook on it.
    async fn open(&self) -> Result<M::Connection, ConnectError<M::Error>> {
        let PoolInner {
            manager, hooks, config, ..
        } = &*self.inner;
        let limit = config.connect_timeout;
        let mut connection = match timeout(limit, manager.connect()).await {
            Ok(Ok(connection)) => connection,
            Ok(Err(error)) => return Err(ConnectError::Failed(error)),
            Err(_) => return Err(ConnectError::TimedOut(limit)),
        };
        let (Some(hook), Some(slot)) = (&hooks.after_connect, self.slot) else {
            return Ok(connection);
        };
        let rest = limit.saturating_sub(self.started.elapsed());
        let done = timeout(rest, hook(&mut connection, self.inner.describe(slot))).await;
        let error = match done {
            Ok(Ok(())) => return Ok(connection),
            Ok(Err(error)) => ConnectError::Failed(error),
            Err(_) => ConnectError::TimedOut(limit),
        };
        // The slot counts until the far side has closed it too, in time or not.
        let _closed = timeout(config.close_timeout, manager.close(connection)).await;
        Err(error)
    }

    fn fail(&mut self, error: ConnectError<M::Error>) {
        // Asked first: if the manager panics here, the slot is still inside for the destructor.
        let is_permanent = match &error {
            ConnectError::Failed(error) => self.inner.manager.is_permanent(error),
            ConnectError::TimedOut(_) | ConnectError::Aborted => false,
        };
        let Some(slot) = self.slot.take() else { return };
        let (inner, error) = (&self.inner, Arc::new(error));
        let failure = outage::Failure {
            error: error.clone(),
            is_permanent,
            jitter: fastrand::f64(),
        };
        let (took, now) = (self.started.elapsed(), inner.now());
        let (effect, refused, is_permanent, is_terminated) = {
            let mut core = inner.core();
            let (effect, refused) = core.connect_failed(slot, failure, took, now);
            (effect, refused, core.fails_permanently(), core.is_terminated())
        };
        refuse_all(refused, || Delivery::Permanent(error.clone()));
        // Logged once for each outage and cause, not for each attempt.
        if effect.became_permanent {
            let every = inner.config.backoff_permanent.as_secs_f64();
            tracing::warn!(%error, "connecting fails until its cause is removed; trying again every {every} s");
        } else if effect.previous.is_none() && matches!(*error, ConnectError::Aborted) {
            tracing::debug!(%error, "connecting failed; trying again");
        } else if effect.previous.is_none() {
            tracing::warn!(%error, "connecting failed; trying again until it works");
        }
        if let Some(failing_for) = effect.opened_breaker {
            let seconds = failing_for.as_secs_f64();
            tracing::warn!(seconds, %error, "connects have failed for too long; refusing callers until one succeeds");
        }
        if is_terminated || is_permanent {
            inner.state_changed.notify_waiters();
        }
        if !is_terminated {
            // The maintenance task arms its timer for the end of the new backoff.
            inner.wake_maintenance.notify_one();
        }
    }
}

impl<M: Manager> Drop for Connecting<M> {
    fn drop(&mut self) {
        self.fail(ConnectError::Aborted);
    }
}
