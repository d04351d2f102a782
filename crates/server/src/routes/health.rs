//! `/health`, `/health/live`, `/health/ready`.

use std::time::Duration;

use axum::{extract::State, http::StatusCode};
use cenote_cache::stats::{Reason, State as CacheState};
use cenote_postgres::HealthState;
use serde::Serialize;
use utoipa::ToSchema;

use super::{json, millis};
use crate::{
    app::App,
    health::Stage,
    http::{Problem, Whole},
    openapi::ProblemBody,
    settings::CacheMode,
    store::Queues,
};

/// A request that has waited longer to be sent to the database is a sign of overload.
const LONG: Duration = Duration::from_secs(1);

/// How the service is doing.
#[derive(Serialize, ToSchema)]
pub(super) struct Health {
    /// `ok`, `degraded` or `unhealthy`.
    #[schema(example = "ok")]
    status: &'static str,
    /// `starting`, `running` or `draining`.
    stage: &'static str,
    /// How long the database took to answer.
    #[schema(example = 0.41)]
    latency_ms: Option<f64>,
    database: Part,
    pool: Part,
    cache: Part,
    /// Seconds since the start.
    uptime_s: u64,
    version: &'static str,
}

/// One of the things the service depends on.
#[derive(Serialize, ToSchema)]
pub(super) struct Part {
    /// `healthy`, `degraded`, `unhealthy`, `unknown`, or `off`.
    #[schema(example = "healthy")]
    state: &'static str,
    /// What is wrong with it.
    problem: Option<String>,
}

/// How the service and what it depends on are doing.
#[utoipa::path(get, path = "/health", operation_id = "health", tag = "operations", responses(
    (status = 200, body = Health, description = "`ok` or `degraded`"),
    (status = 503, description = "`unhealthy`; or the service takes no more connections", content(
        (Health = "application/json"),
        (ProblemBody = "application/problem+json"),
    )),
))]
pub(super) async fn health(State(app): State<App>) -> Whole {
    let stage = app.health.stage();
    let database = app.health.database().await;
    let cache = cache(&app);
    let overload = problem_of_queues(&app);
    let status = match (stage, database.state) {
        (Stage::Starting, _) | (_, HealthState::Unhealthy | HealthState::Unknown) => "unhealthy",
        (_, HealthState::Degraded) => "degraded",
        (_, HealthState::Healthy) if cache.problem.is_some() || overload.is_some() => "degraded",
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
        pool: pool(&app, overload),
        database: Part {
            state: database.state.as_str(),
            problem: database.problem,
        },
        cache,
        uptime_s: app.started.elapsed().as_secs(),
        version: env!("CARGO_PKG_VERSION"),
    };
    let mut whole = json(&body);
    if status == "unhealthy" {
        *whole.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    whole
}

fn pool(app: &App, overload: Option<&str>) -> Part {
    let stats = app.pool.stats().pool;
    let failures = stats.connect_failures_in_a_row;
    let problem = match stats.health() {
        HealthState::Unknown | HealthState::Healthy => None,
        _ if !stats.open => Some("draining".to_owned()),
        _ if failures > 0 => Some(format!("the last {failures} connects failed")),
        _ if stats.paused => Some("paused".to_owned()),
        _ if stats.waiting > 0 => {
            let waiting = stats.waiting;
            Some(format!("{waiting} requests wait for a connection"))
        }
        _ if stats.shedding => Some("more requests than connections can serve".to_owned()),
        _ => Some(format!("{} connections are held for long", stats.leaked)),
    };
    let state = stats.health();
    match (state, overload) {
        (HealthState::Healthy, Some(problem)) => Part {
            state: HealthState::Degraded.as_str(),
            problem: Some(problem.to_owned()),
        },
        _ => Part {
            state: state.as_str(),
            problem,
        },
    }
}

/// What is wrong with what waits to share a statement.
fn problem_of_queues(app: &App) -> Option<&'static str> {
    let Queues {
        reads,
        writes,
        users,
    } = app.queues();
    let all = reads + writes + users;
    match all.longest_wait > LONG {
        _ if all.refusing => Some("more requests than the database can serve; some are refused"),
        true => Some("requests wait long to be sent to the database"),
        false => None,
    }
}

fn cache(app: &App) -> Part {
    let stats = app.store.cache_stats();
    let deaf = app.has_feed && !app.store.feed_stats().listening;
    let problem =
        stats.and_then(|stats| problem_of_cache(stats.state)).or(
            deaf.then_some("the change feed is interrupted: what bypasses the service is not seen")
        );
    Part {
        state: match (app.cache_mode, problem) {
            (CacheMode::Off, _) => "off",
            (_, Some(_)) => "degraded",
            (_, None) => "healthy",
        },
        problem: problem.map(str::to_owned),
    }
}

/// Why the cache is not used.
pub(super) fn problem_of_cache(state: CacheState) -> Option<&'static str> {
    match state {
        CacheState::Ok => None,
        CacheState::Degraded(reason) => Some(match reason {
            Reason::UnknownEpoch => {
                "the database has not said which Redis is in use; reads go to the database, writes wait"
            }
            Reason::Untrusted => "no Redis is in use; reads and writes go to the database",
            Reason::Unreachable => {
                "Redis does not answer; reads go to the database, writes wait until that is agreed on"
            }
        }),
    }
}

/// That all is well.
#[derive(Serialize, ToSchema)]
pub(super) struct Fine {
    #[schema(example = "ok")]
    status: &'static str,
}

const FINE: Fine = Fine { status: "ok" };

/// Whether the process answers. Never touches the database.
#[utoipa::path(get, path = "/health/live", operation_id = "live", tag = "operations", responses(
    (status = 200, body = Fine, description = "It answers"),
))]
pub(super) async fn live() -> Whole {
    json(&FINE)
}

/// Whether to send requests here: not while starting, draining or unhealthy.
#[utoipa::path(get, path = "/health/ready", operation_id = "ready", tag = "operations", responses(
    (status = 200, body = Fine, description = "Send requests here"),
))]
pub(super) async fn ready(State(app): State<App>) -> Result<Whole, Problem> {
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
