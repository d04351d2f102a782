//! The OpenAPI description, apart from the routes: title, tags, and the error responses that operations share.
//!
//! Invariant: it has every status that an operation may return, and every type of problem that docs/errors.md explains.

use std::collections::BTreeMap;

use serde_json::json;
use utoipa::{
    OpenApi, ToSchema,
    openapi::{
        Components, Content, Header, Object, Ref, RefOr, Response, Type,
        path::{Operation, PathItem},
        schema::{ArrayItems, Schema, SchemaType},
        security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

/// Title, version and tags, without routes.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "cenote",
        description = "A key-value and users API over pooled PostgreSQL.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0"),
    ),
    tags(
        (name = "keys", description = "Values by key; each write makes a new version"),
        (name = "users", description = "People with a name and an e-mail address"),
        (name = "operations", description = "Health and statistics"),
        (name = "admin", description = "What an administrator can do to the running service"),
    ),
    // Relative to the document, so that it holds behind any prefix that a proxy removes.
    servers((url = ".", description = "This service")),
    components(schemas(ProblemBody)),
)]
pub(super) struct ApiInfo;

/// An error: `application/problem+json` of RFC 9457. It may have further members.
#[derive(ToSchema)]
#[schema(as = Problem)]
#[allow(dead_code, reason = "describes what `http::Problem` writes")]
pub(crate) struct ProblemBody {
    /// The stable name of the problem's type.
    #[schema(example = "urn:cenote:problem:pool-timeout")]
    r#type: String,
    title: String,
    /// The HTTP status.
    #[schema(minimum = 400, maximum = 599)]
    status: u16,
    /// What happened in this case.
    detail: String,
    /// With 422: the wrong fields.
    #[schema(min_items = 1, max_items = 32)]
    errors: Option<Vec<FieldProblem>>,
}

/// One field that is missing or not valid.
#[derive(ToSchema)]
#[allow(dead_code, reason = "describes what `http::Problem` writes")]
pub(crate) struct FieldProblem {
    field: String,
    detail: String,
}

/// The prefix of every type of problem.
const URN: &str = "urn:cenote:problem:";

/// An error response that operations share.
struct ErrorResponse {
    status: &'static str,
    /// Its name among the reusable responses of the document.
    name: &'static str,
    /// The types of problems with this status, without [`URN`].
    types: &'static [&'static str],
    description: &'static str,
    header: Option<(&'static str, &'static str)>,
}

/// All error responses. docs/errors.md explains each type.
const ERROR_RESPONSES: &[ErrorResponse] = &[
    ErrorResponse {
        status: "400",
        name: "BadRequest",
        types: &["malformed-json", "bad-request"],
        description: "The request is malformed: the body is not JSON or broke off, the path is not UTF-8, or a header is malformed",
        header: None,
    },
    ErrorResponse {
        status: "401",
        name: "Unauthorized",
        types: &["unauthorized"],
        description: "There is no API key or token, or it is not valid",
        header: Some(("WWW-Authenticate", "How to authenticate")),
    },
    ErrorResponse {
        status: "403",
        name: "Forbidden",
        types: &["forbidden"],
        description: "The API key or token lacks the scope that `scope` names",
        header: Some(("WWW-Authenticate", "The scope that is needed")),
    },
    ErrorResponse {
        status: "404",
        name: "NotFound",
        types: &["not-found"],
        description: "There is no such key, user or path",
        header: None,
    },
    ErrorResponse {
        status: "405",
        name: "MethodNotAllowed",
        types: &["method-not-allowed"],
        description: "The path does not support this method",
        header: Some(("Allow", "The methods that the path supports")),
    },
    ErrorResponse {
        status: "408",
        name: "RequestTimeout",
        types: &["request-timeout"],
        description: "The body did not arrive in time",
        header: None,
    },
    ErrorResponse {
        status: "409",
        name: "Conflict",
        types: &["conflict"],
        description: "A user with this e-mail address exists",
        header: None,
    },
    ErrorResponse {
        status: "412",
        name: "PreconditionFailed",
        types: &["precondition-failed"],
        description: "`If-Match` or `If-None-Match` does not hold for the current version; nothing was changed",
        header: Some(("ETag", "The current version, if there is one")),
    },
    ErrorResponse {
        status: "413",
        name: "PayloadTooLarge",
        types: &["payload-too-large"],
        description: "The body is longer than `HTTP_MAX_BODY`, 1 MiB if not set",
        header: None,
    },
    ErrorResponse {
        status: "414",
        name: "UriTooLong",
        types: &["uri-too-long"],
        description: "Path and query have more than 16 KiB",
        header: None,
    },
    ErrorResponse {
        status: "415",
        name: "UnsupportedMediaType",
        types: &["unsupported-media-type"],
        description: "`Content-Type` is not JSON in UTF-8, or the body is compressed",
        header: None,
    },
    ErrorResponse {
        status: "422",
        name: "Unprocessable",
        types: &["validation"],
        description: "Fields, parameters or the key are missing or not valid; `errors` names each",
        header: None,
    },
    ErrorResponse {
        status: "429",
        name: "TooManyRequests",
        types: &["too-many-requests"],
        description: "The caller exceeds a limit; `violated-policies` names each. Nothing was done",
        header: Some(("Retry-After", "The number of seconds after which to try again")),
    },
    ErrorResponse {
        status: "431",
        name: "HeadTooLarge",
        types: &["head-too-large"],
        description: "The head of the request has more than `HTTP_MAX_HEADER_BYTES`, or more headers than `HTTP_MAX_HEADERS`",
        header: None,
    },
    ErrorResponse {
        status: "500",
        name: "Internal",
        types: &["internal"],
        description: "The service failed; its log has the reason",
        header: None,
    },
    ErrorResponse {
        status: "501",
        name: "NotImplemented",
        types: &["not-implemented"],
        description: "`Transfer-Encoding` is not just `chunked`",
        header: None,
    },
    ErrorResponse {
        status: "503",
        name: "Unavailable",
        types: &[
            "pool-timeout",
            "pool-overloaded",
            "database-unavailable",
            "answers-waiting",
            "memory-pressure",
            "cache-unreachable",
            "outcome-unknown",
            "conflict-retries-exhausted",
            "database-exhausted",
            "read-only",
            "schema-not-ready",
            "not-ready",
            "shutting-down",
            "too-many-connections",
            "too-many-viewers",
            "auth-unavailable",
        ],
        description: "The request cannot be served now. With `outcome-unknown` a write may have happened; with every other type nothing was done",
        header: Some(("Retry-After", "The number of seconds after which to try again")),
    },
    ErrorResponse {
        status: "504",
        name: "CommandTimeout",
        types: &["command-timeout"],
        description: "A statement took too long. If it is unknown whether a write took effect, `detail` says so",
        header: None,
    },
];

impl ErrorResponse {
    fn response(&self) -> Response {
        let mut response = Response::new(self.description);
        let problem = Content::new(Some(RefOr::Ref(Ref::from_schema_name("Problem"))));
        let problem = RefOr::T(problem);
        response.content.insert("application/problem+json".to_owned(), problem);
        let id = ("x-request-id", "The id of this request in the log");
        for (name, description) in self.header.into_iter().chain([id]) {
            let mut header = Header::new(match name {
                "Retry-After" => Object::with_type(Type::Integer),
                _ => Object::with_type(Type::String),
            });
            header.description = Some(description.to_owned());
            response.headers.insert(name.to_owned(), RefOr::T(header));
        }
        response
    }
}

/// Adds to each operation the error responses that it shares with others. A route names further ones in its macro, such as
/// `responses(NotFound)`.
pub(super) fn complete(mut api: utoipa::openapi::OpenApi) -> utoipa::openapi::OpenApi {
    let components = api.components.get_or_insert_default();
    name_types(components);
    bound_keys(components);
    name_credentials(components);
    // The last one: without `AUTH` no credentials are needed.
    let requirement = |name: &str| SecurityRequirement::new(name, Vec::<String>::new());
    api.security = Some(vec![
        requirement(BEARER),
        requirement(API_KEY),
        requirement(CERTIFICATE),
        SecurityRequirement::default(),
    ]);
    for error in ERROR_RESPONSES {
        let response = RefOr::T(error.response());
        components.responses.insert(error.name.to_owned(), response);
    }
    for item in api.paths.paths.values_mut() {
        for operation in operations(item) {
            for parameter in operation.parameters.iter_mut().flatten() {
                if let RefOr::T(parameter) = parameter {
                    never_null(&mut parameter.schema);
                }
            }
            for status in shared(operation) {
                let error = ERROR_RESPONSES.iter().find(|error| error.status == status);
                let Some(error) = error else {
                    continue;
                };
                let responses = &mut operation.responses.responses;
                let response = Ref::from_response_name(error.name);
                responses.entry(status.to_owned()).or_insert(RefOr::Ref(response));
            }
        }
    }
    api
}

/// Returns the statuses of the errors that an operation may return because of its tag, body and parameters.
fn shared(operation: &Operation) -> impl Iterator<Item = &'static str> + use<> {
    let tagged = |tag: &str| {
        let tags = operation.tags.iter().flatten();
        tags.into_iter().any(|one| one == tag)
    };
    let asks_database = !tagged("operations");
    let has_body = operation.request_body.is_some();
    let has_parameters = operation.parameters.as_ref().is_some_and(|all| !all.is_empty());
    [
        (true, &["400", "401", "403", "429", "500", "503"][..]),
        (has_body || has_parameters, &["422"]),
        (has_body, &["408", "413", "415"]),
        (asks_database, &["504"]),
    ]
    .into_iter()
    .filter(|(holds, _)| *holds)
    .flat_map(|(_, statuses)| statuses.iter().copied())
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let PathItem {
        get,
        post,
        delete,
        put,
        patch,
        ..
    } = item;
    [get, post, delete, put, patch].into_iter().flatten()
}

/// The names of the ways to show credentials.
const BEARER: &str = "bearer";
const API_KEY: &str = "api-key";
const CERTIFICATE: &str = "certificate";

/// Describes the ways to show credentials.
fn name_credentials(components: &mut Components) {
    let bearer = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some("An API key (`cnk_…`) or a JSON Web Token"))
        .build();
    let key = ApiKeyValue::with_description("X-API-Key", "An API key (`cnk_…`)");
    components.add_security_scheme(BEARER, SecurityScheme::Http(bearer));
    let certificate = SecurityScheme::MutualTls {
        description: Some("A certificate of the client, where `TLS_CLIENT_CA` is set".to_owned()),
        deprecated: None,
        extensions: None,
    };
    components.add_security_scheme(CERTIFICATE, certificate);
    components.add_security_scheme(API_KEY, SecurityScheme::ApiKey(ApiKey::Header(key)));
}

/// Lists the types of problems in the schema, as an enum.
fn name_types(components: &mut Components) {
    let Some(RefOr::T(Schema::Object(problem))) = components.schemas.get_mut("Problem") else {
        return;
    };
    let Some(RefOr::T(Schema::Object(kind))) = problem.properties.get_mut("type") else {
        return;
    };
    kind.schema_type = SchemaType::new(Type::String);
    kind.enum_values = Some(types().map(|kind| json!(format!("{URN}{kind}"))).collect());
}

/// Gives the keys of `POST /read` the bounds of the key of `POST /write`.
fn bound_keys(components: &mut Components) {
    let Some(RefOr::T(Schema::Object(write))) = components.schemas.get("Write") else {
        return;
    };
    let Some(RefOr::T(Schema::Object(key))) = write.properties.get("key") else {
        return;
    };
    let mut key = key.clone();
    (key.description, key.example) = (None, None);
    let Some(RefOr::T(Schema::Object(many))) = components.schemas.get_mut("ReadMany") else {
        return;
    };
    if let Some(RefOr::T(Schema::Array(keys))) = many.properties.get_mut("keys") {
        keys.items = ArrayItems::RefOrSchema(Box::new(RefOr::T(Schema::Object(key))));
    }
}

/// Removes null from the types of an optional parameter: in a header or a query it would be the text "null".
fn never_null(schema: &mut Option<RefOr<Schema>>) {
    if let Some(RefOr::T(Schema::Object(object))) = schema
        && let SchemaType::Array(types) = &object.schema_type
        && let Some(only) = types.iter().find(|one| **one != Type::Null)
    {
        object.schema_type = SchemaType::new(only.clone());
    }
}

fn types() -> impl Iterator<Item = &'static str> {
    ERROR_RESPONSES.iter().flat_map(|error| error.types.iter().copied())
}

/// Makes types that a route's macro can name, such as `responses(NotFound)`.
macro_rules! error_responses {
    ($($name:ident),*) => {
        $(
            #[doc = "An error response that a route may return."]
            pub(crate) struct $name;

            impl utoipa::IntoResponses for $name {
                fn responses() -> BTreeMap<String, RefOr<Response>> {
                    let named = ERROR_RESPONSES.iter().filter(|error| error.name == stringify!($name));
                    let by_status = |error: &ErrorResponse| {
                        let response = RefOr::Ref(Ref::from_response_name(error.name));
                        (error.status.to_owned(), response)
                    };
                    named.map(by_status).collect()
                }
            }
        )*
    };
}

error_responses!(NotFound, Conflict, PreconditionFailed);

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn the_documentation_explains_every_type_of_problem_and_no_other() {
        let page = include_str!("../../../../docs/errors.md");
        let mut explained = BTreeSet::new();
        for line in page.lines() {
            // A row of a table: status and type.
            let mut cells = line.split('|').map(str::trim).skip(1);
            if let (Some(status), Some(kind)) = (cells.next(), cells.next())
                && status.parse::<u16>().is_ok()
            {
                explained.insert((status.to_owned(), kind.trim_matches('`').to_owned()));
            }
        }
        let described: BTreeSet<_> = ERROR_RESPONSES
            .iter()
            .flat_map(|error| error.types.iter().map(|kind| (error.status, *kind)))
            .map(|(status, kind)| (status.to_owned(), kind.to_owned()))
            .collect();
        assert_eq!(explained, described);
    }

    #[test]
    fn every_type_of_problem_in_the_code_is_described() {
        let described: BTreeSet<&str> = types().collect();
        for (file, text) in sources() {
            let text = text.split("#[cfg(test)]").next().unwrap();
            for call in ["Problem::new(", "Self::new(", "unavailable("] {
                for after in text.split(call).skip(1) {
                    // The first text of the call is the type, with at most a status before it.
                    let Some((before, rest)) = after.split_once('"') else {
                        continue;
                    };
                    let only_a_status = before.chars().all(|c| c.is_alphabetic() || " _:,\n".contains(c));
                    if !only_a_status || !(call == "unavailable(" || before.contains("StatusCode")) {
                        continue;
                    }
                    let kind = rest.split('"').next().unwrap();
                    // In the constructors of `Problem` it is a title.
                    if !kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-') {
                        continue;
                    }
                    assert!(described.contains(kind), "{kind:?} in {file}");
                }
            }
        }
    }

    fn sources() -> Vec<(String, String)> {
        let mut found = Vec::new();
        let mut folders = vec![std::path::PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/src"))];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let text = std::fs::read_to_string(&path).unwrap();
                    found.push((path.display().to_string(), text));
                }
            }
        }
        found
    }
}
