//! Binds a pool to its tokio runtimes, and rebinds it when one of them ends.
//!
//! Connections live on the runtimes that the pool was given. Connects run there; all other tasks run where the
//! maintenance task is. A pool may outlive any of them: a `static` pool is built in one `#[tokio::test]` and used in
//! the next. So each bound runtime has a *sentinel*, a task that ends with its runtime and reports that, and the
//! maintenance task reports its own end. A runtime that lives but is not run reports nothing; [`liveness`] finds that
//! out.
//!
//! Invariant: a caller that waits for the pool either runs on the maintenance task's runtime, and ends with it, or
//! probes that runtime.
//!
//! Nothing is spawned or dropped under the lock of the runtimes. Spawning on a runtime that has ended drops the task at
//! once, and that drop takes this lock.

use std::sync::{Arc, PoisonError, Weak};

use tokio::sync::oneshot;

use crate::{
    Manager,
    caller::RuntimeIndex,
    inner::PoolInner,
    maintenance::maintain,
    runtimes::Runtimes,
    shim::{Handle, MutexGuard, is_unwinding},
};

pub(crate) mod liveness;

impl<M: Manager> PoolInner<M> {
    fn runtimes(&self) -> MutexGuard<'_, Runtimes> {
        self.runtimes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of runtimes that the pool was given.
    pub(crate) fn runtime_count(&self) -> usize {
        self.runtimes().bound.len()
    }

    /// Starts the maintenance task on the current runtime, and a sentinel on each of the pool's.
    pub(crate) fn bind_runtimes(self: &Arc<Self>) {
        let here = Handle::current();
        self.core().set_maintenance_runtime(Some(here.id()));
        self.start_maintenance_on(here);
        for index in 0..self.runtime_count() {
            let runtime = self.runtimes().bound[index].handle.clone();
            self.bind(index, runtime);
        }
    }

    /// True for the maintenance task that was started last.
    pub(crate) fn is_current_maintenance(&self, generation: u64) -> bool {
        self.runtimes().generation == generation
    }

    /// Returns the runtime of the maintenance task. If that has ended, the task is restarted on another of the pool's
    /// runtimes, or else on the current one. `None` if all have ended.
    pub(crate) fn maintenance_runtime(self: &Arc<Self>) -> Option<Handle> {
        let here = Handle::try_current().ok();
        let mut runtimes = self.runtimes();
        if let Some(runtime) = runtimes.maintenance.clone() {
            let elsewhere = here.filter(|here| here.id() != runtime.id());
            let probe_due = elsewhere.filter(|_| self.may_probe(&mut runtimes));
            drop(runtimes);
            if let Some(here) = probe_due {
                self.probe_from(&here);
            }
            return Some(runtime);
        }
        let living = runtimes.living();
        drop(runtimes);
        let mut candidates = living.into_iter().chain(here);
        candidates.find(|runtime| self.start_maintenance_on(runtime.clone()))
    }

    /// Starts the maintenance task unless it runs. False if that runtime has ended.
    fn start_maintenance_on(self: &Arc<Self>, runtime: Handle) -> bool {
        let mut runtimes = self.runtimes();
        if runtimes.maintenance.is_some() {
            return true;
        }
        runtimes.generation += 1;
        runtimes.maintenance = Some(runtime.clone());
        runtimes.is_starting = true;
        let generation = runtimes.generation;
        drop(runtimes);
        if generation > 1 {
            self.core().set_maintenance_runtime(None);
        }
        let pool = Arc::downgrade(self);
        let end = MaintenanceEnd {
            pool: pool.clone(),
            generation,
        };
        let (stop, stopped) = oneshot::channel::<()>();
        runtime.spawn(listen_for_news(pool.clone(), stopped));
        let wake = self.wake_maintenance.clone();
        runtime.spawn(async move {
            let mut end = end;
            // Ends the listening task together with this one.
            let _stop = stop;
            maintain(pool, generation, wake).await;
            // The pool is gone, has terminated or has another maintenance task: this end needs no replacement.
            end.pool = Weak::new();
        });
        let mut runtimes = self.runtimes();
        runtimes.is_starting = false;
        runtimes.maintenance.is_some()
    }

    /// Returns the runtime to open a connection on, rebinding if it has ended. `None` if all have ended.
    pub(crate) fn living_runtime(self: &Arc<Self>, index: RuntimeIndex) -> Option<Handle> {
        {
            let bound = &self.runtimes().bound[index];
            if bound.sentinel.is_some() {
                return Some(bound.handle.clone());
            }
        }
        let maintenance = self.maintenance_runtime();
        let living = self.runtimes().living();
        let here = Handle::try_current().ok();
        let mut candidates = maintenance.into_iter().chain(living).chain(here);
        candidates.find_map(|runtime| self.bind(index, runtime))
    }

    /// Binds an index to this runtime, unless it is bound to a living one. `None` if this runtime has ended.
    fn bind(self: &Arc<Self>, index: RuntimeIndex, runtime: Handle) -> Option<Handle> {
        let (stop, stopped) = oneshot::channel::<()>();
        let generation = {
            let bound = &mut self.runtimes().bound[index];
            if bound.sentinel.is_some() {
                return Some(bound.handle.clone());
            }
            bound.handle = runtime.clone();
            bound.sentinel = Some(stop);
            bound.generation += 1;
            bound.is_starting = true;
            bound.generation
        };
        let sentinel = Sentinel {
            pool: Arc::downgrade(self),
            index,
            generation,
        };
        runtime.spawn(async move {
            let _sentinel = sentinel;
            let _stopped = stopped.await;
        });
        let bound = &mut self.runtimes().bound[index];
        bound.is_starting = false;
        bound.sentinel.is_some().then_some(runtime)
    }

    /// A bound runtime has ended. Its connections are useless without its reactor and timer.
    fn runtime_ended(self: &Arc<Self>, index: RuntimeIndex, generation: u64) {
        let (stop, was_starting) = {
            let bound = &mut self.runtimes().bound[index];
            if bound.generation != generation {
                return;
            }
            (bound.sentinel.take(), bound.is_starting)
        };
        drop(stop);
        if was_starting {
            // Nothing lives there yet, and `living_runtime` tries the next candidate.
            return;
        }
        let now = self.now();
        let (idle, error) = self.core().lose_runtime(index, now);
        drop(error);
        for live in idle {
            self.close_lost(live);
        }
        self.connect_due();
    }
}

/// Reports the end of the maintenance task, unless that was expected.
struct MaintenanceEnd<M: Manager> {
    pool: Weak<PoolInner<M>>,
    generation: u64,
}

impl<M: Manager> Drop for MaintenanceEnd<M> {
    fn drop(&mut self) {
        let Some(inner) = self.pool.upgrade().filter(|_| !is_unwinding()) else {
            return;
        };
        let mut runtimes = inner.runtimes();
        if runtimes.generation != self.generation {
            return;
        }
        let _ended = runtimes.maintenance.take();
        let others = match runtimes.is_starting {
            // `maintenance_runtime` tries the next candidate.
            true => Vec::new(),
            false => runtimes.living(),
        };
        drop(runtimes);
        inner.core().set_maintenance_runtime(None);
        // Not on the current runtime, which is the one that ends. Without another, the next caller restarts it.
        others
            .into_iter()
            .find(|runtime| inner.start_maintenance_on(runtime.clone()));
    }
}

/// Lives in a task of a bound runtime and reports the end of that runtime.
struct Sentinel<M: Manager> {
    pool: Weak<PoolInner<M>>,
    index: RuntimeIndex,
    generation: u64,
}

impl<M: Manager> Drop for Sentinel<M> {
    fn drop(&mut self) {
        if let Some(inner) = self.pool.upgrade()
            && !is_unwinding()
        {
            inner.runtime_ended(self.index, self.generation);
        }
    }
}

/// Sweeps the pool whenever the manager asks for it.
async fn listen_for_news<M: Manager>(pool: Weak<PoolInner<M>>, stopped: oneshot::Receiver<()>) {
    let listening = async {
        while let Some(inner) = pool.upgrade() {
            let due = inner.manager.inspection_due();
            drop(inner);
            due.await;
            let Some(inner) = pool.upgrade() else { return };
            inner.inspect_idle();
        }
    };
    tokio::select! {
        biased;
        _ = stopped => {}
        () = listening => {}
    }
}
