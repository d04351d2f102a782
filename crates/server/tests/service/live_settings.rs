//! Each setting that the documentation calls `live` is really applied by a reload: before it the service does one thing,
//! after it another.

use std::collections::BTreeSet;

use cenote_testing::Authority;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::support::{
    Answer, Database, Launch, SOON, Service, eventually, secs, server, shared_server,
    tokens::{SECRET, in_seconds, token, token_with},
};

/// The settings that each test of this file is about.
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

#[tokio::test]
async fn what_a_request_may_be_and_what_browsers_are_told_also_on_open_connections() {
    let it = Reloading::start("MEMORY_WARN=0\nMEMORY_CRITICAL=0\n", "").await;
    let mut open = it.service.connect().await;
    let page = ("origin", "https://app.example.org");
    let preflight = [page, ("access-control-request-method", "POST")];
    let many: Vec<(&str, &str)> = (0..20).map(|_| ("x-many", "1")).collect();
    let body = json!({"key": "key", "value": "v".repeat(2000)});
    let mut look = async || {
        let plain = open.ask("GET", "/health/live", &[page], "").await.unwrap();
        let preflight = open.ask("OPTIONS", "/write", &preflight, "").await.unwrap();
        let of = |answer: &Answer, name: &str| answer.headers.get(name).cloned().unwrap_or_default();
        let request =
            "GET /openapi.json HTTP/1.1\r\nhost: localhost\r\naccept-encoding: gzip\r\nconnection: close\r\n\r\n";
        let compressed = it.service.connect().await.exchange_to_the_end(request).await;
        let encoding = String::from_utf8_lossy(&compressed)
            .contains("content-encoding: gzip")
            .to_string();
        let seen = [
            encoding,
            of(&plain, "access-control-allow-origin"),
            of(&plain, "access-control-allow-credentials"),
            of(&preflight, "access-control-max-age"),
            of(&plain, "strict-transport-security"),
            of(&plain, "server-timing")
                .split(';')
                .next()
                .unwrap_or_default()
                .to_owned(),
        ];
        // On connections of their own, because a refusal may end them.
        let many = it.service.ask("GET", "/health/live", &many, "").await.status;
        let large = it.service.post("/write", &body).await.status;
        (seen, many, large)
    };
    let (seen, many, large) = look().await;
    assert_eq!(seen, ["false", "", "", "", "", ""]);
    assert_eq!((many, large), (200, 200));
    it.set(
        "HTTP_MAX_BODY=1000\nHTTP_MAX_HEADERS=10\nCORS_ORIGINS=https://app.example.org\nCORS_CREDENTIALS=true\n\
         CORS_MAX_AGE=7\nHSTS=8\nCOMPRESSION=true\nSERVER_TIMING=true\n",
        &REQUESTS,
    )
    .await;
    let (seen, many, large) = look().await;
    let [encoding, origin, credentials, max_age, hsts, timing] = seen;
    assert_eq!(
        (encoding.as_str(), origin.as_str(), credentials.as_str()),
        ("true", page.1, "true")
    );
    assert_eq!((max_age.as_str(), hsts.as_str()), ("7", "max-age=8"));
    assert!(!timing.is_empty());
    assert_eq!((many, large), (431, 413));
}

/// Sends these bytes on a new connection, and waits for the service to close it.
async fn closed_after(service: &Service, bytes: &str) -> String {
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    // By default the service would wait for a minute or more.
    timeout(secs(40), stream.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn the_timeouts_of_new_connections_and_of_the_shutdown() {
    let long = "HTTP_HEADER_TIMEOUT=600\nHTTP_BODY_TIMEOUT=600\nHTTP_IDLE_TIMEOUT=600\nSHUTDOWN_TIMEOUT=600\n";
    let base = "MEMORY_WARN=0\nMEMORY_CRITICAL=0\nSHUTDOWN_DELAY=0\nCOMMAND_TIMEOUT=300\n";
    let it = Reloading::start(base, long).await;
    let short = "HTTP_HEADER_TIMEOUT=0.2\nHTTP_BODY_TIMEOUT=0.2\nHTTP_IDLE_TIMEOUT=0.2\nSHUTDOWN_TIMEOUT=0.2\n";
    it.set(short, &TIMEOUTS).await;
    let service = it.service;
    assert_eq!(closed_after(&service, "").await, "");
    let head = closed_after(&service, "GET / HTTP/1.1\r\nhost: ").await;
    assert!(head.is_empty() || head.starts_with("HTTP/1.1 408 "), "{head}");
    let head =
        "POST /write HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{";
    let body = closed_after(&service, head).await;
    assert!(body.starts_with("HTTP/1.1 408 "), "{body}");
    let idle = closed_after(&service, "GET /health/live HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert!(idle.starts_with("HTTP/1.1 200 "), "{idle}");

    service.write("slow", "one").await;
    let session = service.database.session().await;
    session
        .run("BEGIN; UPDATE kv SET value = 'held' WHERE key = 'slow'")
        .await;
    let mut connection = service.connect().await;
    let writing = tokio::spawn(async move { connection.post("/write", &json!({"key": "slow", "value": "two"})).await });
    session.sees_blocked(1).await;
    let ended = service.stop(SOON).await;
    assert!(ended.log.contains(r#""cut":1"#), "{}", ended.log);
    assert!(writing.await.unwrap().is_err());
}

#[tokio::test]
async fn the_thresholds_of_memory() {
    let it = Reloading::start("", "MEMORY_WARN=0\nMEMORY_CRITICAL=0\n").await;
    let state = async || it.service.get("/health").await.json(200)["memory"]["state"].clone();
    assert_eq!(state().await, "off");
    it.set("MEMORY_WARN=1\nMEMORY_CRITICAL=0\n", &["MEMORY_WARN"]).await;
    it.service.logged("memory gets short").await;
    assert_eq!(state().await, "degraded");
    it.set("MEMORY_WARN=0\nMEMORY_CRITICAL=1\n", &MEMORY).await;
    it.service.logged("memory is short").await;
    it.set("MEMORY_WARN=0\nMEMORY_CRITICAL=0\n", &["MEMORY_CRITICAL"]).await;
    eventually("memory is no longer short", async || {
        (state().await == "healthy").then_some(())
    })
    .await;
}

/// The status of a request for the description of the API, with this credential.
async fn status(service: &Service, credential: Option<&str>) -> u16 {
    let bearer = credential.map(|it| format!("Bearer {it}"));
    let headers: Vec<_> = bearer.iter().map(|it| ("authorization", it.as_str())).collect();
    service.ask("GET", "/openapi.json", &headers, "").await.status
}

#[tokio::test]
async fn what_is_open_the_first_key_and_how_long_keys_outlast_the_database() {
    let base = "MEMORY_WARN=0\nMEMORY_CRITICAL=0\nAUTH=keys\nRATE_LIMIT_AUTH_FAILURES=off\n";
    let server = server("50").await;
    let database = Database::create_on(&server).await;
    let it = Reloading::start_with(database, base, "AUTH_STALE=3600\n").await;
    assert_eq!(status(&it.service, None).await, 401);
    it.set("AUTH_STALE=3600\nAUTH_OPEN=docs\n", &["AUTH_OPEN"]).await;
    assert_eq!(status(&it.service, None).await, 200);
    it.set(
        "AUTH_STALE=3600\nCENOTE_BOOTSTRAP_KEY_FILE=first\n",
        &["AUTH_OPEN", "CENOTE_BOOTSTRAP_KEY_FILE"],
    )
    .await;
    assert_eq!(status(&it.service, None).await, 401);
    let key = eventually("the first key is created", async || {
        let key = std::fs::read_to_string(it.service.path("first")).ok()?;
        (status(&it.service, Some(key.trim())).await == 200).then(|| key.trim().to_owned())
    })
    .await;
    server.kill().await.unwrap();
    // Known keys go on for the least time, five seconds, and for no hour.
    it.set("AUTH_STALE=0\nCENOTE_BOOTSTRAP_KEY_FILE=first\n", &["AUTH_STALE"])
        .await;
    eventually("the key is no longer accepted", async || {
        (status(&it.service, Some(&key)).await == 503).then_some(())
    })
    .await;
}

/// A client of openssl with this version of TLS, and whether it shows a certificate. Returns whether the handshake succeeds,
/// and the subject of the service's certificate.
fn handshake(service: &Service, version: &str, identity: Option<&str>) -> (bool, String) {
    let mut client = std::process::Command::new("openssl");
    let address = service.address.to_string();
    client.args(["s_client", "-ign_eof", "-connect", &address, version]);
    let path = |name: &str| service.path(name).to_str().unwrap().to_owned();
    if let Some(name) = identity {
        client.args([
            "-cert",
            &path(&format!("{name}.pem")),
            "-key",
            &path(&format!("{name}.key")),
        ]);
    }
    let request = service.path("request");
    std::fs::write(
        &request,
        "GET /health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    )
    .unwrap();
    let output = client.stdin(std::fs::File::open(request).unwrap()).output().unwrap();
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let subject = output
        .lines()
        .find_map(|line| line.strip_prefix("subject="))
        .unwrap_or_default();
    (output.contains("HTTP/1.1 200 OK"), subject.to_owned())
}

#[tokio::test]
async fn the_files_of_tls_the_authorities_of_clients_and_the_oldest_version() {
    let authority = Authority::new("an authority");
    let database = Database::create_on(shared_server().await).await;
    let base = "MEMORY_WARN=0\nMEMORY_CRITICAL=0\n";
    let files = |text: &str| format!("{base}{text}");
    let mut launch = Launch::new(&["serve"])
        .env("DATABASE_URL", &database.url)
        .env("PORT", "0")
        .file("ca.pem", &authority.pem())
        .file("other.pem", &Authority::new("another").pem())
        .file(".env", &files("TLS_CERT=a.pem\nTLS_KEY=a.key\nTLS_CLIENT_CA=ca.pem\n"));
    for name in ["a", "b"] {
        let (certificate, key) = authority.issue(&format!("{name}.test"));
        launch = launch
            .file(&format!("{name}.pem"), &certificate)
            .file(&format!("{name}.key"), &key);
    }
    let service = Service::over(launch.spawn(), &database).await;
    service.logged("ready").await;
    let it = Reloading {
        service,
        base: base.to_owned(),
    };
    let ask = |version: &str| handshake(&it.service, version, Some("a"));
    let (accepted, subject) = ask("-tls1_2");
    assert!(accepted && subject.contains("a.test"), "{subject}");
    let clients = "TLS_CLIENT_CA=ca.pem\n";
    let b = "TLS_CERT=b.pem\nTLS_KEY=b.key\n";
    it.set(&format!("{b}{clients}"), &["TLS_CERT", "TLS_KEY"]).await;
    let (accepted, subject) = ask("-tls1_2");
    assert!(accepted && subject.contains("b.test"), "{subject}");
    it.set(&format!("{b}{clients}TLS_MIN_VERSION=1.3\n"), &["TLS_MIN_VERSION"])
        .await;
    assert!(!ask("-tls1_2").0 && ask("-tls1_3").0);
    it.set(&format!("{b}TLS_CLIENT_CA=other.pem\n"), &["TLS_CLIENT_CA"])
        .await;
    assert!(!ask("-tls1_2").0);
    it.set(&format!("{b}{clients}"), &["TLS_CLIENT_CA"]).await;
    assert!(ask("-tls1_2").0);
    // Whether clients must show a certificate changes only by a restart, and so does HTTPS.
    for (text, expected) in [
        (format!("{base}{b}"), "TLS_CLIENT_CA"),
        (base.to_owned(), "TLS_CERT, TLS_KEY, TLS_CLIENT_CA"),
    ] {
        it.service.write_file(".env", &text);
        it.service.signal("HUP");
        let waiting = "these settings have new values that need a restart";
        it.service
            .logged_with(waiting, |event| event["settings"] == expected)
            .await;
        assert!(ask("-tls1_2").0);
        assert!(!handshake(&it.service, "-tls1_2", None).0);
    }
}

/// The JWK set of this secret.
fn jwks(secret: &str) -> String {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    let k = URL_SAFE_NO_PAD.encode(secret);
    json!({"keys": [{"kty": "oct", "alg": "HS256", "k": k}]}).to_string()
}

/// An issuer with this JWK set; its URL.
async fn issuer(document: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/jwks", listener.local_addr().unwrap());
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _request = stream.read(&mut [0; 1024]).await;
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", document.len());
            let _sent = stream.write_all((head + &document).as_bytes()).await;
        }
    });
    url
}

#[tokio::test]
async fn the_keys_of_tokens_and_their_rules() {
    let base = "MEMORY_WARN=0\nMEMORY_CRITICAL=0\nAUTH=jwt\nRATE_LIMIT_AUTH_FAILURES=off\n";
    let it = Reloading::start(base, &format!("JWT_SECRET={SECRET}\n")).await;
    let header = json!({"alg": "HS256"});
    let other = "another secret of more than thirty-two bytes";
    let old = token_with("read", |_| {});
    let new = token(
        &header,
        &json!({"sub": "ada", "scope": "read", "exp": in_seconds(600)}),
        other,
    );
    let seen = async || {
        (
            status(&it.service, Some(&old)).await,
            status(&it.service, Some(&new)).await,
        )
    };
    assert_eq!(seen().await, (200, 401));
    it.set(&format!("JWT_SECRET={other}\n"), &["JWT_SECRET"]).await;
    assert_eq!(seen().await, (401, 200));
    it.service.write_file("jwks.json", &jwks(SECRET));
    it.set("JWT_JWKS_FILE=jwks.json\n", &["JWT_SECRET", "JWT_JWKS_FILE"])
        .await;
    assert_eq!(seen().await, (200, 401));
    // Its content alone, long before it would be noticed.
    it.service.write_file("jwks.json", &jwks(other));
    it.set("JWT_JWKS_FILE=jwks.json\n", &["JWT_JWKS_FILE"]).await;
    assert_eq!(seen().await, (401, 200));

    let with = async |settings: &str, names: &[&str], change: fn(&mut Value)| {
        it.set(&format!("JWT_SECRET={SECRET}\n{settings}"), names).await;
        status(&it.service, Some(&token_with("read", change))).await
    };
    assert_eq!(
        with("JWT_ISSUER=https://issuer.example\n", &["JWT_ISSUER"], |_| {}).await,
        200
    );
    assert_eq!(
        with("JWT_ISSUER=https://other.example\n", &["JWT_ISSUER"], |_| {}).await,
        401
    );
    assert_eq!(
        with("JWT_AUDIENCE=other\n", &["JWT_AUDIENCE", "JWT_ISSUER"], |_| {}).await,
        401
    );
    assert_eq!(
        with("JWT_AUDIENCE=other,cenote\n", &["JWT_AUDIENCE"], |_| {}).await,
        200
    );
    let late: fn(&mut Value) = |it| it["exp"] = json!(in_seconds(-60));
    assert_eq!(with("", &["JWT_AUDIENCE"], late).await, 401);
    assert_eq!(with("JWT_LEEWAY=300\n", &["JWT_LEEWAY"], late).await, 200);
    let elsewhere: fn(&mut Value) = |it| (it["scope"], it["roles"]) = (json!(null), json!(["read"]));
    assert_eq!(with("", &["JWT_LEEWAY"], elsewhere).await, 403);
    assert_eq!(with("JWT_SCOPES=roles\n", &["JWT_SCOPES"], elsewhere).await, 200);

    let public = json!({"keys": [{
        "kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "alg": "EdDSA",
    }]});
    let url = issuer(public.to_string()).await;
    it.set(&format!("JWT_JWKS_URL={url}\n"), &["JWT_JWKS_URL"]).await;
    assert_eq!(seen().await, (401, 401), "the issuer has another key");
    let reloaded = it.service.log();
    assert!(!reloaded.contains(SECRET) && !reloaded.contains(other));
}
