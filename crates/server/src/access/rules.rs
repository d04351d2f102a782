//! Which requests need which scope, and whether they count as reads, writes or administration.
//!
//! Invariant: a path that is not listed needs credentials, so a forgotten route is closed.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use axum::http::Method;

use crate::{
    auth::{Scope, Scopes},
    limits::Base,
};

/// Who may send a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Anyone.
    Nothing,
    /// Anyone with valid credentials.
    Credentials,
    /// Callers with this scope.
    Scope(Scope),
    /// Callers with one of these scopes.
    Either(Scope, Scope),
}

/// What holds for a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rule {
    pub(crate) needs: Needs,
    /// The limit that the request counts against; `None` for probes, because an instance whose probe is refused is taken
    /// out of service, and for the files of a page, which are needed together.
    pub(crate) limit: Option<Base>,
    /// Whether the operator may open the route to everyone.
    pub(crate) group: Option<OpenGroup>,
}

/// Routes that the operator may open to everyone, by `AUTH_OPEN`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenGroup {
    /// The description of the API, and its page.
    Docs,
    /// `/health`, which tells more than the probes.
    Health,
    /// Statistics.
    Metrics,
}

impl OpenGroup {
    /// The words of the setting.
    pub(crate) const WORDS: &[(&'static str, Self)] = &[
        ("docs", Self::Docs),
        ("health", Self::Health),
        ("metrics", Self::Metrics),
    ];

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// Which groups are open to everyone. It may change at any time.
#[derive(Debug, Default)]
pub(crate) struct OpenGroups(AtomicU8);

impl OpenGroups {
    pub(super) fn set(&self, groups: &[OpenGroup]) {
        let bits = groups.iter().fold(0, |bits, group| bits | group.bit());
        self.0.store(bits, Relaxed);
    }

    pub(super) fn contains(&self, group: OpenGroup) -> bool {
        self.0.load(Relaxed) & group.bit() != 0
    }
}

/// A row of the table.
struct Row {
    /// `None`: every method.
    method: Option<Method>,
    /// With `*` at its end all paths that start so.
    path: &'static str,
    rule: Rule,
}

const READ: Rule = Rule::new(Scope::Read, Base::Read);
const WRITE: Rule = Rule::new(Scope::Write, Base::Write);
const ADMIN: Rule = Rule::new(Scope::Admin, Base::Admin);
const DOCS: Rule = READ.in_group(OpenGroup::Docs);
const METRICS: Rule = Rule::new(Scope::Metrics, Base::Read).in_group(OpenGroup::Metrics);
const HEALTH: Rule = Rule::new(Scope::Metrics, Base::Read).in_group(OpenGroup::Health);
const PROBE: Rule = Rule {
    needs: Needs::Nothing,
    limit: None,
    group: None,
};
/// The page of the dashboard and its files, which hold nothing of the service.
const PAGE: Rule = PROBE;
/// The figures that the page shows.
pub(super) const WATCH: Rule = Rule {
    needs: Needs::Either(Scope::Metrics, Scope::Admin),
    limit: Some(Base::Read),
    group: None,
};
const UNLISTED: Rule = Rule {
    needs: Needs::Credentials,
    limit: Some(Base::Read),
    group: None,
};

impl Rule {
    const fn new(scope: Scope, limit: Base) -> Self {
        Self {
            needs: Needs::Scope(scope),
            limit: Some(limit),
            group: None,
        }
    }

    const fn in_group(self, group: OpenGroup) -> Self {
        Self {
            group: Some(group),
            ..self
        }
    }

    /// The rule of a request with this method and path.
    pub(crate) fn of(method: &Method, path: &str) -> Self {
        // The busiest routes without a look at the table. A test compares both.
        if *method == Method::GET && path.starts_with("/read/") {
            return READ;
        }
        if *method == Method::POST && path == "/write" {
            return WRITE;
        }
        Self::listed(method, path)
    }

    fn listed(method: &Method, path: &str) -> Self {
        let row = TABLE.iter().find(|row| row.is_for(method, path));
        row.map_or(UNLISTED, |row| row.rule)
    }

    /// The scope that a caller with these scopes lacks.
    pub(super) fn missing(self, scopes: Scopes) -> Option<Scope> {
        match self.needs {
            Needs::Nothing | Needs::Credentials => None,
            Needs::Scope(scope) => Some(scope).filter(|scope| !scopes.has(*scope)),
            Needs::Either(one, other) => Some(one).filter(|one| !scopes.has(*one) && !scopes.has(other)),
        }
    }
}

impl Row {
    fn is_for(&self, method: &Method, path: &str) -> bool {
        self.method.as_ref().is_none_or(|only| only == method)
            && match self.path.strip_suffix('*') {
                Some(start) => path.starts_with(start),
                None => path == self.path,
            }
    }
}

const fn row(method: Option<Method>, path: &'static str, rule: Rule) -> Row {
    Row { method, path, rule }
}

/// The first row that matches decides.
static TABLE: &[Row] = &[
    row(Some(Method::DELETE), "/read/*", WRITE),
    row(None, "/read/*", READ),
    row(None, "/read", READ),
    row(None, "/write", WRITE),
    row(Some(Method::POST), "/users", WRITE),
    row(Some(Method::POST), "/users/", WRITE),
    row(None, "/users", READ),
    row(None, "/users/*", READ),
    row(None, "/health/live", PROBE),
    row(None, "/health/ready", PROBE),
    row(None, "/health", HEALTH),
    row(None, "/api/health", HEALTH),
    row(None, "/pool-stats", METRICS),
    row(None, "/cache-stats", METRICS),
    row(None, "/metrics", METRICS),
    row(None, "/admin/*", ADMIN),
    row(None, "/docs", DOCS),
    row(None, "/docs/*", DOCS),
    row(None, "/openapi.json", DOCS),
    row(None, "/", PAGE),
    row(None, "/dashboard/events", WATCH),
    row(None, "/dashboard/*", PAGE),
];

/// The table of docs/auth.md: what each route needs.
#[cfg(test)]
pub(crate) fn as_markdown() -> String {
    let mut text = String::from("| Method | Path | Scope | Limit | `AUTH_OPEN` |\n|---|---|---|---|---|\n");
    let unlisted = row(None, "anything else", UNLISTED);
    for row in TABLE.iter().chain([&unlisted]) {
        let method = row.method.as_ref().map_or("any", Method::as_str);
        let scope = match row.rule.needs {
            Needs::Nothing => "none, no credentials".to_owned(),
            Needs::Credentials => "none, but credentials".to_owned(),
            Needs::Scope(scope) => scope.name().to_owned(),
            Needs::Either(one, other) => format!("{} or {}", one.name(), other.name()),
        };
        let limit = row.rule.limit.map_or("none", Base::name);
        let open = match row.rule.group {
            Some(OpenGroup::Docs) => "`docs`",
            Some(OpenGroup::Health) => "`health`",
            Some(OpenGroup::Metrics) => "`metrics`",
            None => "",
        };
        let path = match row.path {
            "anything else" => row.path.to_owned(),
            path => format!("`{path}`"),
        };
        text += &format!("| {method} | {path} | {scope} | {limit} | {open} |\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::routes::openapi_document;

    fn methods() -> [Method; 6] {
        [
            Method::GET,
            Method::HEAD,
            Method::POST,
            Method::PUT,
            Method::DELETE,
            Method::OPTIONS,
        ]
    }

    #[test]
    fn the_short_cut_and_the_table_agree() {
        let paths = TABLE.iter().map(|row| row.path.replace('*', "x"));
        for path in paths.chain(["/read/".into(), "/write/".into(), "/nowhere".into()]) {
            for method in methods() {
                assert_eq!(
                    Rule::of(&method, &path),
                    Rule::listed(&method, &path),
                    "{method} {path}"
                );
            }
        }
    }

    #[test]
    fn every_described_route_is_listed_and_only_probes_are_open() {
        let document = serde_json::to_value(openapi_document()).unwrap();
        for (path, operations) in document["paths"].as_object().unwrap() {
            for method in operations.as_object().unwrap().keys() {
                let Ok(method) = Method::from_bytes(method.to_uppercase().as_bytes()) else {
                    continue;
                };
                let rule = Rule::of(&method, &path.replace("{key}", "k").replace("{id}", "1"));
                assert_ne!(rule, UNLISTED, "{method} {path}");
                let is_probe = path.starts_with("/health/");
                assert_eq!(rule.needs == Needs::Nothing, is_probe, "{method} {path}");
                let changes = !matches!(method, Method::GET) && path != "/read";
                let is_admin = path.starts_with("/admin/");
                assert_eq!(rule.limit == Some(Base::Write), changes && !is_admin, "{method} {path}");
                assert_eq!(rule.limit == Some(Base::Admin), is_admin, "{method} {path}");
            }
        }
    }

    #[test]
    fn an_unknown_path_needs_credentials() {
        for path in [
            "/nowhere",
            "/dashboard",
            "/dashboards",
            "/Read/x",
            "/write/",
            "//read/x",
            "*",
        ] {
            assert_eq!(Rule::of(&Method::GET, path).needs, Needs::Credentials, "{path}");
        }
    }

    #[test]
    fn figures_need_one_of_two_scopes_and_the_page_needs_none() {
        for method in methods() {
            let rule = Rule::of(&method, "/dashboard/events");
            assert_eq!(
                rule.missing(Scopes::of(&[Scope::Read, Scope::Write])),
                Some(Scope::Metrics)
            );
            assert_eq!(rule.missing(Scopes::of(&[Scope::Metrics])), None);
            assert_eq!(rule.missing(Scopes::of(&[Scope::Admin])), None);
        }
        for path in ["/", "/dashboard/dashboard.js"] {
            assert_eq!(Rule::of(&Method::GET, path).needs, Needs::Nothing, "{path}");
        }
    }

    #[test]
    fn the_documentation_has_the_table() {
        let page = include_str!("../../../../docs/auth.md");
        assert!(page.contains(&as_markdown()), "docs/auth.md needs:\n{}", as_markdown());
    }
}
