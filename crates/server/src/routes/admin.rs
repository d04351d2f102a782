//! The routes of an administrator: `/admin/…`. Invariant: each takes a JSON object and answers with the state after it.

use std::time::Duration;

use axum::{
    Router,
    extract::{Request, State},
    routing::{get, post},
};
use garde::Validate;
use hyper::body::Body;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::response::json;
use crate::{
    admin::{AdminState, Fault, ReloadRefused, Reloaded},
    app::App,
    audit::CallDetail,
    http::{FailedRequest, FullResponse, Json, Problem, between, characters, no_nul},
    slow_statements::SlowStatement,
};

const DEFAULT_PAUSE: u32 = 60;
/// The most faults of a reload that its response lists, as OpenAPI says. The log has all.
const MOST_FAULTS: usize = 32;

/// The routes, for the router.
pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/admin/state", get(state))
        .route("/admin/recent", get(recent))
        .route("/admin/pause", post(pause))
        .route("/admin/resume", post(resume))
        .route("/admin/resize", post(resize))
        .route("/admin/drain", post(drain))
        .route("/admin/log", post(log))
        .route("/admin/flush", post(flush))
        .route("/admin/reload", post(reload))
}

/// How long to pause.
#[derive(Deserialize, Validate, ToSchema)]
pub(super) struct PauseRequest {
    /// The pool resumes by itself after this number of seconds.
    #[garde(inner(custom(between(1, 3600))))]
    #[schema(minimum = 1, maximum = 3600, default = 60)]
    seconds: Option<u32>,
}

/// New limits of the pool. What is left out stays as it is.
#[derive(Deserialize, Validate, ToSchema)]
pub(super) struct ResizeRequest {
    /// The least number of connections that are kept open.
    #[garde(inner(custom(between(0, 100_000))))]
    #[schema(minimum = 0, maximum = 100_000)]
    min: Option<u32>,
    /// The largest number of connections, without the overflow.
    #[garde(inner(custom(between(1, 100_000))))]
    #[schema(minimum = 1, maximum = 100_000)]
    max: Option<u32>,
    /// Further connections under load.
    #[garde(inner(custom(between(0, 100_000))))]
    #[schema(minimum = 0, maximum = 100_000)]
    overflow: Option<u32>,
}

/// A host of the database to take out of use, or back.
#[derive(Deserialize, Validate, ToSchema)]
pub(super) struct DrainRequest {
    /// The host, as `/admin/state` lists it.
    #[garde(custom(characters(1, 255)), custom(no_nul))]
    #[schema(min_length = 1, max_length = 255, example = "db-1.internal:5432")]
    host: String,
    /// True: use the host again.
    #[serde(default)]
    #[garde(skip)]
    restore: bool,
}

/// A new filter of the log.
#[derive(Deserialize, Validate, ToSchema)]
pub(super) struct LogRequest {
    /// As in the setting `LOG`.
    #[garde(custom(characters(1, 1000)), custom(no_nul))]
    #[schema(min_length = 1, max_length = 1000, example = "info,cenote=debug")]
    filter: String,
}

/// No fields.
#[derive(Deserialize, Validate, ToSchema)]
pub(super) struct NoFields {}

/// Returns what an administrator can change, as it is now.
#[utoipa::path(get, path = "/admin/state", operation_id = "admin_state", tag = "admin", responses(
    (status = 200, body = AdminState, description = "The state"),
))]
pub(super) async fn state(State(app): State<App>) -> FullResponse {
    json(&app.admin.state())
}

/// What failed or was slow just now.
#[derive(Serialize, ToSchema)]
pub(super) struct RecentEvents {
    /// The last fifty requests that failed, the newest first. In a flood of failures some are left out.
    failed_requests: Vec<FailedRequest>,
    /// The last fifty statements that took as long as `DB_SLOW_QUERY`, the newest first.
    slow_statements: Vec<SlowStatement>,
}

/// Returns the last requests that failed, and the last statements that were slow.
#[utoipa::path(get, path = "/admin/recent", operation_id = "admin_recent", tag = "admin", responses(
    (status = 200, body = RecentEvents, description = "The newest first"),
))]
pub(super) async fn recent(State(app): State<App>) -> FullResponse {
    json(&RecentEvents {
        failed_requests: app.traffic.failures().newest_first(),
        slow_statements: app.slow_statements.newest_first(),
    })
}

/// Stops handing out connections until `resume`, or until the time is over. Requests that need the database wait, each
/// for as long as it would wait for a connection.
#[utoipa::path(post, path = "/admin/pause", operation_id = "admin_pause", tag = "admin", request_body = PauseRequest,
    responses((status = 200, body = AdminState, description = "The pool is paused")))]
pub(super) async fn pause(State(app): State<App>, Json(PauseRequest { seconds }): Json<PauseRequest>) -> FullResponse {
    let time = Duration::from_secs(seconds.unwrap_or(DEFAULT_PAUSE).into());
    done(app.admin.pause(time).await, format!("for {} s", time.as_secs()))
}

/// Ends a pause.
#[utoipa::path(post, path = "/admin/resume", operation_id = "admin_resume", tag = "admin", request_body = NoFields,
    responses((status = 200, body = AdminState, description = "The pool hands out connections")))]
pub(super) async fn resume(State(app): State<App>, Json(NoFields {}): Json<NoFields>) -> FullResponse {
    done(app.admin.resume(), String::new())
}

/// Changes the limits of the pool until the next start.
#[utoipa::path(post, path = "/admin/resize", operation_id = "admin_resize", tag = "admin", request_body = ResizeRequest,
    responses((status = 200, body = AdminState, description = "The new limits hold")))]
pub(super) async fn resize(
    State(app): State<App>,
    Json(ResizeRequest { min, max, overflow }): Json<ResizeRequest>,
) -> Result<FullResponse, Problem> {
    match app.admin.resize(min, max, overflow) {
        Ok(state) => {
            let detail = format!("min {}, max {}, overflow {}", state.min, state.max, state.overflow);
            Ok(done(state, detail))
        }
        Err(error) => Err(Problem::unprocessable().field("max", error.to_string())),
    }
}

/// Takes a host of the database out of use: its idle connections are closed now, others when they are returned.
#[utoipa::path(post, path = "/admin/drain", operation_id = "admin_drain", tag = "admin", request_body = DrainRequest,
    responses((status = 200, body = AdminState, description = "The host is out of use, or in use again"), super::openapi::NotFound))]
pub(super) async fn drain(
    State(app): State<App>,
    Json(DrainRequest { host, restore }): Json<DrainRequest>,
) -> Result<FullResponse, Problem> {
    match app.admin.drain_host(&host, !restore) {
        Some(state) => {
            let restored = if restore { "restored" } else { "drained" };
            Ok(done(state, format!("{restored} {host:?}")))
        }
        None => Err(Problem::not_found(
            "the database has no such host; /admin/state lists its hosts",
        )),
    }
}

/// Changes the filter of the log until the next start.
#[utoipa::path(post, path = "/admin/log", operation_id = "admin_log", tag = "admin", request_body = LogRequest,
    responses((status = 200, body = AdminState, description = "The filter is in force")))]
pub(super) async fn log(
    State(app): State<App>,
    Json(LogRequest { filter }): Json<LogRequest>,
) -> Result<FullResponse, Problem> {
    match app.admin.set_log(&filter) {
        Ok(state) => {
            let detail = state.log.clone();
            Ok(done(state, detail))
        }
        Err(wrong) => Err(Problem::unprocessable().field("filter", wrong)),
    }
}

/// Drops everything that is cached, on all instances. With Redis, writes wait meanwhile, for about two leases.
#[utoipa::path(post, path = "/admin/flush", operation_id = "admin_flush", tag = "admin", request_body = NoFields,
    responses((status = 200, body = AdminState, description = "No later read finds what was cached before")))]
pub(super) async fn flush(State(app): State<App>, Json(NoFields {}): Json<NoFields>) -> Result<FullResponse, Problem> {
    app.store.flush().await.map_err(super::errors::of_read)?;
    Ok(done(app.admin.state(), String::new()))
}

/// Reads the settings again, from the sources of the start. If all of them can be used, those that a running service can
/// take over hold from now on; otherwise nothing changes.
#[utoipa::path(post, path = "/admin/reload", operation_id = "admin_reload", tag = "admin", request_body = Option<NoFields>,
    responses((status = 200, body = Reloaded, description = "The settings were read")))]
pub(super) async fn reload(State(app): State<App>, request: Request) -> Result<FullResponse, Problem> {
    if !request.body().is_end_stream() {
        Json::<NoFields>::read(request).await?;
    }
    let (mut response, detail) = match app.admin.reloads().ask("POST /admin/reload").await {
        Ok(reloaded) => (json(&reloaded), reloaded.to_string()),
        Err(refused) => {
            let detail = refused.to_string();
            let problem = match refused {
                ReloadRefused::Faults(faults) => faults_problem(faults),
                ReloadRefused::Ending => {
                    Problem::unavailable("shutting-down", "the service is shutting down; nothing was changed", 1)
                }
            };
            (problem.into_full_response(), detail)
        }
    };
    response.extensions_mut().insert(CallDetail(detail));
    Ok(response)
}

fn faults_problem(faults: Vec<Fault>) -> Problem {
    let fields = faults.into_iter().take(MOST_FAULTS);
    fields.fold(Problem::unprocessable(), |problem, fault| {
        problem.field(fault.name, fault.problem)
    })
}

/// The response of an action. The parameters go to the audit log.
fn done(state: AdminState, parameters: String) -> FullResponse {
    let mut response = json(&state);
    if !parameters.is_empty() {
        response.extensions_mut().insert(CallDetail(parameters));
    }
    response
}
