//! `/users`.

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

use super::{email, encode, json_of, name, preconditions::Preconditions, whole};
use crate::{
    app::App,
    http::{Json, Number, Path, Problem, Query, Whole, between, number},
    memory::Claim,
    openapi::{Conflict, NotFound, PreconditionFailed},
    problems::{of_full, of_new_user, of_read},
    store::User,
};

const DEFAULT_LIMIT: u32 = 100;
/// Bytes that most users take as JSON.
const SIZE: usize = 128;

/// A user to be added.
#[derive(Deserialize, Validate, ToSchema)]
pub(super) struct NewUser {
    /// 1 to 200 characters that show something: no control or direction characters, no line breaks.
    #[garde(custom(name::valid))]
    #[schema(
        example = "Ada",
        min_length = 1,
        max_length = 200,
        pattern = "^(?=.*\\S)[^\\u0000-\\u001f\\u007f-\\u009f\\u061c\\u200e\\u200f\\u2028-\\u202e\\u2066-\\u2069]*$"
    )]
    name: String,
    /// At most 254 bytes; international domains and local parts too. Not taken yet, upper and lower case aside: Unicode
    /// decides what is the same, whatever the database's locale.
    #[garde(custom(email::valid))]
    #[schema(example = "ada@example.org", format = "email", min_length = 3, max_length = 254)]
    email: String,
}

/// Which users to list.
#[derive(Deserialize, Validate, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// Most users in one answer: 1 to 1000, 100 if not said.
    #[garde(inner(custom(between(1, 1000))))]
    #[serde(default, deserialize_with = "number")]
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u32>,
    /// Only users with a greater id.
    #[garde(inner(custom(between(0, i64::MAX))))]
    #[serde(default, deserialize_with = "number")]
    #[param(minimum = 0, maximum = 9223372036854775807_i64)]
    after: Option<i64>,
}

/// Lists users by id. The header `Link` has the address of the next page, if there is one.
#[utoipa::path(get, path = "/users/", operation_id = "list_users", tag = "users", params(Page), responses(
    (status = 200, body = Vec<User<'_>>, description = "At most `limit` users, by id", headers(
        ("Link" = String, description = "`rel=\"next\"`: where the next page is, relative to the address that was asked for; none on the last"),
    )),
))]
pub(super) async fn list(State(app): State<App>, Query(page): Query<Page>) -> Result<Whole, Problem> {
    let limit = page.limit.unwrap_or(DEFAULT_LIMIT) as usize;
    let mut claim: Option<Claim> = None;
    let (users, more, mut response) = loop {
        // One more than asked for tells whether there is a next page.
        let users = app.store.users(page.after, limit as i64 + 1).await;
        let mut users = users.map_err(of_read)?;
        let more = users.len() > limit;
        users.truncate(limit);
        let bytes = encode(SIZE * users.len(), &users);
        let length = bytes.len();
        if let Some(held) = app.memory.answers.hold(bytes, claim.take()) {
            break (users, more, whole(held));
        }
        drop(users);
        claim = Some(app.memory.answers.claim(length).await.map_err(of_full)?);
    };
    if more && let Some(last) = users.last() {
        // Of the address that was asked for, whatever a proxy has taken off it.
        let next = format!("<?limit={limit}&after={}>; rel=\"next\"", last.user().id);
        response.headers_mut().extend(header(LINK, &next));
    }
    Ok(response)
}

/// Adds a user.
#[utoipa::path(post, path = "/users/", operation_id = "add_user", tag = "users", request_body = NewUser, responses(
    (status = 201, body = User<'_>, description = "The user as it was added", headers(
        ("Location" = String, description = "Where the user is, relative to the address that was asked for"),
    )),
    Conflict,
    PreconditionFailed,
))]
pub(super) async fn add(
    State(app): State<App>,
    uri: Uri,
    headers: HeaderMap,
    Json(NewUser { name, email }): Json<NewUser>,
) -> Result<Whole, Problem> {
    if Preconditions::of(&headers)?.any() {
        return Err(Problem::precondition_failed(
            "users have no versions, so If-Match and If-None-Match cannot be met here; leave them out",
        ));
    }
    let added = app.store.add_user(&name, &email).await;
    let Some(user) = added.map_err(of_new_user)? else {
        return Err(Problem::conflict("a user with this e-mail address exists already"));
    };
    let mut response = json_of(SIZE, &user);
    *response.status_mut() = StatusCode::CREATED;
    // From the address that was asked for.
    let from = match uri.path().ends_with('/') {
        true => "",
        false => "users/",
    };
    let location = format!("{from}{}", user.user().id);
    response.headers_mut().extend(header(LOCATION, &location));
    Ok(response)
}

/// One user.
#[utoipa::path(get, path = "/users/{id}", operation_id = "get_user", tag = "users", params(
    ("id" = i64, Path, description = "The user's number", minimum = 0, maximum = 9223372036854775807_i64),
), responses(
    (status = 200, body = User<'_>, description = "The user"),
    NotFound,
))]
pub(super) async fn get(app: &App, id: i64) -> Result<Whole, Problem> {
    match app.store.user(id).await.map_err(of_read)? {
        Some(user) => Ok(json_of(SIZE, &*user)),
        None => Err(Problem::not_found("there is no such user")),
    }
}

pub(super) async fn get_by_router(
    State(app): State<App>,
    Path(Number(id)): Path<Number<i64>>,
) -> Result<Whole, Problem> {
    get(&app, id).await
}

fn header(name: axum::http::HeaderName, value: &str) -> Option<(axum::http::HeaderName, HeaderValue)> {
    Some((name, HeaderValue::from_str(value).ok()?))
}
