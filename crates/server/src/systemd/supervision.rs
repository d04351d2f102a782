//! The heartbeat for systemd's watchdog, and the line that `systemctl status` shows.
//!
//! Invariant: a heartbeat is sent only after every core's thread has run a task within the interval.

use std::env;
use std::time::Duration;

use cenote_postgres::Stats;
use sd_notify::NotifyState;
use tokio::runtime::Handle;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{sleep, timeout};

use crate::app::App;
use crate::health::Stage;

/// How often the status is looked at where there is no watchdog.
const STATUS_INTERVAL: Duration = Duration::from_secs(5);

/// Bounds the cost of a watchdog that is set to no time at all.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(10);

/// Sends heartbeats and the status. Never ends; it does nothing without systemd.
pub(crate) async fn supervise(app: App, cores: Vec<Handle>) {
    if env::var_os("NOTIFY_SOCKET").is_none() {
        return std::future::pending().await;
    }
    let watchdog = sd_notify::watchdog_enabled();
    // Half of the watchdog's time, as sd_watchdog_enabled(3) recommends.
    let interval = watchdog.map_or(STATUS_INTERVAL, |limit| limit / 2);
    let interval = interval.clamp(SHORTEST_INTERVAL, STATUS_INTERVAL);
    let mut shown = String::new();
    loop {
        let status = status(app.health.stage(), &app.pool.stats());
        let is_alive = watchdog.is_some() && answer(&cores, interval / 2).await;
        if is_alive || status != shown {
            shown.clone_from(&status);
            // It may block if systemd is busy. The error concerns the runtime's own end.
            let _ = spawn_blocking(move || notify(is_alive, &status)).await;
        }
        sleep(interval).await;
    }
}

fn notify(is_alive: bool, status: &str) {
    let status = NotifyState::Status(status);
    match is_alive {
        true => super::send(&[NotifyState::Watchdog, status]),
        false => super::send(&[status]),
    }
}

/// Whether each core runs a task within this time.
async fn answer(cores: &[Handle], within: Duration) -> bool {
    let mut tasks = JoinSet::new();
    for core in cores {
        tasks.spawn_on(async {}, core);
    }
    let all = timeout(within, async {
        while let Some(ended) = tasks.join_next().await {
            ended?;
        }
        Ok::<_, tokio::task::JoinError>(())
    });
    let is_alive = matches!(all.await, Ok(Ok(())));
    if !is_alive {
        tracing::error!("a thread that serves does not answer; systemd's watchdog gets no heartbeat");
    }
    is_alive
}

fn status(stage: Stage, Stats { pool, .. }: &Stats) -> String {
    let stage = match stage {
        Stage::Starting => "starting",
        Stage::Running => "running",
        Stage::Draining => "draining",
    };
    let (in_use, open, waiting) = (pool.in_use, pool.size(), pool.waiting);
    format!("{stage}; pool: {in_use} of {open} connections in use, {waiting} requests waiting")
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::cores::Cores;

    const LONG: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn a_core_that_is_blocked_does_not_answer_and_answers_again_afterwards() {
        let cores = Cores::start(Some(2)).unwrap();
        assert!(answer(cores.runtimes(), LONG).await);
        let (release, blocked) = mpsc::channel::<()>();
        let blocking = cores.runtimes()[1].spawn(async move { blocked.recv() });
        assert!(!answer(cores.runtimes(), Duration::from_millis(100)).await);
        drop(release);
        blocking.await.unwrap().unwrap_err();
        assert!(answer(cores.runtimes(), LONG).await);
        cores.stop();
    }
}
