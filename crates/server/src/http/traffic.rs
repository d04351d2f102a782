//! Counts connections and requests, for metrics, and keeps the newest failures.
//!
//! Invariant: a request costs some additions to memory of its core alone, and no lock, allocation or reading of the clock,
//! unless its trace is recorded: then it is kept as an example, under a lock of its core for which it does not wait.
//! The number of counters is fixed, whatever peers send.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, SystemTime};

use axum::http::{Method, StatusCode};
use cenote_metrics::{AtomicHistogram, Exemplar, Exemplars, Histogram};
use cenote_trace::TraceId;

use super::connections::Connections;
use super::failures::FailedRequest;
use super::timeouts::TimeoutCounts;
use crate::recent::Recent;

/// The routes that requests are counted by: a closed set.
#[derive(Debug, Clone, Copy)]
pub struct RouteNames {
    /// Their templates. At least one.
    pub names: &'static [&'static str],
    /// Returns the position in `names` of the route of a path.
    pub of: fn(&str) -> usize,
}

impl RouteNames {
    /// One name for all paths.
    pub const ANY: Self = Self {
        names: &["any"],
        of: |_| 0,
    };
}

/// The methods that requests are counted by.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "DELETE", "OPTIONS", "other"];

fn method_index(method: &Method) -> usize {
    match *method {
        Method::GET => 0,
        Method::HEAD => 1,
        Method::POST => 2,
        Method::DELETE => 3,
        Method::OPTIONS => 4,
        _ => 5,
    }
}

/// The classes of status codes, and one for requests whose client left before the response.
const CODES: [&str; 5] = ["2xx", "3xx", "4xx", "5xx", "none"];
const NO_CODE: usize = 4;

fn code_index(status: StatusCode) -> usize {
    usize::from(status.as_u16() / 100)
        .checked_sub(2)
        .filter(|index| *index < NO_CODE)
        .unwrap_or(NO_CODE)
}

/// What was counted since the start, for all cores.
#[derive(Debug)]
pub struct Traffic {
    routes: RouteNames,
    cores: Box<[CoreTraffic]>,
    pub(super) connections: Arc<Connections>,
    pub(super) timeouts: TimeoutCounts,
    accepted: AtomicU64,
    refused_at_limit: AtomicU64,
    refused_without_descriptor: AtomicU64,
    failures: Recent<FailedRequest>,
}

/// What one core counts. Aligned to two cache lines, which processors fetch together, so that cores do not share one.
#[derive(Debug)]
#[repr(align(128))]
struct CoreTraffic {
    in_flight: AtomicUsize,
    /// In the order of the names.
    routes: Box<[RouteTraffic]>,
}

#[derive(Debug, Default)]
struct RouteTraffic {
    requests: [[AtomicU64; CODES.len()]; METHODS.len()],
    durations: AtomicHistogram,
    exemplars: Exemplars,
}

// Relaxed throughout: the counts order nothing, and a sum may miss the newest.
impl Traffic {
    /// Counters for this many cores, at least one.
    #[must_use]
    pub fn new(cores: usize, routes: RouteNames) -> Self {
        let core = |_| CoreTraffic {
            in_flight: AtomicUsize::new(0),
            routes: routes.names.iter().map(|_| RouteTraffic::default()).collect(),
        };
        Self {
            routes,
            cores: (0..cores.max(1)).map(core).collect(),
            connections: Connections::new(cores),
            timeouts: TimeoutCounts::default(),
            accepted: AtomicU64::new(0),
            refused_at_limit: AtomicU64::new(0),
            refused_without_descriptor: AtomicU64::new(0),
            failures: Recent::default(),
        }
    }

    /// The newest requests that failed.
    #[must_use]
    pub fn failures(&self) -> &Recent<FailedRequest> {
        &self.failures
    }

    /// Counts a connection that is served.
    pub(super) fn accept(&self) {
        self.accepted.fetch_add(1, Relaxed);
    }

    /// Counts a connection beyond the limit.
    pub(super) fn refuse_at_limit(&self) {
        self.refused_at_limit.fetch_add(1, Relaxed);
    }

    /// Counts a connection for which the process had no descriptor left.
    pub(super) fn refuse_without_descriptor(&self) {
        self.refused_without_descriptor.fetch_add(1, Relaxed);
    }

    /// Returns the route of a path.
    pub(super) fn route_of(&self, path: &str) -> Route {
        let last = self.routes.names.len().saturating_sub(1);
        Route((self.routes.of)(path).min(last))
    }

    /// Returns the template of a route.
    pub(super) fn name_of(&self, route: Route) -> &'static str {
        self.routes.names[route.0]
    }

    /// Counts a request that begins on this core. `trace`: its trace, if that is recorded.
    pub(super) fn begin(
        &self,
        core: usize,
        method: &Method,
        route: Route,
        trace: Option<TraceId>,
    ) -> CountedRequest<'_> {
        let core = &self.cores[core.min(self.cores.len() - 1)];
        core.in_flight.fetch_add(1, Relaxed);
        CountedRequest {
            traffic: self,
            core,
            route: route.0,
            method: method_index(method),
            trace,
            is_answered: false,
        }
    }

    /// Returns what was counted.
    #[must_use]
    pub fn stats(&self) -> TrafficStats {
        let names = self.routes.names.iter().enumerate();
        TrafficStats {
            connections: self.connections.count(),
            accepted: self.accepted.load(Relaxed),
            refused_at_limit: self.refused_at_limit.load(Relaxed),
            refused_without_descriptor: self.refused_without_descriptor.load(Relaxed),
            timeouts: self.timeouts.each().collect(),
            in_flight: self.cores.iter().map(|core| core.in_flight.load(Relaxed)).sum(),
            routes: names.map(|(at, route)| self.route(at, route)).collect(),
        }
    }

    fn route(&self, at: usize, route: &'static str) -> RouteStats {
        let cores = || self.cores.iter().map(|core| &core.routes[at]);
        let mut durations = Histogram::default();
        let mut exemplars = Vec::new();
        for core in cores() {
            durations.merge(&core.durations.snapshot());
            core.exemplars.merge_into(&mut exemplars);
        }
        let mut requests = Vec::new();
        for (method, name) in METHODS.into_iter().enumerate() {
            for (class, code) in CODES.into_iter().enumerate() {
                let count = cores().map(|core| core.requests[method][class].load(Relaxed)).sum();
                if count > 0 {
                    requests.push((name, code, count));
                }
            }
        }
        RouteStats {
            route,
            requests,
            durations,
            exemplars,
        }
    }
}

/// A route of the table: a position in its names.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route(usize);

/// A request that is counted. Its drop counts it as unanswered, unless it was [answered](Self::answered).
pub(super) struct CountedRequest<'a> {
    traffic: &'a Traffic,
    core: &'a CoreTraffic,
    route: usize,
    method: usize,
    trace: Option<TraceId>,
    is_answered: bool,
}

impl CountedRequest<'_> {
    /// Counts the response.
    pub(super) fn answered(mut self, status: StatusCode, after: Duration) {
        self.is_answered = true;
        let route = &self.core.routes[self.route];
        route.requests[self.method][code_index(status)].fetch_add(1, Relaxed);
        route.durations.record(after);
        if let Some(trace) = self.trace {
            route.exemplars.record(Exemplar {
                trace_id: trace.to_bytes(),
                duration: after,
                at: SystemTime::now(),
            });
        }
        if status == StatusCode::REQUEST_TIMEOUT {
            self.traffic.timeouts.count_body();
        }
    }
}

impl Drop for CountedRequest<'_> {
    fn drop(&mut self) {
        self.core.in_flight.fetch_sub(1, Relaxed);
        if !self.is_answered {
            self.core.routes[self.route].requests[self.method][NO_CODE].fetch_add(1, Relaxed);
        }
    }
}

/// What was counted since the start.
#[derive(Debug, Clone)]
pub struct TrafficStats {
    /// Open connections.
    pub connections: usize,
    /// Connections that were served.
    pub accepted: u64,
    /// Connections beyond the limit, which were answered 503.
    pub refused_at_limit: u64,
    /// Connections for which the process had no descriptor left, which were answered 503.
    pub refused_without_descriptor: u64,
    /// How often each timeout of a request was reached, by its name.
    pub timeouts: Vec<(&'static str, u64)>,
    /// Requests that are being answered.
    pub in_flight: usize,
    /// What was counted for each route.
    pub routes: Vec<RouteStats>,
}

/// The requests of a route.
#[derive(Debug, Clone)]
pub struct RouteStats {
    /// Its template.
    pub route: &'static str,
    /// The number of requests by method and class of status, without those that have none.
    pub requests: Vec<(&'static str, &'static str, u64)>,
    /// The time from the last byte of the request's head to the response.
    pub durations: Histogram,
    /// For each bucket of the metric the newest request whose trace is recorded; empty if there was none.
    pub exemplars: Vec<Option<Exemplar>>,
}

#[cfg(test)]
mod tests {
    use super::*;

    static ROUTES: RouteNames = RouteNames {
        names: &["/a", "other"],
        of: |path| usize::from(path != "/a"),
    };

    #[test]
    fn requests_of_all_cores_are_counted_by_route_method_and_class() {
        let traffic = Traffic::new(2, ROUTES);
        let millisecond = Duration::from_millis(1);
        for (core, method, path, status) in [
            (0, Method::GET, "/a", 200),
            (1, Method::GET, "/a", 204),
            (1, Method::PUT, "/a", 405),
            (0, Method::GET, "/b", 503),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            traffic
                .begin(core, &method, traffic.route_of(path), None)
                .answered(status, millisecond);
        }
        let stats = traffic.stats();
        assert_eq!(stats.in_flight, 0);
        let [a, other] = &stats.routes[..] else {
            panic!("{stats:?}");
        };
        assert_eq!((a.route, other.route), ("/a", "other"));
        assert_eq!(a.requests, [("GET", "2xx", 2), ("other", "4xx", 1)]);
        assert_eq!(other.requests, [("GET", "5xx", 1)]);
        assert_eq!((a.durations.count(), a.durations.sum()), (3, 3 * millisecond));
    }

    #[test]
    fn a_request_whose_client_left_is_in_flight_until_then_and_has_no_code() {
        let traffic = Traffic::new(1, ROUTES);
        let request = traffic.begin(0, &Method::POST, traffic.route_of("/a"), None);
        assert_eq!(traffic.stats().in_flight, 1);
        drop(request);
        let stats = traffic.stats();
        assert_eq!(stats.in_flight, 0);
        assert_eq!(stats.routes[0].requests, [("POST", "none", 1)]);
        assert_eq!(stats.routes[0].durations.count(), 0);
    }

    #[test]
    fn no_path_method_or_status_makes_another_series() {
        let traffic = Traffic::new(2, ROUTES);
        for number in 0..100_000_u32 {
            let name: String = (0..8).map(|_| fastrand::alphabetic()).collect();
            let method = Method::from_bytes(name.as_bytes()).unwrap();
            let status = StatusCode::from_u16(fastrand::u16(100..1000)).unwrap();
            let route = traffic.route_of(&format!("/{name}"));
            let request = traffic.begin(number as usize, &method, route, None);
            request.answered(status, Duration::from_nanos(fastrand::u64(..)));
        }
        let stats = traffic.stats();
        let [a, other] = &stats.routes[..] else {
            panic!("{stats:?}");
        };
        assert!(a.requests.is_empty());
        let series: Vec<_> = other
            .requests
            .iter()
            .map(|(method, code, _)| (*method, *code))
            .collect();
        assert_eq!(series, CODES.map(|code| ("other", code)));
        assert_eq!(other.durations.count(), 100_000);
    }

    #[test]
    fn an_odd_status_has_no_code() {
        for (status, code) in [(101, "none"), (200, "2xx"), (599, "5xx"), (600, "none"), (999, "none")] {
            assert_eq!(
                CODES[code_index(StatusCode::from_u16(status).unwrap())],
                code,
                "{status}"
            );
        }
    }
}
