//! Runs the measurements: which service, under which workload, in which order.
//!
//! Invariant: the services take turns after each measurement, so other load on the machine affects all of them; a
//! service that fails the checks is left out, with the reason.

use std::{collections::BTreeMap, time::Duration};

use super::{
    arrivals::arrive,
    connection::Connection,
    contract,
    measure::{Cell, measure},
    options::Options,
    outcome::Outcome,
    process::Processes,
    services::{ALL, LIMIT, Service},
    setup::{RunningService, Setup},
    tally::{Failure, Tally},
    workload::{self, Workload},
};
use crate::statistics::median;

/// The number of busy clients beside the idle ones.
const BUSY: usize = 64;
/// The number of clients with which the best throughput is measured before the overload.
const BEST: usize = 64;
/// The overload, as a multiple of the best throughput.
const OVERLOAD: f64 = 4.0;
/// How long a request may wait for a connection under overload, in seconds: half of the client's patience.
const POOL_TIMEOUT: &str = "0.5";

/// All that was measured.
#[derive(Debug, Default)]
pub(super) struct Results {
    /// By workload, number of clients, and position in [`ALL`].
    pub(super) steady: BTreeMap<(Workload, usize, usize), Vec<Cell>>,
    /// Under overload.
    pub(super) overload: Vec<Overload>,
    /// Beside idle clients.
    pub(super) idle: Vec<Idle>,
    /// The services that were left out, with the reasons.
    pub(super) left_out: Vec<String>,
}

/// A service under overload.
#[derive(Debug)]
pub(super) struct Overload {
    /// The service's name.
    pub(super) service: &'static str,
    /// Its best throughput, in answers per second.
    pub(super) best: f64,
    /// The load, in requests per second.
    pub(super) offered: f64,
    /// Good answers per second within the client's patience.
    pub(super) good: f64,
    /// The 99th percentile of their latency.
    pub(super) p99: Duration,
    /// The other outcomes per second.
    pub(super) failures: BTreeMap<Failure, f64>,
    /// The share of the machine's CPU time that the load generator took, at the best and under overload.
    pub(super) generator: [f64; 2],
}

/// A service with idle clients.
#[derive(Debug)]
pub(super) struct Idle {
    /// The service's name.
    pub(super) service: &'static str,
    /// The number of idle clients.
    pub(super) clients: usize,
    /// Resident memory before the first request, in bytes.
    pub(super) at_rest: u64,
    /// Additional memory per idle client, in bytes.
    pub(super) each: f64,
    /// Answers per second to the busy clients without idle ones.
    pub(super) alone: f64,
    /// The same with the idle ones.
    pub(super) beside: f64,
}

/// Measures what the options say.
///
/// # Errors
///
/// A server or a service cannot be started, or ends early.
pub(super) async fn run(setup: &Setup, options: &Options) -> Outcome<Results> {
    let mut results = Results::default();
    steady(setup, options, &mut results).await?;
    if options.overload {
        overload(setup, options, &mut results).await?;
    }
    if options.idle {
        idle(setup, options, &mut results).await?;
    }
    Ok(results)
}

async fn steady(setup: &Setup, options: &Options, results: &mut Results) -> Outcome<()> {
    let mut started = Vec::new();
    for &service in &options.services {
        let wanted = options.workloads.iter().any(|&workload| {
            let mut clients = options.clients.iter();
            clients.any(|&clients| service.takes_part(workload, clients))
        });
        if wanted {
            started.extend(admitted(setup, service, &[], results).await?);
        }
    }
    for round in 0..options.rounds {
        for &workload in &options.workloads {
            for &clients in &options.clients {
                // A different service begins each round.
                let first = round % started.len().max(1);
                let (late, early) = started.split_at(first);
                for running in early.iter().chain(late) {
                    if !running.service.takes_part(workload, clients) {
                        continue;
                    }
                    if workload.is_cached() {
                        contract::warm(running).await?;
                    }
                    let cell = measure(setup, running, workload, clients, options.length).await?;
                    eprintln!(
                        "round {} of {}: {}, {clients} clients, {}: {:.0} a second",
                        round + 1,
                        options.rounds,
                        workload.name(),
                        running.service.name,
                        cell.per_second
                    );
                    let of = (workload, clients, position(running.service));
                    results.steady.entry(of).or_default().push(cell);
                }
            }
        }
    }
    for running in started {
        running.end().await?;
    }
    Ok(())
}

/// A position in [`ALL`], which is the order of the tables.
fn position(service: &Service) -> usize {
    ALL.iter()
        .position(|other| other.name == service.name)
        .unwrap_or(ALL.len())
}

/// A running service, if it passes the checks.
async fn admitted(
    setup: &Setup,
    service: &'static Service,
    environment: &[(&str, String)],
    results: &mut Results,
) -> Outcome<Option<RunningService>> {
    let running = setup.start_service(service, environment).await?;
    match contract::check(setup, &running).await {
        Ok(()) => Ok(Some(running)),
        Err(reason) => {
            let reason = format!("{} is left out: {reason}", service.name);
            eprintln!("{reason}");
            if !results.left_out.contains(&reason) {
                results.left_out.push(reason);
            }
            running.end().await?;
            Ok(None)
        }
    }
}

/// Measures services without a cache under overload.
async fn overload(setup: &Setup, options: &Options, results: &mut Results) -> Outcome<()> {
    let workload = Workload::List;
    for &service in options.services.iter().filter(|service| is_plain(service)) {
        let settings = [("DB_POOL_TIMEOUT", POOL_TIMEOUT.to_owned())];
        let Some(running) = admitted(setup, service, &settings, results).await? else {
            continue;
        };
        let (mut best, mut tallies) = (Vec::new(), Vec::new());
        let mut generator = [Vec::new(), Vec::new()];
        for _ in 0..options.rounds {
            let cell = measure(setup, &running, workload, BEST, options.length).await?;
            best.push(cell.per_second);
            let offered = cell.per_second * OVERLOAD;
            let before = Processes::look()?;
            let tally = arrive(&running.target, workload, offered, options.length).await?;
            let after = Processes::look()?;
            generator[0].push(cell.cpu.generator_share);
            generator[1].push(after.own_share_since(&before));
            eprintln!(
                "{}: {offered:.0} offered, {} good in {:?}",
                service.name,
                tally.answered(),
                options.length
            );
            tallies.push(tally);
        }
        running.end().await?;
        let generator = generator.map(|shares| median(&shares));
        let row = summary(service.name, &best, &tallies, options.length);
        results.overload.push(Overload { generator, ..row });
    }
    Ok(())
}

fn summary(service: &'static str, best: &[f64], tallies: &[Tally], length: Duration) -> Overload {
    let good: Vec<f64> = tallies
        .iter()
        .map(|tally| tally.answered() as f64 / length.as_secs_f64())
        .collect();
    let mut all = Tally::default();
    for tally in tallies {
        all.merge(tally);
    }
    let seconds = length.as_secs_f64() * tallies.len() as f64;
    let per_second = |(&failure, &count): (&Failure, &u64)| (failure, count as f64 / seconds);
    Overload {
        service,
        best: median(best),
        offered: median(best) * OVERLOAD,
        good: median(&good),
        p99: all.latency(0.99),
        failures: all.failures().iter().map(per_second).collect(),
        generator: [0.0; 2],
    }
}

/// Measures services without a cache without and with idle clients.
async fn idle(setup: &Setup, options: &Options, results: &mut Results) -> Outcome<()> {
    for &service in options.services.iter().filter(|service| is_plain(service)) {
        let (mut at_rest, mut each) = (Vec::new(), Vec::new());
        let (mut alone, mut beside) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            // A new process each time, because a process keeps memory that it has used once.
            let running = setup.start_service(service, &[]).await?;
            at_rest.push(Processes::look()?.resident(running.pid) as f64);
            let cell = measure(setup, &running, Workload::Read, BUSY, options.length).await?;
            let idle = Sleepers::open(&running, options.idle_clients).await?;
            let more = Processes::look()?.resident(running.pid).saturating_sub(cell.resident);
            each.push(more as f64 / options.idle_clients as f64);
            alone.push(cell.per_second);
            let cell = measure(setup, &running, Workload::Read, BUSY, options.length).await?;
            beside.push(cell.per_second);
            eprintln!("{} beside idle clients: {:.0} a second", service.name, cell.per_second);
            idle.answer_still().await?;
            running.end().await?;
        }
        results.idle.push(Idle {
            service: service.name,
            clients: options.idle_clients,
            at_rest: median(&at_rest) as u64,
            each: median(&each),
            alone: median(&alone),
            beside: median(&beside),
        });
    }
    Ok(())
}

/// Whether its answers come from the database.
fn is_plain(service: &Service) -> bool {
    service.name != LIMIT && service.takes_part(Workload::Read, BUSY)
}

/// Idle clients: each has sent one request and keeps its connection.
struct Sleepers(Vec<Connection>);

impl Sleepers {
    async fn open(running: &RunningService, count: usize) -> Outcome<Self> {
        let mut all = Self(Vec::with_capacity(count));
        for _ in 0..count {
            all.0.push(Connection::open(&running.target).await?);
            if let Some(newest) = all.0.last_mut() {
                ask(newest).await?;
            }
        }
        Ok(all)
    }

    /// Checks that they were connected all the time. Otherwise the measurement with them would be wrong.
    async fn answer_still(mut self) -> Outcome<()> {
        for connection in &mut self.0 {
            ask(connection).await?;
        }
        Ok(())
    }
}

async fn ask(connection: &mut Connection) -> Outcome<()> {
    let mut request = Vec::new();
    workload::read(0, &mut request);
    match connection.ask(&request).await?.status {
        200 => Ok(()),
        status => Err(format!("an idle client got status {status}").into()),
    }
}

impl Results {
    /// The medians of a service, if it was measured.
    #[must_use]
    pub(super) fn medians(&self, workload: Workload, clients: usize, position: usize) -> Option<Cell> {
        let cells = self.steady.get(&(workload, clients, position))?;
        Some(Cell::median(cells))
    }
}
