//! Finds out that the maintenance task's runtime lives but is not run, and moves the pool to a runtime that is.
//!
//! A current-thread runtime runs tasks only inside `block_on`. A pool built there and used elsewhere would stall
//! without a sign. So a caller that waits on another runtime probes: it spawns a task there, and takes over if that
//! does not run in time.
//!
//! Invariant: only a runtime that did not answer a probe for [`PROBE_INTERVAL`], while the prober's own runtime ran, is
//! given up.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::sync::oneshot::{self, error::TryRecvError};

use crate::{
    Manager,
    inner::PoolInner,
    runtimes::Runtimes,
    shim::{Handle, Instant, sleep_until},
};

/// The time before the first probe, between two, and for an answer.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);

/// How long a caller that does not wait for the pool goes on probing: long enough for two probes.
const SHORT_PROBING: Duration = PROBE_INTERVAL.saturating_mul(3);

/// The pause between two such probings, longer than one takes.
const SHORT_PROBING_PAUSE: Duration = PROBE_INTERVAL.saturating_mul(4);

/// A question to a runtime: does it run tasks?
struct Probe {
    /// The generation of the maintenance task whose runtime was asked.
    generation: u64,
    answer: oneshot::Receiver<()>,
    /// It got more time once, because the prober's own runtime was not run either.
    was_extended: bool,
}

/// Probes the maintenance task's runtime until the deadline, a time on the pool's clock. Completes at the deadline: by
/// then the maintenance task should have ended the caller's wait.
pub(crate) async fn probe_maintenance<M: Manager>(pool: Weak<PoolInner<M>>, deadline: Option<Duration>) {
    let mut probe = None;
    loop {
        let pause = {
            let Some(inner) = pool.upgrade() else { return };
            let now = inner.now();
            match deadline {
                Some(deadline) if deadline <= now => return,
                Some(deadline) => PROBE_INTERVAL.min(deadline - now),
                None => PROBE_INTERVAL,
            }
        };
        let before = Instant::now();
        sleep_until(before + pause).await;
        let Some(inner) = pool.upgrade() else { return };
        if pause == PROBE_INTERVAL {
            let overslept = before.elapsed() > PROBE_INTERVAL * 2;
            probe = inner.probe(probe, overslept);
        }
    }
}

impl<M: Manager> PoolInner<M> {
    /// True if a caller that waits on the current runtime has to [probe](probe_maintenance).
    pub(crate) fn needs_probing(&self) -> bool {
        let here = Handle::try_current();
        here.is_ok_and(|here| !self.core().is_maintained_on(here.id()))
    }

    /// True if a short probing is due; the next one is due after a pause.
    pub(super) fn may_probe(&self, runtimes: &mut Runtimes) -> bool {
        let now = self.now();
        let is_due = now >= runtimes.next_probe;
        if is_due {
            runtimes.next_probe = now.saturating_add(SHORT_PROBING_PAUSE);
        }
        is_due
    }

    /// Probes from this runtime for a while. If no caller waits for the new maintenance task, no other probe would find
    /// that it does not run.
    pub(super) fn probe_from(self: &Arc<Self>, here: &Handle) {
        let deadline = self.now().saturating_add(SHORT_PROBING);
        here.spawn(probe_maintenance(Arc::downgrade(self), Some(deadline)));
    }

    /// Looks at the answer to the last probe and sends the next. `overslept`: the current runtime was not run in
    /// between, as when the whole process was stopped, so a missing answer proves nothing.
    fn probe(self: &Arc<Self>, last: Option<Probe>, overslept: bool) -> Option<Probe> {
        if let Some(mut last) = last
            && matches!(last.answer.try_recv(), Err(TryRecvError::Empty))
        {
            if overslept && !last.was_extended {
                last.was_extended = true;
                return Some(last);
            }
            self.take_over(last.generation);
        }
        let runtime = self.maintenance_runtime()?;
        if Handle::try_current().is_ok_and(|here| here.id() == runtime.id()) {
            return None;
        }
        let generation = self.runtimes().generation;
        let (alive, answer) = oneshot::channel();
        runtime.spawn(async move {
            let _nobody_asks = alive.send(());
        });
        Some(Probe {
            generation,
            answer,
            was_extended: false,
        })
    }

    /// Moves the pool from a runtime that is not run to the current one, unless another caller has done so.
    fn take_over(self: &Arc<Self>, generation: u64) {
        let Ok(here) = Handle::try_current() else {
            return;
        };
        let mut lost = Vec::new();
        let _stalled = {
            let mut runtimes = self.runtimes();
            if runtimes.generation != generation {
                return;
            }
            let elsewhere = |runtime: &mut Handle| runtime.id() != here.id();
            let Some(stalled) = runtimes.maintenance.take_if(elsewhere) else {
                return;
            };
            for (index, bound) in runtimes.bound.iter_mut().enumerate() {
                if bound.handle.id() == stalled.id() {
                    lost.push((index, bound.sentinel.take()));
                }
            }
            drop(runtimes);
            stalled
        };
        tracing::warn!("the runtime of the pool does not run its tasks; moving the pool to the runtime of a caller");
        let now = self.now();
        self.core().abandon_tasks();
        for (index, sentinel) in lost {
            drop(sentinel);
            let (idle, error) = {
                let mut core = self.core();
                core.abandon_connects(index);
                core.lose_runtime(index, now)
            };
            drop(error);
            for live in idle {
                self.close_lost(live);
            }
        }
        self.start_maintenance_on(here);
        self.connect_due();
    }
}
