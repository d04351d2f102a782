//! The sizes of the pool, the filter of the log, and the limits of callers.

use super::Reloading;
use crate::support::tokens::{SECRET, token_with};

#[tokio::test]
async fn the_sizes_of_the_pool_and_the_filter_of_the_log() {
    let it = Reloading::start("MEMORY_WARN=0\nMEMORY_CRITICAL=0\n", "POOL_PROFILE=low\nLOG=info\n").await;
    let sizes = async || {
        let state = it.service.get("/admin/state").await.json(200);
        [&state["min"], &state["max"], &state["overflow"]].map(|it| it.as_u64().unwrap())
    };
    assert_eq!(sizes().await, [2, 5, 0]);
    it.set(
        "POOL_PROFILE=medium\nLOG=info,cenote=debug\n",
        &["POOL_PROFILE", "DB_POOL_MAX_SIZE", "LOG"],
    )
    .await;
    assert_eq!(sizes().await, [5, 20, 0]);
    // Lines of this level were not logged before.
    it.service.logged_with("", |event| event["level"] == "DEBUG").await;
    let explicit = "DB_POOL_MIN_SIZE=1\nDB_POOL_MAX_SIZE=3\nDB_POOL_MAX_OVERFLOW=4\n";
    it.set(
        explicit,
        &[
            "POOL_PROFILE",
            "DB_POOL_MIN_SIZE",
            "DB_POOL_MAX_SIZE",
            "DB_POOL_MAX_OVERFLOW",
        ],
    )
    .await;
    assert_eq!(sizes().await, [1, 3, 4]);
}

#[tokio::test]
async fn the_limits_of_callers() {
    let base = "MEMORY_WARN=0\nMEMORY_CRITICAL=0\nAUTH=jwt\nTRUSTED_PROXIES=127.0.0.1\nAUTH_OPEN=health\n";
    let base = format!("{base}JWT_SECRET={SECRET}\n");
    let it = Reloading::start(&base, "RATE_LIMIT_READ=5/h burst=5\nRATE_LIMIT_AUTH_FAILURES=off\n").await;
    let bearer = format!("Bearer {}", token_with("read write admin", |_| {}));
    let known = ("authorization", bearer.as_str());
    // The number of requests that are admitted at once, and the last answer.
    let admitted = async |method: &str, path: &str, headers: &[(&str, &str)]| {
        for count in 0..200 {
            let answer = it.service.ask(method, path, headers, "").await;
            if answer.status == 429 {
                return (count, answer);
            }
        }
        panic!("{method} {path} has no limit");
    };
    assert_eq!(admitted("GET", "/read/x", &[known]).await.0, 5);
    it.set(
        "RATE_LIMIT_READ=50/h burst=50\n",
        &["RATE_LIMIT_READ", "RATE_LIMIT_AUTH_FAILURES"],
    )
    .await;
    let (count, refused) = admitted("GET", "/read/x", &[known]).await;
    assert_eq!(count, 50);
    assert!(!refused.headers.contains_key("x-ratelimit-limit"));
    // A limit that is used up stays used up where a reload does not change it.
    let rest = "RATE_LIMIT_WRITE=1/h burst=2\nRATE_LIMIT_ADMIN=1/h burst=3\nRATE_LIMIT_CLASSES=one=GET /read/one:1/h burst=4\n\
                RATE_LIMIT_LEGACY_HEADERS=on\n";
    it.set(
        &format!("RATE_LIMIT_READ=50/h burst=50\n{rest}"),
        &[
            "RATE_LIMIT_WRITE",
            "RATE_LIMIT_ADMIN",
            "RATE_LIMIT_CLASSES",
            "RATE_LIMIT_LEGACY_HEADERS",
        ],
    )
    .await;
    let (count, refused) = admitted("GET", "/read/x", &[known]).await;
    assert_eq!(count, 0);
    assert!(refused.headers.contains_key("x-ratelimit-limit") && refused.headers.contains_key("ratelimit"));
    assert_eq!(admitted("DELETE", "/read/x", &[known]).await.0, 2);
    assert_eq!(admitted("GET", "/admin/state", &[known]).await.0, 3);
    assert_eq!(admitted("GET", "/read/one", &[known]).await.0, 4);
    it.set(
        "RATE_LIMIT_READ=1/h burst=1\nRATE_LIMIT_HEADERS=off\n",
        &["RATE_LIMIT_HEADERS"],
    )
    .await;
    let (_, refused) = admitted("GET", "/read/x", &[known]).await;
    assert!(!refused.headers.contains_key("ratelimit"));
    // Addresses of one network of 64 bits are one caller, unless the prefix is longer.
    let open = async |address: &str| admitted("GET", "/health", &[("x-forwarded-for", address)]).await.0;
    assert_eq!((open("2001:db8::1").await, open("2001:db8::2").await), (1, 0));
    it.set(
        "RATE_LIMIT_READ=1/h burst=1\nRATE_LIMIT_IPV6_PREFIX=128\n",
        &["RATE_LIMIT_IPV6_PREFIX"],
    )
    .await;
    assert_eq!((open("2001:db8::3").await, open("2001:db8::4").await), (1, 1));
    it.set("RATE_LIMIT_AUTH_FAILURES=1/h burst=6\n", &["RATE_LIMIT_AUTH_FAILURES"])
        .await;
    assert_eq!(
        admitted(
            "GET",
            "/read/x",
            &[("x-forwarded-for", "192.0.2.1"), ("authorization", "Bearer a.b.c")]
        )
        .await
        .0,
        6
    );
}
