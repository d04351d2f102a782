//! Reads the settings again while the service runs, and applies what it can.
//!
//! Invariant: all or nothing. Whatever can fail is done before anything is changed, and one task carries out one reload
//! after the other.

use std::sync::Arc;

use cenote_postgres::{Limits, Pool};
use tokio::{sync::mpsc, task::spawn_blocking};

use crate::{
    admin::{ReloadRefused, ReloadRequest, Reloaded},
    health::{HealthMonitor, Stage},
    settings::{Changes, Loaded, Report, Settings, Sources},
    systemd, telemetry,
};

/// Where the settings came from, and what they were.
#[derive(Debug)]
pub(crate) struct LoadedFrom {
    pub(crate) sources: Sources,
    pub(crate) report: Report,
}

/// Carries out reloads.
pub(super) struct Reloader {
    pub(super) from: LoadedFrom,
    pub(super) health: Arc<HealthMonitor>,
    pub(super) pool: Pool,
}

impl Reloader {
    /// Carries out the reloads that are asked for. Ends with the last [`Reloads`](crate::admin::Reloads).
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<ReloadRequest>) {
        while let Some(ReloadRequest { by, answer }) = requests.recv().await {
            // systemd takes a READY for the end of the start.
            let is_running = self.health.stage() == Stage::Running;
            if is_running {
                systemd::reloading();
            }
            let reloaded = self.reload().await;
            log(by, &reloaded);
            if is_running {
                systemd::ready();
            }
            if let Some(answer) = answer {
                // Nobody waits any more if it fails.
                let _ = answer.send(reloaded);
            }
        }
    }

    async fn reload(&mut self) -> Result<Reloaded, ReloadRefused> {
        let sources = self.from.sources.clone();
        // Files may be on a network. The error concerns the runtime's own end.
        let loaded = spawn_blocking(move || sources.load()).await;
        let loaded = loaded.map_err(|_| ReloadRefused::Ending)?;
        let Loaded {
            settings,
            report,
            warnings,
        } = loaded.map_err(|errors| ReloadRefused::from(&errors))?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let Changes { live, restart } = Changes::between(&self.from.report, &report);
        let mut applied = live;
        for name in self.apply(&settings) {
            if !applied.contains(&name) {
                applied.push(name);
            }
        }
        self.from.report.adopt(report, &restart);
        Ok(Reloaded {
            applied,
            needs_restart: restart,
        })
    }

    /// Applies the settings, and returns the names of those that an administrator had changed meanwhile.
    fn apply(&self, settings: &Settings) -> Vec<&'static str> {
        let mut changed = Vec::new();
        let (before, wanted) = (self.pool.limits(), pool_limits(settings));
        // The settings were checked.
        if before != wanted && self.pool.resize(wanted).is_ok() {
            let sizes = [
                ("DB_POOL_MIN_SIZE", before.min_size != wanted.min_size),
                ("DB_POOL_MAX_SIZE", before.max_size != wanted.max_size),
                ("DB_POOL_MAX_OVERFLOW", before.max_overflow != wanted.max_overflow),
            ];
            changed.extend(sizes.iter().filter(|(_, differs)| *differs).map(|(name, _)| *name));
        }
        if telemetry::filter() != settings.log_filter && telemetry::set_filter(&settings.log_filter).is_ok() {
            changed.push("LOG");
        }
        changed
    }
}

fn pool_limits(settings: &Settings) -> Limits {
    let pool = &settings.postgres.pool;
    Limits {
        min_size: pool.min_size,
        max_size: pool.max_size,
        max_overflow: pool.max_overflow,
    }
}

fn log(by: &str, reloaded: &Result<Reloaded, ReloadRefused>) {
    match reloaded {
        Ok(Reloaded { applied, needs_restart }) => {
            tracing::info!(by, applied = applied.join(", "), "settings reloaded");
            if !needs_restart.is_empty() {
                let settings = needs_restart.join(", ");
                tracing::warn!(settings, "these settings have new values that need a restart");
            }
        }
        Err(ReloadRefused::Faults(faults)) => {
            for fault in faults {
                tracing::error!(
                    by,
                    setting = fault.name,
                    "the settings were not reloaded: {}",
                    fault.problem
                );
            }
        }
        Err(ReloadRefused::Ending) => {}
    }
}
