//! The names that requests are counted by. Invariant: a closed set, so no request makes another one, and a path and the
//! route that answers it have the same name.

use crate::http::RouteNames;

/// All names. Counted together are the pages of `/docs`, the routes of administration, and the dashboard at `/` with its
/// files and figures.
pub(crate) static ROUTE_NAMES: RouteNames = RouteNames { names: &NAMES, of };

const NAMES: [&str; 16] = [
    "/read/{key}",
    "/write",
    "/users/{id}",
    "/read",
    "/users",
    "/health",
    "/health/live",
    "/health/ready",
    "/pool-stats",
    "/cache-stats",
    "/metrics",
    "/admin",
    "/docs",
    "/openapi.json",
    "/dashboard",
    "other",
];

/// In the order of the names. A few nanoseconds: each request is looked up here.
fn of(path: &str) -> usize {
    // The busiest first.
    if path.starts_with("/read/") {
        return 0;
    }
    match path {
        "/write" => 1,
        "/read" => 3,
        "/users" | "/users/" => 4,
        "/health" | "/api/health" => 5,
        "/health/live" => 6,
        "/health/ready" => 7,
        "/pool-stats" => 8,
        "/cache-stats" => 9,
        "/metrics" => 10,
        "/docs" => 12,
        "/openapi.json" => 13,
        "/" => 14,
        _ if path.starts_with("/users/") => 2,
        _ if path.starts_with("/admin/") => 11,
        _ if path.starts_with("/docs/") => 12,
        _ if path.starts_with("/dashboard/") => 14,
        _ => NAMES.len() - 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dashboard::ROUTES_OF_CALLERS, routes::openapi_document};

    #[test]
    fn the_dashboard_counts_routes_that_exist() {
        for route in ROUTES_OF_CALLERS {
            assert!(NAMES.contains(&route), "{route}");
        }
    }

    #[test]
    fn every_documented_path_has_its_name() {
        for path in openapi_document().paths.paths.keys() {
            let concrete = path.replace("{key}", "a/b").replace("{id}", "7");
            let name = NAMES[of(&concrete)];
            let is_of_group = ["/admin/", "/dashboard/"]
                .iter()
                .any(|group| path.starts_with(group) && name == group.trim_end_matches('/'));
            assert!(
                name == path.trim_end_matches('/') || is_of_group,
                "{path} is counted as {name}"
            );
        }
        for (path, name) in [
            ("/api/health", "/health"),
            ("/docs/index.css", "/docs"),
            ("/users/", "/users"),
            ("/read/", "/read/{key}"),
            ("/", "/dashboard"),
            ("/dashboard/events", "/dashboard"),
            ("/dashboard", "other"),
            ("/readers", "other"),
            ("/health/deep", "other"),
            ("", "other"),
        ] {
            assert_eq!(NAMES[of(path)], name, "{path}");
        }
    }
}
