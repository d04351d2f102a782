//! What browsers need and what protects them: CORS, security headers, compression, `Server-Timing`, and bounds on the head.

use std::io::Read;
use std::time::Duration;

use axum::Router;
use axum::http::header::{CONTENT_SECURITY_POLICY, ETAG, HeaderMap, IF_NONE_MATCH};
use axum::http::{HeaderName, Request, StatusCode};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use cenote::http::{Compressible, Cors, HttpConfig, Json, Problem, Stage, Timings};
use flate2::read::GzDecoder;
use http_body_util::BodyExt;

use crate::connections::http2;
use crate::support::{Answer, Server, get as get_request, start};

#[derive(serde::Deserialize, garde::Validate)]
struct Anything {}

async fn fails() -> Problem {
    Problem::internal("on purpose")
}

async fn panics() -> &'static str {
    panic!("on purpose")
}

/// A long text with a strong entity tag, as a handler that allows compression returns it.
async fn tagged(headers: HeaderMap) -> axum::response::Response {
    let tag = (ETAG, "\"7\"");
    let known = headers.get(IF_NONE_MATCH);
    let is_known = known.is_some_and(|known| known.to_str().unwrap().trim_start_matches("W/") == "\"7\"");
    let mut response = match is_known {
        true => (StatusCode::NOT_MODIFIED, [tag]).into_response(),
        false => ([tag], "long ".repeat(1000)).into_response(),
    };
    response.extensions_mut().insert(Compressible);
    response
}

fn server(config: HttpConfig) -> Server {
    let router = Router::new()
        .route("/", get(async || "hello"))
        .route("/", post(async |Json(Anything {}): Json<Anything>| "taken"))
        .route("/fails", get(fails))
        .route("/panics", get(panics))
        .route(
            "/page",
            get(async || ([(CONTENT_SECURITY_POLICY, "default-src 'self'")], "page")),
        )
        .route("/tagged", get(tagged))
        .route("/secret", get(async || "long ".repeat(1000)))
        .route(
            "/timed",
            get(async |axum::Extension(timings): axum::Extension<Timings>| {
                timings.add(Stage::Db, Duration::from_micros(1500));
            }),
        );
    start(router, config)
}

fn with_cors(origins: &[&str], credentials: bool) -> Server {
    let cors = Cors::new(origins.iter().copied(), credentials, Duration::from_secs(600));
    server(HttpConfig {
        cors: Some(cors.unwrap()),
        ..HttpConfig::default()
    })
}

async fn ask(server: &Server, method: &str, path: &str, headers: &[(&str, &str)]) -> Answer {
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    server
        .ask(format!("{method} {path} HTTP/1.1\r\nhost: x\r\n{lines}\r\n"))
        .await
}

#[track_caller]
fn is_protected(answer: &Answer) {
    let header = |name: HeaderName| answer.headers.get(name.as_str()).map(String::as_str);
    let header = |name: &'static str| header(HeaderName::from_static(name));
    assert_eq!(header("x-content-type-options"), Some("nosniff"), "{answer:?}");
    assert_eq!(header("referrer-policy"), Some("no-referrer"), "{answer:?}");
    assert!(header("content-security-policy").is_some(), "{answer:?}");
    assert_eq!(header("server"), None, "{answer:?}");
    assert_eq!(header("strict-transport-security"), None, "{answer:?}");
}

#[tokio::test]
async fn every_response_has_the_security_headers_errors_too() {
    let server = server(HttpConfig::default());
    for (path, status) in [
        ("/", 200),
        ("/nowhere", 404),
        ("/fails", 500),
        ("/panics", 500),
        ("/page", 200),
    ] {
        let answer = server.ask(get_request(path)).await;
        assert_eq!(answer.status, status);
        is_protected(&answer);
        let expected = match path {
            "/page" => "default-src 'self'",
            _ => "default-src 'none'; frame-ancestors 'none'",
        };
        assert_eq!(answer.headers["content-security-policy"], expected);
    }
    for request in [
        "OPTIONS / HTTP/1.1\r\nhost: x\r\n\r\n",
        "PUT / HTTP/1.1\r\nhost: x\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\nx y: z\r\n\r\n",
    ] {
        is_protected(&server.ask(request).await);
    }
}

#[tokio::test]
async fn a_head_that_cannot_be_parsed_gets_a_problem() {
    let server = server(HttpConfig::default());
    let long = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(100_000));
    let many = format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", "a: b\r\n".repeat(200));
    for (request, status, kind) in [
        ("GET / HTTP/1.1\r\nhost: x\r\nx y: z\r\n\r\n", 400, "bad-request"),
        (
            "GET / HTTP/1.1\r\nhost: x\r\ncontent-length: x\r\n\r\n",
            400,
            "bad-request",
        ),
        ("nonsense\r\n\r\n", 400, "bad-request"),
        (&long, 431, "head-too-large"),
        (&many, 431, "head-too-large"),
    ] {
        let mut client = server.client().await;
        client.send(request).await;
        let answer = client.answer().await;
        assert_eq!(answer.status, status, "{kind}");
        assert_eq!(answer.problem()["type"], format!("urn:cenote:problem:{kind}"));
        assert_eq!(answer.headers["connection"], "close");
        assert!(answer.headers.contains_key("x-request-id") && answer.headers.contains_key("date"));
        is_protected(&answer);
        assert_eq!(client.ended().await, b"");
    }
}

#[tokio::test]
async fn the_number_and_the_size_of_headers_have_bounds_that_can_be_set() {
    let server = server(HttpConfig {
        max_headers: 10,
        max_header_bytes: 16 * 1024,
        ..HttpConfig::default()
    });
    let of = |count: usize| (0..count).map(|n| format!("h{n}: x\r\n")).collect::<String>();
    for (count, status) in [(9, 200), (10, 431)] {
        let answer = server
            .ask(format!("GET / HTTP/1.1\r\nhost: x\r\n{}\r\n", of(count)))
            .await;
        assert_eq!(answer.status, status, "{count}");
    }
    for (length, status) in [(15_000, 200), (17_000, 431)] {
        let request = format!("GET / HTTP/1.1\r\nhost: x\r\nx: {}\r\n\r\n", "x".repeat(length));
        assert_eq!(server.ask(request).await.status, status, "{length}");
    }
    let mut client = http2(&server).await;
    for (count, status) in [(10, 200), (11, 431)] {
        let mut request = Request::get("http://x/");
        for n in 0..count {
            request = request.header(format!("h{n}"), "x");
        }
        let answer = client.send_request(request.body("".into()).unwrap()).await.unwrap();
        assert_eq!(answer.status(), status, "{count}");
    }
}

#[tokio::test]
async fn strict_transport_security_is_sent_if_it_is_set() {
    let server = server(HttpConfig {
        hsts: Some(Duration::from_secs(31_536_000)),
        ..HttpConfig::default()
    });
    for path in ["/", "/nowhere"] {
        let answer = server.ask(get_request(path)).await;
        assert_eq!(answer.headers["strict-transport-security"], "max-age=31536000");
    }
}

#[tokio::test]
async fn without_a_setting_no_origin_is_allowed_and_nothing_varies() {
    let server = server(HttpConfig::default());
    let preflight = [("origin", "https://x.org"), ("access-control-request-method", "POST")];
    for (method, headers) in [("GET", &preflight[..1]), ("OPTIONS", &preflight)] {
        let answer = ask(&server, method, "/", headers).await;
        assert!(
            answer.headers.keys().all(|name| !name.starts_with("access-control")),
            "{answer:?}"
        );
        assert!(!answer.headers.contains_key("vary"));
    }
}

#[tokio::test]
async fn a_listed_origin_may_read_responses_and_errors() {
    let server = with_cors(&["https://x.org", "https://y.org"], true);
    for (path, status) in [("/", 200), ("/nowhere", 404), ("/panics", 500)] {
        let answer = ask(&server, "GET", path, &[("origin", "https://y.org")]).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.headers["access-control-allow-origin"], "https://y.org");
        assert_eq!(answer.headers["access-control-allow-credentials"], "true");
        assert_eq!(answer.headers["vary"], "Origin");
        let exposed = &answer.headers["access-control-expose-headers"];
        for name in [
            "ETag",
            "RateLimit",
            "RateLimit-Policy",
            "Retry-After",
            "Link",
            "Location",
            "Cache-Status",
            "Age",
            "x-request-id",
        ] {
            assert!(exposed.split(", ").any(|one| one == name), "{name}");
        }
        is_protected(&answer);
    }
    for origin in [&[][..], &[("origin", "https://z.org")]] {
        let answer = ask(&server, "GET", "/", origin).await;
        assert_eq!((answer.status, &*answer.headers["vary"]), (200, "Origin"));
        assert!(
            answer.headers.keys().all(|name| !name.starts_with("access-control")),
            "{answer:?}"
        );
    }
}

#[tokio::test]
async fn a_preflight_is_answered_on_every_path_and_reaches_no_handler() {
    let server = with_cors(&["https://x.org"], false);
    let headers = [
        ("origin", "https://x.org"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "authorization,content-type"),
    ];
    for path in ["/", "/panics", "/nowhere"] {
        let answer = ask(&server, "OPTIONS", path, &headers).await;
        assert_eq!(answer.status, 204, "{path}");
        assert_eq!(answer.headers["access-control-allow-origin"], "https://x.org");
        assert_eq!(answer.headers["access-control-max-age"], "600");
        assert!(answer.headers["access-control-allow-methods"].contains("DELETE"));
        let allowed = &answer.headers["access-control-allow-headers"];
        assert!(
            allowed.contains("authorization") && allowed.contains("if-match"),
            "{allowed}"
        );
        assert!(!answer.headers.contains_key("access-control-allow-credentials"));
    }
    // From elsewhere it is answered without permissions.
    let elsewhere = ask(&server, "OPTIONS", "/", &[("origin", "https://z.org"), headers[1]]).await;
    assert_eq!(elsewhere.status, 204);
    assert!(elsewhere.headers.keys().all(|name| !name.starts_with("access-control")));
    // Without the question for a method it is an ordinary OPTIONS.
    let ordinary = ask(&server, "OPTIONS", "/", &headers[..1]).await;
    assert_eq!(ordinary.headers["allow"], "GET,HEAD,POST,OPTIONS");
}

#[tokio::test]
async fn with_a_wildcard_every_origin_may_read_and_nothing_varies() {
    let server = with_cors(&["*"], false);
    for origin in [&[][..], &[("origin", "https://any.org")]] {
        let answer = ask(&server, "GET", "/", origin).await;
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
        assert!(!answer.headers.contains_key("vary"));
    }
}

fn compressing() -> Server {
    server(HttpConfig {
        compression: true,
        ..HttpConfig::default()
    })
}

#[tokio::test]
async fn a_marked_response_is_compressed_for_those_who_accept_it() {
    let server = compressing();
    let mut client = http2(&server).await;
    let request = Request::get("http://x/tagged").header("accept-encoding", "br;q=1.0, gzip;q=0.8");
    let answer = client.send_request(request.body("".into()).unwrap()).await.unwrap();
    let headers = answer.headers().clone();
    let packed = answer.into_body().collect().await.unwrap().to_bytes();
    let mut text = String::new();
    GzDecoder::new(&*packed).read_to_string(&mut text).unwrap();
    assert_eq!(text, "long ".repeat(1000));
    assert!(packed.len() < 500, "{}", packed.len());
    assert_eq!(headers["content-encoding"], "gzip");
    assert_eq!(headers["vary"], "Accept-Encoding");
    assert_eq!(headers["etag"], "W/\"7\"");
    for accepted in ["", "br", "gzip;q=0"] {
        let answer = ask(&server, "GET", "/tagged", &[("accept-encoding", accepted)]).await;
        assert_eq!(answer.text().len(), 5000, "{accepted}");
        assert_eq!(
            (&*answer.headers["vary"], &*answer.headers["etag"]),
            ("Accept-Encoding", "\"7\"")
        );
    }
}

#[tokio::test]
async fn the_tag_of_a_compressed_response_finds_it_unchanged() {
    let server = compressing();
    for tag in ["W/\"7\"", "\"7\""] {
        let headers = [("accept-encoding", "gzip"), ("if-none-match", tag)];
        let answer = ask(&server, "GET", "/tagged", &headers).await;
        assert_eq!(
            (answer.status, &*answer.headers["vary"]),
            (304, "Accept-Encoding"),
            "{tag}"
        );
        assert!(!answer.headers.contains_key("content-encoding"));
    }
}

#[tokio::test]
async fn a_response_that_is_not_marked_is_never_compressed_nor_any_while_it_is_off() {
    let gzip = [("accept-encoding", "gzip")];
    let answer = ask(&compressing(), "GET", "/secret", &gzip).await;
    assert!(answer.text().len() == 5000 && !answer.headers.contains_key("vary"));
    let answer = ask(&server(HttpConfig::default()), "GET", "/tagged", &gzip).await;
    assert!(answer.text().len() == 5000 && !answer.headers.contains_key("vary"));
}

#[tokio::test]
async fn server_timing_tells_where_the_time_went_if_it_is_on() {
    let on = server(HttpConfig {
        server_timing: true,
        ..HttpConfig::default()
    });
    let answer = on.ask(get_request("/timed")).await;
    let timing = &answer.headers["server-timing"];
    assert!(timing.starts_with("db;dur=1.500, total;dur="), "{timing}");
    let answer = on.ask(get_request("/nowhere")).await;
    assert!(answer.headers["server-timing"].starts_with("total;dur="));
    let off = server(HttpConfig::default());
    assert!(!off.ask(get_request("/")).await.headers.contains_key("server-timing"));
}
