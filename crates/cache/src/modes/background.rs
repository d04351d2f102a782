//! The tasks of a cache, and the runtime that they are on. Invariant: if that runtime has ended or no longer runs, the tasks
//! continue on the runtime of the caller that notices.
//!
//! Without the tasks the cache is slow, but never wrong: what is not known to be trusted is read from the database. So they
//! are checked only when no epoch is known, and only by callers on other runtimes.

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

/// How long a runtime may take to run a task that shows it is alive, and how often that is tried.
const PATIENCE: Duration = Duration::from_secs(1);

/// Starts the tasks of a cache on the current runtime.
type Start = Box<dyn Fn() -> Vec<AbortHandle> + Send + Sync>;

pub(crate) struct BackgroundTasks {
    start: Start,
    /// Locked for a few instructions, never across an await.
    running: Mutex<Running>,
}

struct Running {
    home: Handle,
    tasks: Vec<AbortHandle>,
    /// When the home was last asked to show that it is alive, and the channel for its answer.
    asked: Option<(Instant, oneshot::Receiver<()>)>,
}

impl BackgroundTasks {
    /// Starts them on the current runtime.
    pub(crate) fn start(start: Start) -> Self {
        let running = Running {
            home: Handle::current(),
            tasks: start(),
            asked: None,
        };
        Self {
            start,
            running: Mutex::new(running),
        }
    }

    /// Checks that the tasks still run, and restarts them on the current runtime if not.
    pub(crate) fn check(&self) {
        let Ok(here) = Handle::try_current() else {
            return;
        };
        let mut running = self.running();
        if running.home.id() == here.id() {
            return;
        }
        let now = Instant::now();
        if let Some((at, mut answer)) = running.asked.take() {
            if now - at < PATIENCE {
                running.asked = Some((at, answer));
                return;
            }
            if answer.try_recv() == Err(TryRecvError::Empty) {
                return self.move_to(running, here);
            }
        }
        let (alive, mut answer) = oneshot::channel();
        let home = running.home.clone();
        home.spawn(async move {
            let _nobody_asks = alive.send(());
        });
        match answer.try_recv() {
            // A runtime that has ended drops a task at once.
            Err(TryRecvError::Closed) => self.move_to(running, here),
            _ => running.asked = Some((now, answer)),
        }
    }

    /// Starts the tasks under the lock, so that no other caller starts them too.
    fn move_to(&self, mut running: MutexGuard<'_, Running>, here: Handle) {
        tracing::warn!("the runtime of the cache's tasks is gone; they continue on the runtime of a caller");
        for task in &running.tasks {
            task.abort();
        }
        running.tasks = (self.start)();
        running.home = here;
    }

    fn running(&self) -> MutexGuard<'_, Running> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for BackgroundTasks {
    fn drop(&mut self) {
        for task in &self.running().tasks {
            task.abort();
        }
    }
}
