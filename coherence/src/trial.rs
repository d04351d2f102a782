//! Runs one mode under one fault, from the start of the servers to the verdict. Invariant: the verdict depends only on
//! what clients saw.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use cenote_cache::{clock, protocol::time::BootTime};
use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    error::Result,
    fault::Fault,
    history::{Operation, check},
    inject::{inject, prepare},
    load::{Load, sweep},
    measure,
    mode::Mode,
    outcome::Outcome,
    record::Notes,
    report,
    world::{World, directory},
};

/// The longest that a fault lasts.
const LONGEST_FAULT: Duration = Duration::from_secs(10);

/// A mode under a fault.
#[derive(Debug, Clone)]
pub struct Trial {
    /// The mode of the cache.
    pub mode: Mode,
    /// What goes wrong.
    pub fault: Fault,
    /// How long the clients run. The fault begins after a quarter of that time and lasts a third of it, at most 10 s.
    /// The clients run for at least another quarter after the recovery.
    pub lasts: Duration,
    /// The number of clients.
    pub clients: usize,
    /// The built program, `cenote`.
    pub program: PathBuf,
    /// Where a directory is created for the logs and, after violations, for the history.
    pub output: PathBuf,
    /// How long things may take.
    pub limits: Limits,
}

/// How long things may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// The longest time in which an instance may acknowledge no write while it and the database are up.
    pub stall: Duration,
    /// The longest time from the end of the fault until every instance writes, answers from its cache and is well.
    pub recovery: Duration,
    /// The longest time in which an instance that is up may answer.
    pub request: Duration,
}

impl Default for Limits {
    /// 3 s, 20 s and 15 s.
    fn default() -> Self {
        Self {
            stall: Duration::from_secs(3),
            recovery: Duration::from_secs(20),
            request: Duration::from_secs(15),
        }
    }
}

impl Trial {
    /// Runs the trial.
    ///
    /// # Errors
    /// A server does not start, or the fault cannot be injected.
    pub async fn run(&self) -> Result<Outcome> {
        let name = format!("{}-{}", self.mode.name(), self.fault.name());
        let directory = directory(&self.output, &name)?;
        let world = World::start(self.mode, self.fault, &self.program, &directory).await?;
        let world = Arc::new(world);
        let load = Load::start(&world, self.clients);
        let (start, end) = (clock::now(), Instant::now() + self.lasts);
        sleep(self.lasts / 8).await;
        prepare(self.fault, &world).await?;
        sleep(self.lasts / 8).await;
        let fault_lasts = LONGEST_FAULT.min(self.lasts / 3);
        inject(self.fault, &world, fault_lasts).await?;
        let lifted = clock::now();
        let well = world.is_well(self.limits.recovery).await;
        let well = well.map(|()| clock::now().since(lifted));
        sleep_until(end.max(Instant::now() + self.lasts / 4)).await;
        let stopped = clock::now();
        let mut notes = load.stop().await?;
        notes.absorb(sweep(&world).await?);
        let times = Times { start, lifted, stopped };
        self.judge(&directory, &world, notes, &times, well)
    }

    fn judge(
        &self,
        directory: &Path,
        world: &World,
        notes: Notes,
        times: &Times,
        well: Result<Duration>,
    ) -> Result<Outcome> {
        let (records, instances) = (&notes.records, self.mode.instances());
        let (operations, reads, hits) = measure::counts(records);
        let downtime = &world.downtime;
        let stall = measure::longest_stall(records, instances, downtime, times.start, times.stopped);
        let recovered = measure::recovery(records, instances, self.mode.caches(), times.lifted);
        let slowest = measure::slowest(&notes.slow, downtime);
        let history: Vec<Operation> = notes.records.into_iter().map(|it| it.operation).collect();
        let violations = check(&history, self.mode.promise(self.fault));
        if !violations.is_empty() {
            report::save(directory, &history, &violations, times.start)?;
        }

        let mut reasons = Vec::new();
        if !violations.is_empty() && !self.mode.is_plain() {
            let file = directory.join(report::VIOLATIONS);
            reasons.push(format!("{} violations: {}", violations.len(), file.display()));
        }
        if operations == 0 || (self.mode.caches() && hits == 0) {
            reasons.push("nothing was seen".to_owned());
        }
        if stall > self.limits.stall {
            reasons.push(format!("no write for {stall:.1?}"));
        }
        let recovery = match (&well, recovered) {
            (Ok(well), Some(recovered)) => Some(recovered.max(*well)),
            _ => None,
        };
        match (well, recovery) {
            (Err(error), _) => reasons.push(error.to_string()),
            (Ok(_), None) => reasons.push("it did not recover".to_owned()),
            (Ok(_), Some(took)) if took > self.limits.recovery => {
                reasons.push(format!("recovered only after {took:.1?}"));
            }
            (Ok(_), Some(_)) => {}
        }
        let took = slowest.map_or(Duration::ZERO, |it| it.ended.since(it.invoked));
        if took > self.limits.request {
            let end = match slowest.is_some_and(|it| it.is_answered) {
                true => "was answered",
                false => "was given up",
            };
            reasons.push(format!("a request {end} after {took:.1?}"));
        }
        reasons.extend(notes.tally.nonsense.first().map(|first| {
            let count = notes.tally.nonsense.len();
            format!("{count} answers that nobody may give: {first}")
        }));
        Ok(Outcome {
            mode: self.mode,
            fault: self.fault,
            operations,
            reads,
            hits,
            violations,
            stall,
            slowest: took,
            recovery,
            reasons,
            tally: notes.tally,
        })
    }
}

/// When things happened.
struct Times {
    start: BootTime,
    lifted: BootTime,
    stopped: BootTime,
}
