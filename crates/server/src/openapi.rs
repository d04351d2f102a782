//! What the description of the service says besides its routes. Invariant: it is made from the types that are
//! served, so it cannot tell another story.

use utoipa::{OpenApi, ToSchema};

/// Title, version and tags; the routes are added by whoever knows them.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "cenote",
        description = "A key-value and users API over pooled PostgreSQL.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    tags(
        (name = "keys", description = "Values under keys, each write with a version of its own"),
        (name = "users", description = "People with a name and an e-mail address"),
        (name = "operations", description = "Health and statistics"),
    ),
    components(schemas(ProblemBody)),
)]
pub(crate) struct Envelope;

/// Every error: RFC 9457, `application/problem+json`.
#[derive(ToSchema)]
#[schema(as = Problem)]
#[allow(dead_code, reason = "describes what `http::Problem` writes")]
pub(crate) struct ProblemBody {
    /// A stable name of the kind of problem.
    #[schema(example = "urn:cenote:problem:pool-timeout")]
    r#type: String,
    title: String,
    /// The HTTP status.
    status: u16,
    /// What happened this time.
    detail: String,
    /// For 422: what is wrong with which field.
    errors: Option<Vec<FieldProblem>>,
}

/// One field that is missing or not valid.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what `http::Problem` writes")]
pub(crate) struct FieldProblem {
    field: String,
    detail: String,
}
