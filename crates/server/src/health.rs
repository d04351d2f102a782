//! Measures the health of the database on demand.
//!
//! Invariant: however many requests ask, the database is queried at most once a second, and each request is answered in
//! bounded time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use cenote_postgres::{Health, HealthState, Pool};
use tokio::{
    sync::Mutex,
    time::{Instant, timeout},
};

/// True on a standby, and with `default_transaction_read_only`.
const IS_READ_ONLY: &str = "SELECT current_setting('transaction_read_only') = 'on'";
const READ_ONLY: &str = "it is read-only: reads are served, writes are refused";
/// Longest wait for the result of [`IS_READ_ONLY`].
const READ_ONLY_TIMEOUT: Duration = Duration::from_millis(750);

/// How long a measurement is reused.
const FRESH: Duration = Duration::from_secs(1);

/// A stage of the service's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    /// The schema may not be up to date yet.
    Starting,
    Running,
    /// The service finishes requests in flight, then ends.
    Draining,
}

struct Measurement {
    health: Health,
    at: Option<Instant>,
}

/// Measures the database's health, and holds the stage of the service.
pub(crate) struct HealthMonitor {
    pool: Pool,
    stage: AtomicU8,
    last: ArcSwap<Measurement>,
    /// Held during a measurement, across awaits on purpose: all others wait for its result instead of measuring too.
    measuring: Mutex<()>,
    /// What the start waits for, shown as the database's problem.
    waits_for: ArcSwapOption<String>,
}

impl HealthMonitor {
    pub(crate) fn new(pool: Pool) -> Self {
        Self {
            pool,
            stage: AtomicU8::new(Stage::Starting as u8),
            last: ArcSwap::from_pointee(Measurement {
                health: Health::default(),
                at: None,
            }),
            measuring: Mutex::new(()),
            waits_for: ArcSwapOption::empty(),
        }
    }

    /// Sets what the start waits for; `None` if it waits no longer.
    pub(crate) fn waits_for(&self, what: Option<String>) {
        self.waits_for.store(what.map(Arc::new));
    }

    pub(crate) fn stage(&self) -> Stage {
        match self.stage.load(Relaxed) {
            0 => Stage::Starting,
            1 => Stage::Running,
            _ => Stage::Draining,
        }
    }

    /// Moves on to a later stage. An earlier one is ignored.
    pub(crate) fn enter(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Relaxed);
    }

    /// Returns the database's health, at most a second old.
    pub(crate) async fn database(&self) -> Health {
        if let Some(health) = self.fresh() {
            return health;
        }
        let _measuring = self.measuring.lock().await;
        if let Some(health) = self.fresh() {
            return health;
        }
        let mut health = self.pool.health().await;
        if health.problem.is_none() && self.is_read_only().await {
            health.state = HealthState::Degraded;
            health.problem = Some(READ_ONLY.to_owned());
        }
        if health.problem.is_none() && self.stage() == Stage::Starting {
            health.problem = self.waits_for.load().as_deref().cloned();
        }
        self.last.store(Arc::new(Measurement {
            health: health.clone(),
            at: Some(Instant::now()),
        }));
        health
    }

    /// Whether the database accepts no writes. False if it does not answer, which the health check reports by itself.
    async fn is_read_only(&self) -> bool {
        let asked = async {
            let connection = self.pool.get().await.ok()?;
            let row = connection.query_one(IS_READ_ONLY, &[]).await.ok()?;
            row.try_get(0).ok()
        };
        let answer = timeout(READ_ONLY_TIMEOUT, asked).await;
        answer.ok().flatten().unwrap_or(false)
    }

    fn fresh(&self) -> Option<Health> {
        let last = self.last.load();
        (last.at?.elapsed() < FRESH).then(|| last.health.clone())
    }
}
