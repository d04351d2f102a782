//! The routes about users: `GET` and `POST /users/`, `GET /users/{id}`.
//!
//! Invariant: a user that is added has a name that shows something and an e-mail address to which mail could be sent.

mod email;
mod name;

use axum::{
    extract::State,
    http::{
        HeaderMap, HeaderValue, StatusCode, Uri,
        header::{LINK, LOCATION},
    },
};
use garde::Validate;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::{
    errors::{of_new_user, of_no_room, of_read},
    openapi::{Conflict, NotFound, PreconditionFailed},
    preconditions::Preconditions,
    response::{compressible, encode, json_bytes, json_sized},
};
use crate::{
    app::App,
    http::{FullResponse, Json, Problem, Query, Stage, Stopwatch, Timings, between, number},
    response_memory::Claim,
    store::User,
};

const DEFAULT_LIMIT: u32 = 100;
/// The number of bytes that most users take as JSON.
const USER_BYTES: usize = 128;

/// A user to add.
#[derive(Deserialize, Validate, ToSchema)]
pub(super) struct NewUser {
    /// 1 to 200 characters, at least one of them visible. No control characters, no characters that change the direction
    /// of text, no line breaks.
    #[garde(custom(name::valid))]
    #[schema(
        example = "Ada",
        min_length = 1,
        max_length = 200,
        pattern = "^(?=.*\\S)[^\\u0000-\\u001f\\u007f-\\u009f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]*$"
    )]
    name: String,
    /// At most 254 bytes; international domains and local parts are accepted. No other user may have the same address in
    /// upper or lower case. Unicode decides which characters are the same, not the database's locale.
    #[garde(custom(email::valid))]
    #[schema(example = "ada@example.org", format = "email", min_length = 3, max_length = 254)]
    email: String,
}

/// Which users to list.
#[derive(Deserialize, Validate, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// The largest number of users in one response.
    #[garde(inner(custom(between(1, 1000))))]
    #[serde(default, deserialize_with = "number")]
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// List only users with a greater id.
    #[garde(inner(custom(between(0, i64::MAX))))]
    #[serde(default, deserialize_with = "number")]
    #[param(minimum = 0, maximum = 9223372036854775807_i64)]
    after: Option<i64>,
}

/// Lists users by id. The header `Link` has the URL of the next page, if there is one.
#[utoipa::path(get, path = "/users/", operation_id = "list_users", tag = "users", params(Page), responses(
    (status = 200, body = Vec<User<'_>>, description = "At most `limit` users, ordered by id", headers(
        ("Link" = String, description = "`rel=\"next\"`: the next page, relative to the requested URL; absent on the last page"),
    )),
))]
#[expect(
    clippy::significant_drop_tightening,
    reason = "the claim is held until the response takes it"
)]
pub(super) async fn list(State(app): State<App>, Query(page): Query<Page>) -> Result<FullResponse, Problem> {
    let limit = page.limit.unwrap_or(DEFAULT_LIMIT) as usize;
    let mut claim: Option<Claim> = None;
    let (users, more, mut response) = loop {
        // One user more than requested tells whether there is a next page.
        let users = app.store.users.listing.page(page.after, limit as i64 + 1).await;
        let mut users = users.map_err(of_read)?;
        let more = users.len() > limit;
        users.truncate(limit);
        let bytes = encode(USER_BYTES * users.len(), &users);
        let length = bytes.len();
        if let Some(held) = app.memory.responses.hold(bytes, claim.take()) {
            break (users, more, json_bytes(held));
        }
        // Hold no users while waiting for clients to read their responses. Read again afterwards.
        drop(users);
        claim = Some(app.memory.responses.claim(length).await.map_err(of_no_room)?);
    };
    if more && let Some(last) = users.last() {
        // Relative, so that it works behind any prefix that a proxy removes.
        let next = format!("<?limit={limit}&after={}>; rel=\"next\"", last.user().id);
        response.headers_mut().extend(header(LINK, &next));
    }
    // The body repeats nothing of the request.
    Ok(compressible(response))
}

/// Adds a user.
#[utoipa::path(post, path = "/users/", operation_id = "add_user", tag = "users", request_body = NewUser, responses(
    (status = 201, body = User<'_>, description = "The new user", headers(
        ("Location" = String, description = "The URL of the user, relative to the requested URL"),
    )),
    Conflict,
    PreconditionFailed,
))]
pub(super) async fn add(
    State(app): State<App>,
    uri: Uri,
    headers: HeaderMap,
    Json(NewUser { name, email }): Json<NewUser>,
) -> Result<FullResponse, Problem> {
    if Preconditions::from_headers(&headers)?.any() {
        return Err(Problem::precondition_failed(
            "users have no versions, so If-Match and If-None-Match can never hold here; leave them out",
        ));
    }
    let added = app.store.users.add(&name, &email).await;
    let Some(user) = added.map_err(of_new_user)? else {
        return Err(Problem::conflict("a user with this e-mail address exists already"));
    };
    let mut response = json_sized(USER_BYTES, &user);
    *response.status_mut() = StatusCode::CREATED;
    // Relative to the requested URL, which has a slash at its end or not.
    let from = match uri.path().ends_with('/') {
        true => "",
        false => "users/",
    };
    let location = format!("{from}{}", user.user().id);
    response.headers_mut().extend(header(LOCATION, &location));
    Ok(response)
}

/// Returns one user.
#[utoipa::path(get, path = "/users/{id}", operation_id = "get_user", tag = "users", params(
    ("id" = i64, Path, description = "The user's id", minimum = 0, maximum = 9223372036854775807_i64),
), responses(
    (status = 200, body = User<'_>, description = "The user"),
    NotFound,
))]
pub(super) async fn get(app: &App, id: i64, timings: Option<&Timings>) -> Result<FullResponse, Problem> {
    let watch = Stopwatch::start(timings);
    let found = app.store.users.get(id).await;
    watch.stop(Stage::Db);
    match found.map_err(of_read)? {
        Some(user) => Ok(json_sized(USER_BYTES, &*user)),
        None => Err(Problem::not_found("there is no such user")),
    }
}

fn header(name: axum::http::HeaderName, value: &str) -> Option<(axum::http::HeaderName, HeaderValue)> {
    Some((name, HeaderValue::from_str(value).ok()?))
}
