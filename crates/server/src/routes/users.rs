//! `/users`.

use axum::{
    extract::State,
    http::{
        HeaderValue, StatusCode,
        header::{LINK, LOCATION},
    },
};
use garde::Validate;
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

use super::json_of;
use crate::{
    app::App,
    http::{Json, Path, Problem, Query, Whole, no_nul},
    openapi::ProblemBody,
    problems::{of_new_user, of_read},
    store::User,
};

const DEFAULT_LIMIT: u32 = 100;
/// Bytes that most users take as JSON.
const SIZE: usize = 128;

/// A user to be added.
#[derive(Deserialize, Validate, ToSchema)]
pub(super) struct NewUser {
    /// 1 to 200 characters.
    #[garde(length(chars, min = 1, max = 200), custom(no_nul))]
    #[schema(example = "Ada")]
    name: String,
    /// Not taken yet, upper and lower case aside. Unicode decides what is the same, whatever the database's locale.
    #[garde(length(max = 254), email, custom(no_nul))]
    #[schema(example = "ada@example.org")]
    email: String,
}

/// Which users to list.
#[derive(Deserialize, Validate, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Page {
    /// Most users in one answer: 1 to 1000, 100 if not said.
    #[garde(inner(range(min = 1, max = 1000)))]
    limit: Option<u32>,
    /// Only users with a greater id.
    #[garde(inner(range(min = 0)))]
    after: Option<i64>,
}

/// Lists users by id. The header `Link` has the address of the next page, if there is one.
#[utoipa::path(get, path = "/users/", tag = "users", params(Page), responses(
    (status = 200, body = Vec<User<'_>>, headers(("Link" = Option<String>, description = "`rel=\"next\"`"))),
    (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(app): State<App>,
    Query(page): Query<Page>,
) -> Result<Whole, Problem> {
    let limit = page.limit.unwrap_or(DEFAULT_LIMIT) as usize;
    let after = page.after.unwrap_or(0);
    // One more than asked for tells whether there is a next page.
    let users = app.store.users(after, limit as i64 + 1).await;
    let mut users = users.map_err(of_read)?;
    let more = users.len() > limit;
    users.truncate(limit);
    let mut response = json_of(SIZE * users.len(), &users);
    if more && let Some(last) = users.last() {
        let next = format!(
            "</users/?limit={limit}&after={}>; rel=\"next\"",
            last.user().id
        );
        response.headers_mut().extend(header(LINK, &next));
    }
    Ok(response)
}

/// Adds a user.
#[utoipa::path(post, path = "/users/", tag = "users", request_body = NewUser, responses(
    (status = 201, body = User<'_>, headers(("Location" = String, description = "Where the user is"))),
    (status = 409, body = ProblemBody, content_type = "application/problem+json"),
    (status = "4XX", body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn add(
    State(app): State<App>,
    Json(NewUser { name, email }): Json<NewUser>,
) -> Result<Whole, Problem> {
    let added = app.store.add_user(&name, &email).await;
    let Some(user) = added.map_err(of_new_user)? else {
        return Err(Problem::conflict(
            "a user with this e-mail address exists already",
        ));
    };
    let mut response = json_of(SIZE, &user);
    *response.status_mut() = StatusCode::CREATED;
    let location = format!("/users/{}", user.user().id);
    response.headers_mut().extend(header(LOCATION, &location));
    Ok(response)
}

/// One user.
#[utoipa::path(get, path = "/users/{id}", tag = "users", params(("id" = i64, Path)), responses(
    (status = 200, body = User<'_>),
    (status = 404, body = ProblemBody, content_type = "application/problem+json"),
    (status = 422, body = ProblemBody, content_type = "application/problem+json"),
    (status = "5XX", body = ProblemBody, content_type = "application/problem+json"),
))]
pub(super) async fn get(app: &App, id: i64) -> Result<Whole, Problem> {
    match app.store.user(id).await.map_err(of_read)? {
        Some(user) => Ok(json_of(SIZE, &*user)),
        None => Err(Problem::not_found("there is no such user")),
    }
}

pub(super) async fn get_by_router(
    State(app): State<App>,
    Path(id): Path<i64>,
) -> Result<Whole, Problem> {
    get(&app, id).await
}

fn header(
    name: axum::http::HeaderName,
    value: &str,
) -> Option<(axum::http::HeaderName, HeaderValue)> {
    Some((name, HeaderValue::from_str(value).ok()?))
}
