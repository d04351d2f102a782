//! Who may send which request, tried from outside on every route.

use serde_json::{Value, json};

use crate::support::{
    Answer, Database, Launch, SOON, Service,
    tokens::{SECRET, in_seconds, token, token_with},
};

const SCOPES: [&str; 4] = ["read", "write", "admin", "metrics"];

/// A service that wants keys or tokens.
async fn guarded(further: &[(&str, &str)]) -> Service {
    let mut settings = vec![
        ("AUTH", "keys+jwt"),
        ("JWT_SECRET", SECRET),
        ("JWT_ISSUER", "https://issuer.example"),
        ("JWT_AUDIENCE", "cenote"),
        ("CACHE_MODE", "off"),
        ("RATE_LIMIT_AUTH_FAILURES", "off"),
    ];
    settings.extend(further);
    Service::start(&settings).await
}

/// Every route: method, path, body, and the scope that it needs.
async fn routes(service: &Service) -> Vec<(String, String, String, &'static str)> {
    let bearer = format!("Bearer {}", token_with("read", |_| {}));
    let description = service
        .ask("GET", "/openapi.json", &[("authorization", &bearer)], "")
        .await
        .json(200);
    let mut routes = Vec::new();
    for (path, operations) in description["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let method = method.to_uppercase();
            let scope = match (method.as_str(), path.as_str()) {
                (_, "/health/live" | "/health/ready") => continue,
                // Its response does not end; the tests of the dashboard have its scopes.
                (_, "/dashboard/events") => continue,
                (_, path) if path.starts_with("/admin/") => "admin",
                (_, "/health" | "/api/health" | "/pool-stats" | "/cache-stats" | "/metrics") => "metrics",
                ("POST", "/read") | ("GET", _) => "read",
                _ => "write",
            };
            let path = path.replace("{key}", "some-key").replace("{id}", "1");
            let body = if method == "POST" { "{}" } else { "" };
            routes.push((method, path, body.to_owned(), scope));
        }
    }
    assert!(routes.len() >= 15, "{routes:?}");
    for (path, scope) in [
        ("/docs", "read"),
        ("/docs/", "read"),
        ("/openapi.json", "read"),
        ("/api/health", "metrics"),
        ("/metrics", "metrics"),
        ("/users", "read"),
        ("/admin/", "admin"),
    ] {
        routes.push(("GET".into(), path.into(), String::new(), scope));
    }
    routes
}

async fn ask(service: &Service, route: &(String, String, String, &str), headers: &[(&str, &str)]) -> Answer {
    let (method, path, body, _) = route;
    let mut headers = headers.to_vec();
    if !body.is_empty() {
        headers.push(("content-type", "application/json"));
    }
    service.ask(method, path, &headers, body).await
}

/// Requests that no route describes: they need valid credentials, of any scope.
fn elsewhere() -> Vec<(String, String, String, &'static str)> {
    [
        ("GET", "/dashboard"),
        ("PUT", "/write"),
        ("OPTIONS", "/users"),
        ("GET", "/nowhere"),
        ("HEAD", "/read/x"),
    ]
    .map(|(method, path)| (method.to_owned(), path.to_owned(), String::new(), ""))
    .into()
}

/// Statements that the service has sent.
async fn statements(service: &Service) -> u64 {
    let bearer = format!("Bearer {}", token_with("metrics", |_| {}));
    let stats = service
        .ask("GET", "/pool-stats", &[("authorization", &bearer)], "")
        .await
        .json(200);
    stats["query_count"].as_u64().unwrap()
}

fn is_challenged(answer: &Answer, error: &str) {
    let challenge = &answer.headers["www-authenticate"];
    assert!(
        challenge.starts_with("Bearer") && challenge.contains(error),
        "{challenge}"
    );
}

#[tokio::test]
async fn every_route_but_the_probes_refuses_a_request_without_credentials() {
    let service = guarded(&[]).await;
    let routes = routes(&service).await;
    let before = statements(&service).await;
    for route in &routes {
        let answer = ask(&service, route, &[]).await;
        answer.problem(401, "unauthorized");
        is_challenged(&answer, "Bearer");
    }
    for route in elsewhere() {
        assert_eq!(ask(&service, &route, &[]).await.status, 401, "{route:?}");
    }
    for probe in ["/health/live", "/health/ready"] {
        service.get(probe).await.json(200);
    }
    assert_eq!(statements(&service).await, before, "nothing reached the database");
}

#[tokio::test]
async fn every_route_refuses_a_caller_who_lacks_its_scope_and_admits_one_who_has_it() {
    let service = guarded(&[]).await;
    let routes = routes(&service).await;
    let bearers = SCOPES.map(|scope| format!("Bearer {}", token_with(scope, |_| {})));
    let before = statements(&service).await;
    for route in &routes {
        for (scope, bearer) in SCOPES.iter().zip(&bearers).filter(|(scope, _)| **scope != route.3) {
            let answer = ask(&service, route, &[("authorization", bearer)]).await;
            let problem = answer.problem(403, "forbidden");
            assert_eq!(problem["scope"], route.3, "{route:?} with {scope}");
            is_challenged(&answer, "insufficient_scope");
        }
    }
    assert_eq!(statements(&service).await, before, "nothing reached the database");
    for route in routes.iter().filter(|route| !route.1.contains("/pause")) {
        let bearer = &bearers[SCOPES.iter().position(|scope| *scope == route.3).unwrap()];
        let answer = ask(&service, route, &[("authorization", bearer)]).await;
        assert!(
            ![401, 403, 429].contains(&answer.status),
            "{route:?}: {}",
            answer.status
        );
    }
    let none = format!("Bearer {}", token_with("openid", |_| {}));
    let answer = service.ask("GET", "/read/x", &[("authorization", &none)], "").await;
    answer.problem(403, "forbidden");
}

#[tokio::test]
async fn a_token_that_is_wrong_in_any_way_is_refused_alike_on_every_route() {
    let service = guarded(&[]).await;
    let mut routes = routes(&service).await;
    routes.extend(elsewhere());
    let header = json!({"alg": "HS256"});
    let good = token_with("read", |_| {});
    let with = |change: &dyn Fn(&mut Value)| token_with("read", change);
    let claims = json!({"sub": "ada", "iss": "https://issuer.example", "aud": "cenote", "scope": "read", "exp": in_seconds(600)});
    let parts: Vec<_> = good.split('.').collect();
    let wrong = [
        ("expired", with(&|it| it["exp"] = json!(in_seconds(-60)))),
        (
            "without exp",
            with(&|it| {
                it.as_object_mut().unwrap().remove("exp");
            }),
        ),
        ("exp as a text", with(&|it| it["exp"] = json!("4000000000"))),
        ("negative exp", with(&|it| it["exp"] = json!(-1))),
        ("huge exp", with(&|it| it["exp"] = json!(1e300))),
        ("not yet", with(&|it| it["nbf"] = json!(in_seconds(120)))),
        ("nbf as a text", with(&|it| it["nbf"] = json!("1"))),
        ("another issuer", with(&|it| it["iss"] = json!("https://other.example"))),
        (
            "no issuer",
            with(&|it| {
                it.as_object_mut().unwrap().remove("iss");
            }),
        ),
        ("another audience", with(&|it| it["aud"] = json!("other"))),
        (
            "no audience",
            with(&|it| {
                it.as_object_mut().unwrap().remove("aud");
            }),
        ),
        ("null audience", with(&|it| it["aud"] = Value::Null)),
        ("empty audience", with(&|it| it["aud"] = json!([]))),
        (
            "audience of another type",
            with(&|it| it["aud"] = json!({"cenote": true})),
        ),
        (
            "another secret",
            token(&header, &claims, "another secret of more than thirty-two bytes!!"),
        ),
        ("none", token(&json!({"alg": "none"}), &claims, SECRET)),
        (
            "none without signature",
            format!(
                "{}.",
                token(&json!({"alg": "none"}), &claims, SECRET)
                    .rsplit_once('.')
                    .unwrap()
                    .0
            ),
        ),
        ("another algorithm", token(&json!({"alg": "RS256"}), &claims, SECRET)),
        ("lower case algorithm", token(&json!({"alg": "hs256"}), &claims, SECRET)),
        (
            "unknown crit",
            token(&json!({"alg": "HS256", "crit": ["exp2"], "exp2": 1}), &claims, SECRET),
        ),
        (
            "tampered",
            format!("{}.{}.{}", parts[0], parts[1].to_owned() + "A", parts[2]),
        ),
        ("cut", good[..good.len() - 2].to_owned()),
        ("two parts", parts[..2].join(".")),
        ("four parts", format!("{good}.x")),
        ("nothing", "..".to_owned()),
        (
            "oversized",
            token_with("read", |it| it["pad"] = json!("x".repeat(9000))),
        ),
        (
            "a key with a wrong checksum",
            "cnk_000000000000000000000000000000000000".to_owned(),
        ),
        ("a short key", "cnk_0".to_owned()),
    ];
    let before = statements(&service).await;
    for (what, token) in &wrong {
        let bearer = format!("Bearer {token}");
        for route in &routes {
            let answer = ask(&service, route, &[("authorization", &bearer)]).await;
            assert_eq!(answer.status, 401, "{what}, {route:?}: {}", answer.text());
            is_challenged(&answer, "invalid_token");
        }
    }
    let both = format!("Bearer {good}");
    let two = service
        .ask(
            "GET",
            "/read/x",
            &[("authorization", &both), ("x-api-key", "cnk_x")],
            "",
        )
        .await;
    assert_eq!(two.status, 400);
    assert_eq!(statements(&service).await, before, "nothing reached the database");
    let log = service.log();
    for (what, token) in &wrong {
        assert!(
            token.len() < 20 || !log.contains(token.as_str()),
            "{what} is in the log"
        );
    }
    assert!(!log.contains(SECRET));
    for change in [json!("cenote"), json!(["other", "cenote"])] {
        let bearer = format!("Bearer {}", token_with("read", |it| it["aud"] = change));
        let answer = service.ask("GET", "/read/x", &[("authorization", &bearer)], "").await;
        answer.problem(404, "not-found");
    }
    // Skews within the leeway, and an issue date in the future, are no errors.
    let bearer = format!(
        "Bearer {}",
        with(&|it| {
            it["exp"] = json!(in_seconds(-10));
            it["nbf"] = json!(in_seconds(10));
            it["iat"] = json!(in_seconds(3600));
        })
    );
    service
        .ask("GET", "/read/x", &[("authorization", &bearer)], "")
        .await
        .problem(404, "not-found");
}

#[tokio::test]
async fn a_key_of_a_wrong_form_is_refused_without_a_look_into_the_database() {
    let service = guarded(&[]).await;
    let session = service.database.session().await;
    session
        .run("BEGIN; LOCK TABLE api_keys, kv, users IN ACCESS EXCLUSIVE MODE")
        .await;
    let ask = async |key: &str| service.ask("GET", "/read/x", &[("x-api-key", key)], "").await;
    for key in [
        "",
        "cnk_",
        "cnk_0000000000000000000000000000002C8GjT",
        "cnk_0000000000000000000000000000002C8GjS0",
        "cnk_000000000000000000000000000000\"C8GjS",
    ] {
        ask(key).await.problem(401, "unauthorized");
    }
    // Only the database knows whether a key exists that could be one.
    ask("cnk_0000000000000000000000000000002C8GjS")
        .await
        .problem(503, "auth-unavailable");
    session.run("ROLLBACK").await;
    ask("cnk_0000000000000000000000000000002C8GjS")
        .await
        .problem(401, "unauthorized");
}

#[tokio::test]
async fn an_address_other_than_loopback_needs_authentication_and_the_message_has_both_ways_out() {
    let database = Database::create().await;
    let refused = Launch::new(&["serve"])
        .env("DATABASE_URL", &database.url)
        .envs(&[("PORT", "0"), ("HOST", "0.0.0.0")])
        .spawn()
        .ended(SOON)
        .await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    for part in ["AUTH=keys", "cenote key create", "AUTH=none-i-know"] {
        assert!(refused.log.contains(part), "{part} in {}", refused.log);
    }
}

#[tokio::test]
async fn without_authentication_only_this_machine_administers() {
    let service = Service::start(&[]).await;
    service.get("/admin/state").await.json(200);
    for (name, value) in [
        ("x-forwarded-for", "192.0.2.1"),
        ("forwarded", "for=192.0.2.1"),
        ("via", "1.1 proxy"),
        ("sec-fetch-site", "cross-site"),
    ] {
        let answer = service.ask("GET", "/admin/state", &[(name, value)], "").await;
        answer.problem(403, "forbidden");
    }
}

#[tokio::test]
async fn a_limit_counts_for_each_caller_and_says_so_in_headers() {
    let service = guarded(&[("RATE_LIMIT_READ", "100/min burst=3")]).await;
    let (ada, bob) = (
        token_with("read", |_| {}),
        token_with("read", |it| it["sub"] = json!("bob")),
    );
    let get = async |token: &str| {
        let bearer = format!("Bearer {token}");
        service.ask("GET", "/read/x", &[("authorization", &bearer)], "").await
    };
    let mut admitted = 0;
    let refused = loop {
        let answer = get(&ada).await;
        assert_eq!(
            answer.headers["ratelimit-policy"].split(';').next().unwrap(),
            "\"read\""
        );
        match answer.status {
            404 => admitted += 1,
            _ => break answer,
        }
        assert!(admitted < 50);
    };
    assert!((3..=5).contains(&admitted), "{admitted}");
    let problem = refused.problem(429, "too-many-requests");
    assert_eq!(problem["violated-policies"], json!(["read"]));
    assert!(refused.headers["retry-after"].parse::<u32>().unwrap() >= 1);
    assert_eq!(get(&bob).await.status, 404, "another caller has a limit of his own");
}
