//! Each setting that the documentation calls `live` is really applied by a reload: before it the service does one thing,
//! after it another.

mod access;
mod pool_and_limits;
mod requests;
mod tls;
mod tokens;

use std::collections::BTreeSet;

use serde_json::Value;

use crate::support::{Database, Launch, Service, eventually, shared_server};

/// The settings that each test is about.
const TESTED: [&[&str]; 9] = [
    &POOL, &LIMITS, &REQUESTS, &TIMEOUTS, &MEMORY, &ACCESS, &TOKENS, &TLS, &PASSWORD,
];

const POOL: [&str; 5] = [
    "POOL_PROFILE",
    "DB_POOL_MIN_SIZE",
    "DB_POOL_MAX_SIZE",
    "DB_POOL_MAX_OVERFLOW",
    "LOG",
];
const LIMITS: [&str; 8] = [
    "RATE_LIMIT_READ",
    "RATE_LIMIT_WRITE",
    "RATE_LIMIT_ADMIN",
    "RATE_LIMIT_AUTH_FAILURES",
    "RATE_LIMIT_CLASSES",
    "RATE_LIMIT_HEADERS",
    "RATE_LIMIT_LEGACY_HEADERS",
    "RATE_LIMIT_IPV6_PREFIX",
];
const REQUESTS: [&str; 8] = [
    "HTTP_MAX_BODY",
    "HTTP_MAX_HEADERS",
    "CORS_ORIGINS",
    "CORS_CREDENTIALS",
    "CORS_MAX_AGE",
    "HSTS",
    "COMPRESSION",
    "SERVER_TIMING",
];
const TIMEOUTS: [&str; 4] = [
    "HTTP_HEADER_TIMEOUT",
    "HTTP_BODY_TIMEOUT",
    "HTTP_IDLE_TIMEOUT",
    "SHUTDOWN_TIMEOUT",
];
const MEMORY: [&str; 2] = ["MEMORY_WARN", "MEMORY_CRITICAL"];
const ACCESS: [&str; 3] = ["AUTH_STALE", "AUTH_OPEN", "CENOTE_BOOTSTRAP_KEY_FILE"];
const TOKENS: [&str; 7] = [
    "JWT_SECRET",
    "JWT_JWKS_FILE",
    "JWT_JWKS_URL",
    "JWT_ISSUER",
    "JWT_AUDIENCE",
    "JWT_LEEWAY",
    "JWT_SCOPES",
];
const TLS: [&str; 4] = ["TLS_CERT", "TLS_KEY", "TLS_CLIENT_CA", "TLS_MIN_VERSION"];
/// In `rotation`.
const PASSWORD: [&str; 1] = ["DB_PASS"];

#[test]
fn every_live_setting_has_a_test() {
    let tested: BTreeSet<_> = TESTED.concat().into_iter().collect();
    let live: BTreeSet<_> = cenote::settings::docs::live().into_iter().collect();
    assert_eq!(tested, live);
}

/// A ready service whose settings are in `.env`, and a change of them.
struct Reloading {
    service: Service,
    base: String,
}

impl Reloading {
    async fn start(base: &str, before: &str) -> Self {
        let database = Database::create_on(shared_server().await).await;
        Self::start_with(database, base, before).await
    }

    async fn start_with(database: Database, base: &str, before: &str) -> Self {
        let launch = Launch::new(&["serve"])
            .env("DATABASE_URL", &database.url)
            .env("PORT", "0")
            // Unset, so that the file counts.
            .envs(&[("MEMORY_WARN", ""), ("MEMORY_CRITICAL", "")])
            .file(".env", &format!("{base}{before}"));
        let service = Service::over(launch.spawn(), &database).await;
        service.is_ready().await;
        let base = base.to_owned();
        Self { service, base }
    }

    /// Sets the settings and reloads. All that are named must be applied.
    async fn set(&self, text: &str, names: &[&str]) {
        let before = self.service.times_logged("settings reloaded");
        self.service.write_file(".env", &format!("{}{text}", self.base));
        self.service.signal("HUP");
        eventually("the settings are reloaded", async || {
            assert_eq!(self.service.times_logged("the settings were not reloaded"), 0);
            (self.service.times_logged("settings reloaded") > before).then_some(())
        })
        .await;
        let log = self.service.log();
        let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let reloaded = lines.rfind(|line| line["message"] == "settings reloaded").unwrap();
        let applied: Vec<_> = reloaded["applied"].as_str().unwrap().split(", ").collect();
        for name in names {
            assert!(applied.contains(name), "{name} in {reloaded}");
        }
    }
}

/// The status of a request for the description of the API, with this credential.
async fn status(service: &Service, credential: Option<&str>) -> u16 {
    let bearer = credential.map(|it| format!("Bearer {it}"));
    let headers: Vec<_> = bearer.iter().map(|it| ("authorization", it.as_str())).collect();
    service.ask("GET", "/openapi.json", &headers, "").await.status
}
