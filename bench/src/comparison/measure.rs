//! One measurement of one service under one workload. Invariant: CPU time is taken at both ends of the window in which
//! answers count.

use std::{collections::BTreeMap, time::Duration};

use tokio::time::sleep_until;

use super::{
    clients::Clients,
    outcome::Outcome,
    process::Processes,
    setup::{RunningService, Setup},
    tally::{Failure, Tally},
    workload::Workload,
};
use crate::statistics::median;

/// What a measurement gave, or the medians of several.
#[derive(Clone, Debug)]
pub(super) struct Cell {
    /// Good answers a second.
    pub(super) per_second: f64,
    /// The latency that half of them did not exceed.
    pub(super) p50: Duration,
    /// The latency that 99 of 100 did not exceed.
    pub(super) p99: Duration,
    /// CPU time per good answer.
    pub(super) cpu: Cpu,
    /// Resident memory of the service at the end, in bytes.
    pub(super) resident: u64,
    /// What went wrong; of all measurements.
    pub(super) failures: BTreeMap<Failure, u64>,
}

/// Who used how much CPU time, in microseconds per good answer; and how much of the machine others used meanwhile.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cpu {
    /// The service.
    pub(super) service: f64,
    /// PostgreSQL, all its processes.
    pub(super) postgres: f64,
    /// Redis.
    pub(super) redis: f64,
    /// The load generator, which is this process.
    pub(super) generator: f64,
    /// The share of the machine's CPU time that the load generator used.
    pub(super) generator_share: f64,
    /// The share of it that none of these used.
    pub(super) others: f64,
}

/// Measures a service with clients that send the next request when they get an answer.
///
/// # Errors
///
/// The service refuses connections, or the database cannot be put in order.
pub(super) async fn measure(
    setup: &Setup,
    running: &RunningService,
    workload: Workload,
    clients: usize,
    length: Duration,
) -> Outcome<Cell> {
    setup.settle(running.service).await?;
    let clients = Clients::start(&running.target, workload, clients, length).await?;
    let window = clients.window;
    sleep_until(window.begin.into()).await;
    let before = Processes::look()?;
    sleep_until(window.end.into()).await;
    let after = Processes::look()?;
    let tally = clients.finish().await?;
    Ok(Cell {
        per_second: tally.answered() as f64 / window.length().as_secs_f64(),
        p50: tally.latency(0.5),
        p99: tally.latency(0.99),
        cpu: Cpu::between(&before, &after, setup, running, &tally),
        resident: after.resident(running.pid),
        failures: tally.failures().clone(),
    })
}

impl Cpu {
    fn between(before: &Processes, after: &Processes, setup: &Setup, running: &RunningService, tally: &Tally) -> Self {
        let spent =
            |pid: Option<u32>| pid.map_or(0.0, |pid| after.cpu(pid).saturating_sub(before.cpu(pid)).as_secs_f64());
        let own = after.own_cpu().saturating_sub(before.own_cpu());
        let [service, postgres, redis, generator] = [
            spent(Some(running.pid)),
            spent(setup.postgres_pid()),
            spent(running.redis_pid()),
            own.as_secs_f64(),
        ];
        let [used, there] = after.machine_since(before).map(|time| time.as_secs_f64());
        let ours = service + postgres + redis + generator;
        let each = |seconds: f64| seconds * 1e6 / tally.answered().max(1) as f64;
        Self {
            service: each(service),
            postgres: each(postgres),
            redis: each(redis),
            generator: each(generator),
            generator_share: after.own_share_since(before),
            others: (used - ours).max(0.0) / there.max(f64::EPSILON),
        }
    }
}

impl Cell {
    /// The median of each value by itself; failures added up; of others' CPU time the most.
    ///
    /// # Panics
    ///
    /// There is no cell.
    #[must_use]
    pub(super) fn median(cells: &[Self]) -> Self {
        let middle = |value: fn(&Self) -> f64| {
            let values: Vec<f64> = cells.iter().map(value).collect();
            median(&values)
        };
        let mut failures = BTreeMap::new();
        for (failure, count) in cells.iter().flat_map(|cell| &cell.failures) {
            *failures.entry(*failure).or_default() += count;
        }
        Self {
            per_second: middle(|cell| cell.per_second),
            p50: Duration::from_secs_f64(middle(|cell| cell.p50.as_secs_f64())),
            p99: Duration::from_secs_f64(middle(|cell| cell.p99.as_secs_f64())),
            cpu: Cpu {
                service: middle(|cell| cell.cpu.service),
                postgres: middle(|cell| cell.cpu.postgres),
                redis: middle(|cell| cell.cpu.redis),
                generator: middle(|cell| cell.cpu.generator),
                generator_share: middle(|cell| cell.cpu.generator_share),
                others: cells.iter().map(|cell| cell.cpu.others).fold(0.0, f64::max),
            },
            resident: middle(|cell| cell.resident as f64) as u64,
            failures,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(per_second: f64, others: f64, failures: u64) -> Cell {
        Cell {
            per_second,
            p50: Duration::from_secs_f64(1.0 / per_second),
            p99: Duration::from_millis(5),
            cpu: Cpu {
                others,
                ..Cpu::default()
            },
            resident: 7,
            failures: [(Failure::Status(500), failures)].into(),
        }
    }

    #[test]
    fn one_disturbed_round_does_not_move_the_medians_but_its_errors_count() {
        let cells = [cell(100.0, 0.01, 0), cell(10.0, 0.6, 3), cell(110.0, 0.02, 1)];
        let median = Cell::median(&cells);
        assert_eq!(median.per_second, 100.0);
        assert_eq!(median.p50, Duration::from_millis(10));
        assert_eq!(median.cpu.others, 0.6);
        assert_eq!(median.failures[&Failure::Status(500)], 4);
    }
}
