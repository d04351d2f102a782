//! The health of the service, measured when someone asks. Invariant: however many ask, the database is asked at
//! most once a second, and each answer comes in bounded time.

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

/// A standby, or `default_transaction_read_only`.
const IS_READ_ONLY: &str = "SELECT current_setting('transaction_read_only') = 'on'";
const READ_ONLY: &str = "it is read-only: reads are served, writes are refused";
/// Longest wait for the answer.
const WAIT: Duration = Duration::from_millis(750);

/// A measurement is believed for this long.
const FRESH: Duration = Duration::from_secs(1);

/// Where the service is between its start and its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Stage {
    /// The schema is not known to be up to date.
    Starting,
    Running,
    /// Requests in flight are finished, then the service ends.
    Draining,
}

struct Measured {
    health: Health,
    at: Option<Instant>,
}

/// Measures the database's health and remembers where the service stands.
pub(crate) struct Monitor {
    pool: Pool,
    stage: AtomicU8,
    last: ArcSwap<Measured>,
    /// Held by the one who measures; the others wait for the result.
    measuring: Mutex<()>,
    /// What the start waits for.
    waits_for: ArcSwapOption<String>,
}

impl Monitor {
    pub(crate) fn new(pool: Pool) -> Self {
        Self {
            pool,
            stage: AtomicU8::new(Stage::Starting as u8),
            last: ArcSwap::from_pointee(Measured {
                health: Health::default(),
                at: None,
            }),
            measuring: Mutex::new(()),
            waits_for: ArcSwapOption::empty(),
        }
    }

    /// Takes note of what the start waits for.
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

    /// Moves on to a later stage; there is no way back.
    pub(crate) fn enter(&self, stage: Stage) {
        self.stage.fetch_max(stage as u8, Relaxed);
    }

    /// The database's health, at most a second old.
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
        self.last.store(Arc::new(Measured {
            health: health.clone(),
            at: Some(Instant::now()),
        }));
        health
    }

    /// Whether the database accepts no writes. Says no if it does not answer: that is another trouble.
    async fn is_read_only(&self) -> bool {
        let asked = async {
            let connection = self.pool.get().await.ok()?;
            let row = connection.query_one(IS_READ_ONLY, &[]).await.ok()?;
            row.try_get(0).ok()
        };
        let answer = timeout(WAIT, asked).await;
        answer.ok().flatten().unwrap_or(false)
    }

    fn fresh(&self) -> Option<Health> {
        let last = self.last.load();
        (last.at?.elapsed() < FRESH).then(|| last.health.clone())
    }
}
