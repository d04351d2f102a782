//! `/metrics` of the running service: its format, what it counts, its bounds, and that the documentation is true.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, Ipv6Addr},
    process::{Command, Stdio},
    time::Instant,
};

use flate2::read::GzDecoder;
use futures_util::future::join_all;
use serde_json::json;

use crate::support::{
    Launch, Service, eventually,
    exposition::Scrape,
    millis, redis, server,
    tokens::{SECRET, token_with},
};

const OPENMETRICS: (&str, &str) = ("accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5");

async fn text(service: &Service, headers: &[(&str, &str)]) -> String {
    let answer = service.ask("GET", "/metrics", headers, "").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.text().to_owned()
}

/// The metrics of docs/metrics.md.
fn documented() -> BTreeSet<String> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md");
    let document = fs::read_to_string(path).unwrap();
    let (_, tables) = document.split_once("<!-- metrics:begin").unwrap();
    let rows = tables
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(name, _)| name.to_owned()).collect()
}

#[tokio::test]
async fn the_text_is_that_of_prometheus_or_openmetrics_as_the_caller_prefers() {
    let service = Service::start(&[]).await;
    service.write("key", "value").await;
    let plain = service.get("/metrics").await;
    assert_eq!(
        plain.headers["content-type"],
        "text/plain; version=0.0.4; charset=utf-8"
    );
    let open = service.ask("GET", "/metrics", &[OPENMETRICS], "").await;
    assert_eq!(
        open.headers["content-type"],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    let (plain, open) = (Scrape::prometheus(plain.text()), Scrape::openmetrics(open.text()));
    assert_eq!(plain.families["cenote_http_request_duration_seconds"].kind, "histogram");
    assert_eq!(open.families["cenote_http_requests"].kind, "counter");
    assert_eq!(
        open.families["cenote_pool_wait_seconds"].unit.as_deref(),
        Some("seconds")
    );
    let new: Vec<_> = open.series().difference(&plain.series()).cloned().collect();
    // The scrape between them.
    assert!(new.iter().all(|(_, labels)| labels["route"] == "/metrics"), "{new:?}");
    assert!(plain.series().is_subset(&open.series()));
}

#[tokio::test]
async fn openmetrics_names_the_newest_recorded_trace_of_each_bucket_and_nothing_grows() {
    let service = Service::start(&[]).await;
    let mut connection = service.connect().await;
    let mut ask = async |trace: u32, flags: &str| {
        let traceparent = format!("00-{trace:032x}-00f067aa0ba902b7-{flags}");
        let headers = [("traceparent", &*traceparent)];
        connection.ask("GET", "/read/key", &headers, "").await.unwrap();
    };
    for trace in 1..=300 {
        ask(trace, "01").await;
    }
    // This one is not recorded, so nobody could look it up.
    ask(1000, "00").await;
    let written = text(&service, &[OPENMETRICS]).await;
    let open = Scrape::openmetrics(&written);
    let exemplars = &open.families["cenote_http_request_duration_seconds"].exemplars;
    assert!(!exemplars.is_empty() && exemplars.len() <= 23, "{exemplars:?}");
    let newest = format!("{:032x}", 300);
    assert!(exemplars.iter().any(|(_, trace)| *trace == newest), "{exemplars:?}");
    for (labels, trace) in exemplars {
        let trace = u32::from_str_radix(trace, 16).unwrap();
        assert!(labels["route"] == "/read/{key}" && trace <= 300, "{labels:?} {trace}");
    }
    assert!(!text(&service, &[]).await.contains("trace_id"));
}

#[tokio::test]
async fn requests_move_the_counters_of_their_route_and_of_what_served_them() {
    let service = Service::start(&[]).await;
    let before = service.scrape().await;
    service.write("key", "value").await;
    for _ in 0..5 {
        service.read("key").await.json(200);
    }
    service.read("absent").await.problem(404, "not-found");
    assert_eq!(service.ask("PUT", "/write", &[], "").await.status, 405);
    service
        .post("/users", &json!({"name": "Ada", "email": "ada@example.org"}))
        .await
        .json(201);
    service.get("/users/1").await.json(200);
    let after = service.scrape().await;
    let grew = |name: &str, labels: &[(&str, &str)]| after.sum(name, labels) - before.sum(name, labels);

    let requests = "cenote_http_requests_total";
    for (route, method, code, count) in [
        ("/write", "POST", "2xx", 1.0),
        ("/write", "other", "4xx", 1.0),
        ("/read/{key}", "GET", "2xx", 5.0),
        ("/read/{key}", "GET", "4xx", 1.0),
        ("/users", "POST", "2xx", 1.0),
        ("/users/{id}", "GET", "2xx", 1.0),
        ("/metrics", "GET", "2xx", 1.0),
    ] {
        let labels = [("route", route), ("method", method), ("code", code)];
        assert_eq!(grew(requests, &labels), count, "{labels:?}");
    }
    let durations = [("route", "/read/{key}")];
    assert_eq!(grew("cenote_http_request_duration_seconds_count", &durations), 6.0);
    assert!(grew("cenote_http_request_duration_seconds_sum", &durations) > 0.0);
    assert_eq!(
        after.sum("cenote_http_requests_in_flight", &[]),
        1.0,
        "the scrape itself"
    );
    assert!(grew("cenote_http_connections_accepted_total", &[]) >= 10.0);

    let reads = "cenote_cache_requests_total";
    assert_eq!(grew(reads, &[("source", "near"), ("outcome", "hit")]), 4.0);
    assert_eq!(grew(reads, &[("source", "database"), ("outcome", "miss")]), 1.0);
    assert_eq!(grew(reads, &[("source", "database"), ("outcome", "absent")]), 1.0);
    assert_eq!(grew(reads, &[]), 6.0);
    assert_eq!(grew("cenote_cache_fences_total", &[]), 1.0);
    assert_eq!(grew("cenote_batch_size_count", &[("queue", "reads")]), 2.0);
    assert_eq!(grew("cenote_batch_size_sum", &[("queue", "writes")]), 1.0);
    // Two reads, a write, and of users one of each.
    assert!(grew("cenote_statements_total", &[]) >= 5.0);
    assert!(grew("cenote_statement_duration_seconds_count", &[]) >= 5.0);
    for (statement, count) in [
        ("key.read", 2.0),
        ("key.write", 1.0),
        ("user.add", 1.0),
        ("user.get", 1.0),
    ] {
        let labels = [("statement", statement)];
        assert_eq!(
            grew("cenote_statement_duration_seconds_count", &labels),
            count,
            "{statement}"
        );
    }
    assert!(after.sum("cenote_database_connections_limit", &[]) > 10.0);
    assert!(grew("cenote_pool_acquires_total", &[]) >= 5.0);
    assert!(grew("cenote_pool_use_seconds_count", &[]) >= 5.0);
    assert!(grew("cenote_pool_use_seconds_sum", &[]) > 0.0);
    assert_eq!(after.sum("cenote_pool_connections_limit", &[("bound", "max")]), 10.0);
    assert!(after.sum("process_resident_memory_bytes", &[]) > 1e6);
    assert!(after.sum("process_cpu_seconds_total", &[]) > 0.0);
    assert_eq!(
        after.sum("cenote_build_info", &[("version", env!("CARGO_PKG_VERSION"))]),
        1.0
    );
}

/// A service with everything switched on that has metrics.
async fn with_everything() -> (Service, cenote_testing::RedisServer) {
    let redis = redis().await;
    let service = Service::start(&[
        ("CACHE_MODE", "strong"),
        ("REDIS_URL", &redis.url()),
        ("CACHE_FEED", "notify"),
        ("AUTH", "keys+jwt"),
        ("AUTH_OPEN", "metrics"),
        ("JWT_SECRET", SECRET),
        ("JWT_ISSUER", "https://issuer.example"),
        ("JWT_AUDIENCE", "cenote"),
        ("RATE_LIMIT_READ", "1000/s"),
        // So the instances share the limits.
        ("INSTANCES", "2"),
        // One connection, so that a later statement is prepared already.
        ("DB_POOL_MIN_SIZE", "1"),
        ("DB_POOL_MAX_SIZE", "1"),
        ("MEMORY_WARN", "98"),
        ("MEMORY_CRITICAL", "99"),
    ])
    .await;
    (service, redis)
}

fn bearer(scope: &str) -> String {
    format!("Bearer {}", token_with(scope, |_| {}))
}

#[tokio::test]
async fn the_documentation_has_exactly_the_metrics_of_a_service_with_everything_switched_on() {
    let (service, _redis) = with_everything().await;
    let token = bearer("read write");
    let authorization = ("authorization", &*token);
    // A statement that fails, so that the metric of errors has a value.
    let absent = service.ask("GET", "/users/1", &[authorization], "").await;
    absent.problem(404, "not-found");
    service
        .database
        .session()
        .await
        .run("ALTER TABLE users RENAME TO elsewhere")
        .await;
    let failed = service.ask("GET", "/users/1", &[authorization], "").await;
    assert!(failed.status >= 500, "{}", failed.text());
    let memory_is_read = async || {
        let scrape = service.scrape().await;
        (scrape.sum("cenote_memory_limit_bytes", &[]) > 0.0).then_some(scrape)
    };
    let scrape = eventually("memory was read", memory_is_read).await;
    let scraped: BTreeSet<_> = scrape.families.keys().cloned().collect();
    let mut expected = documented();
    assert!(expected.len() > 70, "{expected:?}");
    // TLS alone is off here; a machine may not tell about stalls.
    for optional in [
        "cenote_tls_certificate_expiry_timestamp_seconds",
        "cenote_tls_reloads_total",
    ] {
        assert!(expected.remove(optional));
    }
    let missing: Vec<_> = expected
        .difference(&scraped)
        .filter(|name| *name != "cenote_memory_stall_ratio")
        .collect();
    assert!(missing.is_empty(), "not scraped: {missing:?}");
    let unknown: Vec<_> = scraped.difference(&expected).collect();
    assert!(unknown.is_empty(), "not documented: {unknown:?}");
    for (name, family) in &scrape.families {
        assert!(family.help.ends_with('.'), "{name}: {}", family.help);
    }
}

#[tokio::test]
async fn a_hundred_thousand_random_paths_methods_keys_and_addresses_add_no_series() {
    let service = Service::start(&[
        ("AUTH", "keys"),
        ("RATE_LIMIT_READ", "50/s"),
        ("TRUSTED_PROXIES", "127.0.0.1"),
    ])
    .await;
    let key = Launch::new(&["key", "create", "--name", "test", "--scope", "metrics"])
        .env("DATABASE_URL", &service.database.url)
        .run()
        .await;
    let key = key.output.trim().to_owned();
    let scrape = async || {
        let text = text(&service, &[("x-api-key", &key)]).await;
        Scrape::prometheus(&text)
    };
    let random = async |requests: usize| {
        let mut connection = service.connect().await;
        for _ in 0..requests {
            let noise = || fastrand_text();
            let method = ["GET", "POST", "DELETE", "OPTIONS", "PURGE", "BREW"][fastrand::usize(..6)];
            let start = ["/read/", "/users/", "/write", "/docs/", "/admin/", "/"][fastrand::usize(..6)];
            let address = match fastrand::bool() {
                true => Ipv4Addr::from_bits(fastrand::u32(..)).to_string(),
                false => Ipv6Addr::from_bits(fastrand::u128(..)).to_string(),
            };
            let headers = [
                ("x-api-key", noise()),
                ("x-forwarded-for", address),
                ("user-agent", noise()),
            ];
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
            let answered = connection
                .ask(method, &format!("{start}{}", noise()), &headers, "")
                .await;
            if answered.is_err() {
                connection = service.connect().await;
            }
        }
    };
    // Every kind of request once or more.
    random(1000).await;
    scrape().await;
    let before = scrape().await.series();
    join_all((0..10).map(|_| random(10_000))).await;
    let after = scrape().await;
    let failures = [("class", "auth-failures")];
    assert!(after.sum("cenote_limit_admitted_total", &failures) > 50_000.0);
    assert_eq!(after.sum("cenote_limit_admitted_total", &[("class", "read")]), 3.0);
    let after = after.series();
    let new: Vec<_> = after.difference(&before).collect();
    assert!(new.is_empty(), "{new:?}");
    assert!(after.len() < 1500, "{} series", after.len());
}

fn fastrand_text() -> String {
    (0..12).map(|_| fastrand::alphanumeric()).collect()
}

#[tokio::test]
async fn a_scrape_is_small_quick_and_compressed_for_those_who_accept_that() {
    let service = Service::start(&[("COMPRESSION", "true")]).await;
    for number in 0..50 {
        service.read(&format!("key-{number}")).await;
    }
    let plain = text(&service, &[]).await;
    assert!(plain.len() < 200_000, "{} bytes", plain.len());
    let series = Scrape::prometheus(&plain).series().len();
    assert!(series < 1500, "{series} series");
    let mut connection = service.connect().await;
    let mut times = Vec::new();
    for _ in 0..20 {
        let begun = Instant::now();
        connection.ask("GET", "/metrics", &[], "").await.unwrap();
        times.push(begun.elapsed());
    }
    times.sort();
    // Far more than the 5 ms of a release build, because this is none.
    assert!(times[10] < millis(100), "{times:?}");
    // On HTTP/1.0 the body ends with the connection, so the bytes are those of the gzip stream.
    let request = "GET /metrics HTTP/1.0\r\nhost: x\r\naccept-encoding: gzip\r\n\r\n";
    let mut head = service.connect().await.exchange_to_the_end(request).await;
    let end = head.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    let zipped = head.split_off(end);
    let head = String::from_utf8(head).unwrap();
    assert!(head.contains("content-encoding: gzip\r\n"), "{head}");
    assert!(zipped.len() * 4 < plain.len(), "{} of {}", zipped.len(), plain.len());
    let mut unzipped = String::new();
    GzDecoder::new(&*zipped).read_to_string(&mut unzipped).unwrap();
    Scrape::prometheus(&unzipped);
}

#[tokio::test]
async fn the_metrics_need_their_scope_unless_they_are_open_and_tell_no_secret() {
    let (service, redis) = with_everything().await;
    let (read, metrics) = (bearer("read"), bearer("metrics"));
    service
        .ask("GET", "/read/a-secret-key", &[("authorization", &read)], "")
        .await;
    service
        .ask("GET", "/read/a-secret-key", &[("x-api-key", "cnk_secret")], "")
        .await;
    let text = text(&service, &[]).await;
    let database = &service.database.url;
    for secret in [
        "a-secret-key",
        "cnk_",
        SECRET,
        "eyJ",
        "127.0.0.1",
        "postgres",
        &redis.url(),
        database,
    ] {
        assert!(!text.contains(secret), "{secret}");
    }
    let scrape = Scrape::prometheus(&text);
    let accepted = [("method", "jwt"), ("outcome", "accepted")];
    assert_eq!(scrape.sum("cenote_auth_requests_total", &accepted), 1.0);
    assert_eq!(scrape.sum("cenote_auth_requests_total", &[("method", "api_key")]), 1.0);
    assert_eq!(
        scrape.sum("cenote_jwt_cache_requests_total", &[("result", "miss")]),
        1.0
    );
    assert_eq!(scrape.sum("cenote_redis_up", &[]), 1.0);

    let closed = Service::start(&[
        ("AUTH", "jwt"),
        ("JWT_SECRET", SECRET),
        ("JWT_ISSUER", "https://issuer.example"),
        ("JWT_AUDIENCE", "cenote"),
    ])
    .await;
    for (headers, status) in [
        (vec![], 401),
        (vec![("authorization", &*read)], 403),
        (vec![("authorization", &*metrics)], 200),
    ] {
        let answer = closed.ask("GET", "/metrics", &headers, "").await;
        assert_eq!(answer.status, status, "{headers:?}");
    }
}

#[tokio::test]
async fn the_metrics_of_a_service_without_its_database_say_so() {
    let server = server("50").await;
    let service = Service::start_on(&server, &[("DB_POOL_TIMEOUT", "0.2"), ("CACHE_MODE", "off")]).await;
    service.read("key").await;
    server.kill().await.unwrap();
    let refused = eventually("reads fail", async || {
        (service.read("key").await.status >= 500).then_some(())
    });
    refused.await;
    let failing = eventually("connects fail", async || {
        let scrape = service.scrape().await;
        let failures = scrape.sum("cenote_pool_connect_failures_total", &[]);
        (failures > 0.0 && scrape.sum("cenote_pool_acquire_failures_total", &[]) > 0.0).then_some(scrape)
    });
    let scrape = failing.await;
    assert!(scrape.sum("cenote_http_requests_total", &[("code", "5xx")]) > 0.0);
}

/// With Prometheus' own checker, where it is installed.
#[tokio::test]
async fn promtool_has_no_complaint() {
    if Command::new("promtool").arg("--version").output().is_err() {
        println!("skipped: promtool is not installed");
        return;
    }
    let (service, _redis) = with_everything().await;
    service.get("/read/key").await;
    let text = text(&service, &[]).await;
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    promtool.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let checked = promtool.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&checked.stderr);
    assert!(checked.status.success() && complaints.is_empty(), "{complaints}");

    let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy");
    for arguments in [["check", "rules", "alerts.yml"], ["test", "rules", "alerts_test.yml"]] {
        let checked = Command::new("promtool")
            .args(arguments)
            .current_dir(deploy)
            .output()
            .unwrap();
        let said = [checked.stdout, checked.stderr].concat();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&said));
    }
}
