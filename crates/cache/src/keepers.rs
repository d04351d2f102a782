//! The tasks of a cache, and the runtime that they are on. Invariant: where that has ended, or nobody runs it, they go on on
//! the runtime of whoever finds out.
//!
//! Without them the cache is never wrong: what is not known to be trusted is read from the database. So it is looked after
//! them only there, and by callers on other runtimes.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    runtime::Handle,
    sync::oneshot::{self, error::TryRecvError},
    task::AbortHandle,
    time::Instant,
};

/// How long a runtime has to give a sign of life, and how often it is asked for one.
const LOOK: Duration = Duration::from_secs(1);

/// Starts the tasks of a cache on the current runtime.
type Start = Box<dyn Fn() -> Vec<AbortHandle> + Send + Sync>;

pub(crate) struct Keepers {
    start: Start,
    /// Held for moments, never across an await.
    at_work: Mutex<AtWork>,
}

struct AtWork {
    home: Handle,
    tasks: Vec<AbortHandle>,
    /// When the home was last asked for a sign of life, and its answer.
    asked: Option<(Instant, oneshot::Receiver<()>)>,
}

impl Keepers {
    /// Starts them on the current runtime.
    pub(crate) fn start(start: Start) -> Self {
        let at_work = AtWork {
            home: Handle::current(),
            tasks: start(),
            asked: None,
        };
        Self {
            start,
            at_work: Mutex::new(at_work),
        }
    }

    /// Looks whether they are still at work, and has them go on here if not.
    pub(crate) fn look(&self) {
        let Ok(here) = Handle::try_current() else {
            return;
        };
        let mut at_work = self.at_work();
        if at_work.home.id() == here.id() {
            return;
        }
        let now = Instant::now();
        if let Some((at, mut answer)) = at_work.asked.take() {
            if now - at < LOOK {
                at_work.asked = Some((at, answer));
                return;
            }
            if answer.try_recv() == Err(TryRecvError::Empty) {
                return self.move_to(at_work, here);
            }
        }
        let (alive, mut answer) = oneshot::channel();
        let home = at_work.home.clone();
        home.spawn(async move {
            let _nobody_asks = alive.send(());
        });
        match answer.try_recv() {
            // A runtime that has ended drops a task at once.
            Err(TryRecvError::Closed) => self.move_to(at_work, here),
            _ => at_work.asked = Some((now, answer)),
        }
    }

    /// They are started under the lock, so that nobody else does.
    fn move_to(&self, mut at_work: MutexGuard<'_, AtWork>, here: Handle) {
        tracing::warn!("the runtime of the cache is gone; it goes on on that of a caller");
        for task in &at_work.tasks {
            task.abort();
        }
        at_work.tasks = (self.start)();
        at_work.home = here;
    }

    fn at_work(&self) -> MutexGuard<'_, AtWork> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Keepers {
    fn drop(&mut self) {
        for task in &self.at_work().tasks {
            task.abort();
        }
    }
}
