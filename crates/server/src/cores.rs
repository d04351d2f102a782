//! The serving threads: one for each core, each with its own runtime.
//!
//! Invariant: a task stays on the core that started it. A thread that ends too early is noticed.

use std::{
    io,
    num::NonZero,
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{
    runtime::{Builder, Handle},
    sync::{Notify, watch},
};

/// How long [`Cores::stop`] waits for blocking work, such as a name look-up.
const STOP_TIMEOUT: Duration = Duration::from_secs(1);

/// The serving threads.
pub(crate) struct Cores {
    runtimes: Vec<Handle>,
    threads: Vec<JoinHandle<()>>,
    /// Dropping it ends the threads.
    stop: watch::Sender<()>,
    lost: Arc<Notify>,
}

impl Cores {
    /// Starts `count` threads, or one for each core that the process may use.
    ///
    /// # Errors
    ///
    /// The system's: too many threads or open files.
    pub(crate) fn start(count: Option<usize>) -> io::Result<Self> {
        let count = count.unwrap_or_else(|| thread::available_parallelism().map_or(1, NonZero::get));
        let (stop, _) = watch::channel(());
        let mut cores = Self {
            runtimes: Vec::with_capacity(count),
            threads: Vec::with_capacity(count),
            stop,
            lost: Arc::default(),
        };
        for number in 0..count {
            cores.add(number)?;
        }
        Ok(cores)
    }

    fn add(&mut self, number: usize) -> io::Result<()> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let mut stopped = self.stop.subscribe();
        let ending = SignalOnDrop(self.lost.clone());
        let serve = move || {
            let _ending = ending;
            // Nothing is ever sent; this ends when the sender is dropped.
            let _dropped = runtime.block_on(stopped.changed());
            runtime.shutdown_timeout(STOP_TIMEOUT);
        };
        let thread = thread::Builder::new().name(format!("core-{number}"));
        self.threads.push(thread.spawn(serve)?);
        self.runtimes.push(handle);
        Ok(())
    }

    /// Returns the runtime of each core.
    pub(crate) fn runtimes(&self) -> &[Handle] {
        &self.runtimes
    }

    /// Resolves when a thread has ended before [`Cores::stop`], which means that it panicked.
    pub(crate) async fn lost(&self) {
        self.lost.notified().await;
    }

    /// Ends the threads and drops the tasks that still run there. Blocks for about a second at most.
    pub(crate) fn stop(self) {
        drop(self.stop);
        for thread in self.threads {
            // The panic hook has logged a panic already.
            let _panic = thread.join();
        }
    }
}

/// Signals the end of a thread, by return or by panic.
struct SignalOnDrop(Arc<Notify>);

impl Drop for SignalOnDrop {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn work_runs_on_the_core_it_is_given_to_and_ends_with_it() {
        let cores = Cores::start(Some(3)).unwrap();
        let (alive, ended) = tokio::sync::oneshot::channel::<()>();
        for (number, runtime) in cores.runtimes().iter().enumerate() {
            let name = runtime.spawn(async { thread::current().name().map(str::to_owned) });
            assert_eq!(name.await.unwrap(), Some(format!("core-{number}")));
        }
        cores.runtimes()[1].spawn(async move {
            std::future::pending::<()>().await;
            drop(alive);
        });
        cores.stop();
        assert!(ended.await.is_err(), "its task was dropped");
    }

    #[tokio::test]
    async fn a_task_that_panics_costs_its_core_nothing() {
        let cores = Cores::start(Some(1)).unwrap();
        let core = &cores.runtimes()[0];
        core.spawn(async { panic!("on purpose") }).await.unwrap_err();
        assert_eq!(core.spawn(async { 7 }).await.unwrap(), 7);
        cores.stop();
    }

    #[tokio::test]
    async fn a_thread_that_ends_too_early_is_noticed() {
        let cores = Cores::start(Some(2)).unwrap();
        let noticed = tokio::time::timeout(Duration::from_millis(20), cores.lost());
        assert!(noticed.await.is_err(), "no thread has ended");
        let ending = SignalOnDrop(cores.lost.clone());
        let panicked = thread::spawn(move || {
            let _ending = ending;
            panic!("on purpose");
        });
        panicked.join().unwrap_err();
        cores.lost().await;
        cores.stop();
    }
}
