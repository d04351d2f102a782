//! `/health`, `/health/live`, `/health/ready`. Invariant: each is answered in bounded time, whatever has failed.

use std::time::{Duration, SystemTime};

use axum::{extract::State, http::StatusCode};
use cenote_postgres::{HealthState, Stats};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    openapi::ProblemBody,
    response::{json, millis},
};
use crate::{
    app::App,
    health::Stage,
    http::{FullResponse, Problem},
    memory_watch::Level,
    store::{CacheMode, problem_of_cache},
};

/// A queue whose first entry has waited this long does not drain: more requests arrive than are served. Shorter waits come
/// and go under normal load.
const STANDING: Duration = Duration::from_millis(250);

/// The health of the service.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`, `degraded` or `unhealthy`.
    #[schema(example = "ok")]
    status: &'static str,
    /// `starting`, `running` or `draining`.
    stage: &'static str,
    /// How long the database took to answer a query.
    #[schema(example = 0.41)]
    latency_ms: Option<f64>,
    database: Part,
    pool: Part,
    cache: Part,
    memory: MemoryPart,
    tls: Part,
    authentication: Part,
    /// Whether the instances share the rate limits; `off` if they are not to.
    limits: Part,
    /// Seconds since the start.
    uptime_s: u64,
    version: &'static str,
}

/// The health of one part that the service depends on.
#[derive(Serialize, ToSchema)]
pub(super) struct Part {
    /// `healthy`, `degraded`, `unhealthy`, `unknown`, or `off`.
    #[schema(example = "healthy")]
    state: &'static str,
    /// What is wrong, if anything is.
    problem: Option<String>,
}

/// How short memory is.
#[derive(Serialize, ToSchema)]
pub(super) struct MemoryPart {
    #[serde(flatten)]
    part: Part,
    /// The memory that the kernel cannot take back at will, of the cgroup or the machine. Absent if it is not watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    used_bytes: Option<u64>,
    /// How much may be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    limit_bytes: Option<u64>,
}

/// Returns the health of the service and of the parts it depends on. `/api/health` is the same.
#[utoipa::path(get, path = "/health", operation_id = "health", tag = "operations", responses(
    (status = 200, body = Health, description = "`ok` or `degraded`"),
    (status = 503, description = "`unhealthy`; or the limit of connections is reached", content(
        (Health = "application/json"),
        (ProblemBody = "application/problem+json"),
    )),
))]
pub(super) async fn health(State(app): State<App>) -> FullResponse {
    let stage = app.health.stage();
    let database = app.health.database().await;
    let cache = cache(&app);
    let pool = pool(&app);
    let memory = memory(&app);
    let tls = tls(&app, SystemTime::now());
    let authentication = authentication(&app);
    let limits = limits(&app);
    let status = match (stage, database.state) {
        (Stage::Starting, _) | (_, HealthState::Unhealthy | HealthState::Unknown) => "unhealthy",
        (_, HealthState::Degraded) => "degraded",
        (_, HealthState::Healthy)
            if [&cache, &pool, &memory.part, &tls, &authentication, &limits]
                .iter()
                .any(|part| part.problem.is_some()) =>
        {
            "degraded"
        }
        (_, HealthState::Healthy) => "ok",
    };
    let body = Health {
        status,
        stage: match stage {
            Stage::Starting => "starting",
            Stage::Running => "running",
            Stage::Draining => "draining",
        },
        latency_ms: database.latency.map(millis),
        pool,
        database: Part {
            state: database.state.as_str(),
            problem: database.problem,
        },
        cache,
        memory,
        tls,
        authentication,
        limits,
        uptime_s: app.started.elapsed().as_secs(),
        version: env!("CARGO_PKG_VERSION"),
    };
    let mut response = json(&body);
    if status == "unhealthy" {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}

fn pool(app: &App) -> Part {
    let stats = app.pool.stats();
    let state = stats.pool.health();
    let problem = problem_of_pool(&stats).or_else(|| problem_of_queues(app));
    let state = match (state, &problem) {
        // Degraded only because of waiters that have just arrived.
        (HealthState::Degraded, None) => HealthState::Healthy,
        (HealthState::Healthy, Some(_)) => HealthState::Degraded,
        (state, _) => state,
    };
    Part {
        state: state.as_str(),
        problem,
    }
}

fn problem_of_pool(Stats { pool: stats, .. }: &Stats) -> Option<String> {
    let (failures, waiting, leaked) = (stats.connect_failures_in_a_row, stats.waiting, stats.leaked);
    Some(match stats.longest_wait {
        _ if !stats.open => "draining".to_owned(),
        _ if failures > 0 => format!("the last {failures} connects failed"),
        _ if stats.paused => "paused".to_owned(),
        Some(longest) if longest >= STANDING => {
            format!(
                "{waiting} requests wait for a connection, the first for {:.0} ms",
                millis(longest)
            )
        }
        _ if stats.shedding => "more requests than connections can serve".to_owned(),
        _ if leaked > 0 => format!("{leaked} connections have been held for more than a minute"),
        _ => return None,
    })
}

/// Returns what is wrong with the queues of requests that share statements.
fn problem_of_queues(app: &App) -> Option<String> {
    let all = app.queues().all();
    match all.longest_wait {
        _ if all.refusing => Some("more requests than the database can serve; some were refused".to_owned()),
        longest if longest >= STANDING => Some(format!(
            "{} requests wait to be sent to the database, the first for {:.0} ms",
            all.waiting,
            millis(longest)
        )),
        _ => None,
    }
}

fn cache(app: &App) -> Part {
    let stats = app.store.cache_stats();
    let is_interrupted = app.has_feed && !app.store.feed_stats().listening;
    let problem = stats.and_then(|stats| problem_of_cache(&stats)).or_else(|| {
        let interrupted = "the change feed is interrupted: changes made outside the service are not seen";
        is_interrupted.then(|| interrupted.to_owned())
    });
    Part {
        state: match (app.cache_mode, &problem) {
            (CacheMode::Off, _) => "off",
            (_, Some(_)) => "degraded",
            (_, None) => "healthy",
        },
        problem,
    }
}

fn memory(app: &App) -> MemoryPart {
    let report = app.memory_state.report();
    let report = report.as_deref();
    MemoryPart {
        part: Part {
            state: match report.map(|report| report.level) {
                None => "off",
                Some(Level::Normal) => "healthy",
                Some(Level::Warning | Level::Critical) => "degraded",
            },
            problem: report.and_then(|report| report.problem.clone()),
        },
        used_bytes: report.map(|report| report.reading.used),
        limit_bytes: report.map(|report| report.reading.limit),
    }
}

/// Whether the instances share the limits.
fn limits(app: &App) -> Part {
    let shared = app.gate.limits().shared();
    let state = match &shared {
        None => "off",
        Some(shared) if shared.problem.is_some() => "degraded",
        Some(_) => "healthy",
    };
    Part {
        state,
        problem: shared.and_then(|shared| shared.problem),
    }
}

fn tls(app: &App, now: SystemTime) -> Part {
    let Some(tls) = &app.tls else {
        return Part {
            state: "off",
            problem: None,
        };
    };
    let hours = tls.stats().expires_soon(now);
    Part {
        state: if hours.is_some() { "degraded" } else { "healthy" },
        problem: hours.map(|hours| format!("the TLS certificate expires in less than {} h", hours + 1)),
    }
}

fn authentication(app: &App) -> Part {
    let problem = app.auth.as_ref().and_then(|auth| auth.problem());
    Part {
        state: match (&app.auth, &problem) {
            (None, _) => "off",
            (_, Some(_)) => "degraded",
            (_, None) => "healthy",
        },
        problem,
    }
}

/// The response of a successful probe.
#[derive(Serialize, ToSchema)]
pub(super) struct Fine {
    #[schema(example = "ok")]
    status: &'static str,
}

const FINE: Fine = Fine { status: "ok" };

/// Returns 200 while the process answers. Never asks the database.
#[utoipa::path(get, path = "/health/live", operation_id = "live", tag = "operations", responses(
    (status = 200, body = Fine, description = "The process answers"),
))]
pub(super) async fn live() -> FullResponse {
    json(&FINE)
}

/// Returns 200 if requests should be sent here: not while the service is starting, draining or unhealthy.
#[utoipa::path(get, path = "/health/ready", operation_id = "ready", tag = "operations", responses(
    (status = 200, body = Fine, description = "Requests should be sent here"),
))]
pub(super) async fn ready(State(app): State<App>) -> Result<FullResponse, Problem> {
    let not_ready = |why: String| Problem::unavailable("not-ready", why, 1);
    match app.health.stage() {
        Stage::Starting => return Err(not_ready("the service is starting".into())),
        Stage::Draining => return Err(not_ready("the service is draining".into())),
        Stage::Running => {}
    }
    let database = app.health.database().await;
    if database.state == HealthState::Unhealthy {
        let problem = database.problem.unwrap_or_default();
        return Err(not_ready(format!("the database is unhealthy: {problem}")));
    }
    Ok(json(&FINE))
}
