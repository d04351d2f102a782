//! The values that are allowed, alone and in combination.

use std::path::Path;

use cenote::http::{ClientCertificates, TlsVersion};
use cenote::settings::{CacheMode, CertificateScopes};
use cenote_cache::{Mode, RedisConfig};

use crate::spans::SPANS;
use crate::world::{World, env, millis, secs, sizes};

#[test]
fn all_problems_are_listed_at_once_each_on_its_line_and_by_its_name() {
    let errors = env(&[
        ("PORT", "ten"),
        ("COMMAND_TIMEOUT", "0"),
        ("DB_ECHO", "maybe\nnot"),
        ("LOG", "a=b=c"),
        ("DATABASE_URL", "postgresql://u:hunter2@h/d?sslmode=maybe"),
        ("REDIS_URL", "http://:hunter2@h"),
    ])
    .file(".env", "# sizes\n\nDB_POOL_MAX_SIZE=\"ten\"\n")
    .errors();
    let lines: Vec<_> = errors.lines().collect();
    assert_eq!(lines.len(), 7, "{errors}");
    for expected in [
        "DB_POOL_MAX_SIZE from .env line 3: \"ten\" is not a whole number",
        "PORT from the environment: \"ten\" is not a whole number",
        "COMMAND_TIMEOUT from the environment: \"0\" must be more than 0",
        "DB_ECHO from the environment: \"maybe\\nnot\" is not true",
        "LOG from the environment: \"a=b=c\" holds \"a=b=c\", which is not a filter",
        "DATABASE_URL from the environment: the value has an invalid value for option `sslmode`",
        "REDIS_URL from the environment: the value must start with redis://",
    ] {
        assert!(
            lines.iter().any(|line| line.starts_with(expected)),
            "{expected}\n{errors}"
        );
    }
    assert!(!errors.contains("hunter2"), "{errors}");
}

#[test]
fn malformed_values_are_refused_for_every_setting_that_has_a_form() {
    for (name, values) in [
        ("DATABASE_URL", &["mysql://h", "x"][..]),
        (
            "DB_PORT",
            &["0", "65536", "70000", "x", "5432/tcp", "tcp://172.17.0.2:5432"],
        ),
        ("INSTANCES", &["0"]),
        ("HTTP_MAX_HEADERS", &["0", "101", "x"]),
        ("HTTP_MAX_HEADER_BYTES", &["8191", "2m", "x"]),
        (
            "CORS_ORIGINS",
            &[
                "x.org",
                "https://x.org/",
                "https://x.org:443",
                "https://X.org",
                "https://*.x.org",
                "null",
                "https://x.org,",
            ],
        ),
        ("CORS_MAX_AGE", &["-1", "x"]),
        ("HSTS", &["-1", "x"]),
        ("COMPRESSION", &["gzip"]),
        ("SERVER_TIMING", &["maybe"]),
        ("DASHBOARD_ACTIONS", &["maybe"]),
        ("MEMORY_WARN", &["100", "-1", "75%"]),
        ("MEMORY_CRITICAL", &["100", "x"]),
        ("POOL_PROFILE", &["huge"]),
        ("DB_POOL_MIN_SIZE", &["-1", "1.5", "x"]),
        ("DB_POOL_MAX_SIZE", &["0", "-1", "x"]),
        ("DB_POOL_MAX_OVERFLOW", &["-1", "x"]),
        ("DB_POOL_TIMEOUT", &["-1", "inf", "NaN", "x"]),
        ("DB_POOL_MAX_WAITERS", &["-1", "x"]),
        ("DB_QUEUE_MAX_BYTES", &["0", "-1", "x"]),
        ("DB_QUEUE_MAX_WAIT", &["0", "-1", "x"]),
        ("DB_POOL_RECYCLE", &["-1", "x"]),
        ("DB_POOL_IDLE_TIMEOUT", &["-1", "x"]),
        ("DB_POOL_LEAK_AFTER", &["-1", "x"]),
        ("DB_CONNECT_TIMEOUT", &["0", "x"]),
        ("COMMAND_TIMEOUT", &["0", "x"]),
        ("DB_STATEMENT_CACHE", &["-1"]),
        ("DB_ECHO", &["2", "yes please", "ture"]),
        ("DB_SLOW_QUERY", &["-1"]),
        ("DB_RETRY_ATTEMPTS", &["0", "x"]),
        ("DB_RETRY_DELAY", &["-1"]),
        ("REDIS_URL", &["h:6379", "redis://"]),
        ("CACHE_MODE", &["fast"]),
        ("CACHE_TTL", &["0"]),
        ("CACHE_MAX_STALENESS_MS", &["0", "x"]),
        ("CACHE_STALE_ON_ERROR", &["x"]),
        ("HOST", &["a:1", "a b", "*", "http://a", "[::1]:80"]),
        ("PORT", &["65536", "-1", "http", "0.0.0.0:8000", "http://a:80"]),
        ("HTTP_MAX_CONNECTIONS", &["0"]),
        ("HTTP_HEADER_TIMEOUT", &["0"]),
        ("HTTP_BODY_TIMEOUT", &["0"]),
        ("HTTP_IDLE_TIMEOUT", &["0"]),
        ("HTTP_MAX_BODY", &["0", "1g"]),
        ("HTTP_ANSWER_MEMORY", &["0", "1000"]),
        ("RATE_LIMIT_READ", &["100", "100/m", "0/s", "100/s burst=0"]),
        ("RATE_LIMIT_AUTH_FAILURES", &["x"]),
        ("RATE_LIMIT_CLASSES", &["search", "read=/x:1/s", "a=/x:1"]),
        ("RATE_LIMIT_KEYS", &["0", "63"]),
        ("RATE_LIMIT_HEADERS", &["never"]),
        ("RATE_LIMIT_IPV6_PREFIX", &["47", "129"]),
        ("TRUSTED_PROXIES", &["proxy", "10.0.0.1/8", "10.0.0.0/33"]),
        ("TRUSTED_PROXY_HEADER", &["x-real-ip"]),
        ("SHUTDOWN_DELAY", &["-1"]),
        ("SHUTDOWN_TIMEOUT", &["x"]),
        ("LOG", &["a=b=c", "debgu", "info,cenote=debgu", "all"]),
        ("LOG_FORMAT", &["xml"]),
        ("OTLP_ENDPOINT", &["localhost:4318", "grpc://h:4317", "http://user@h"]),
        ("OTLP_HEADERS", &["s3cret", "a b=s3cret"]),
        ("TRACE_RATIO", &["2", "-1", "1%"]),
    ] {
        for value in values {
            let errors = env(&[("DB_HOST", "h"), (name, value)]).errors();
            assert!(
                errors.starts_with(&format!("{name} from the environment: ")),
                "{errors}"
            );
        }
    }
}

#[test]
fn profiles_set_both_sizes_and_explicit_sizes_win() {
    for (profile, expected) in [
        ("low", (2, 5)),
        ("medium", (5, 20)),
        ("high", (10, 50)),
        ("very-high", (20, 100)),
    ] {
        let it = env(&[("POOL_PROFILE", profile)]).settings();
        assert_eq!(sizes(&it), expected);
    }
    let world = env(&[("POOL_PROFILE", "medium"), ("DB_POOL_MAX_SIZE", "30")]);
    assert_eq!(sizes(&world.settings()), (5, 30));
    assert_eq!(world.origin("DB_POOL_MIN_SIZE"), "default with POOL_PROFILE");
    assert_eq!(world.origin("DB_POOL_MAX_SIZE"), "environment DB_POOL_MAX_SIZE");
}

#[test]
fn the_smallest_pool_is_not_larger_than_the_largest() {
    assert_eq!(
        env(&[("DB_POOL_MIN", "7"), ("DB_POOL_SIZE", "6")]).errors(),
        "DB_POOL_MIN from the environment: \"7\" is more than the 6 of DB_POOL_SIZE from the environment"
    );
    let errors = env(&[("DB_POOL_MIN_SIZE", "11")]).errors();
    assert!(errors.contains("the 10 of DB_POOL_MAX_SIZE by default"), "{errors}");
    // A default gives way to an explicit value.
    let world = env(&[("DB_POOL_MAX_SIZE", "1")]);
    assert_eq!(sizes(&world.settings()), (1, 1));
    assert_eq!(world.origin("DB_POOL_MIN_SIZE"), "default with DB_POOL_MAX_SIZE");
}

#[test]
fn the_cache_mode_follows_redis_and_needs_it() {
    let redis = ("REDIS_URL", "redis://h");
    assert_eq!(env(&[redis]).settings().cache_mode, CacheMode::Strong);
    assert_eq!(env(&[redis]).origin("CACHE_MODE"), "default with REDIS_URL");
    for mode in ["strong", "bounded", "ttl"] {
        assert_eq!(
            env(&[("CACHE_MODE", mode)]).errors(),
            format!("CACHE_MODE from the environment: \"{mode}\" needs REDIS_URL")
        );
    }
    let servers = RedisConfig::from_url("redis://h").unwrap();
    let bounded = Mode::Bounded {
        redis: servers.clone(),
        max_staleness: secs(1),
    };
    for (name, mode) in [
        ("local", Mode::Local),
        ("strong", Mode::Strong(servers.clone())),
        ("bounded", bounded),
        ("ttl", Mode::Ttl(servers)),
        ("off", Mode::Off),
    ] {
        let it = env(&[redis, ("CACHE_MODE", name)]).settings();
        assert_eq!((it.cache_mode.as_str(), it.cache.mode), (name, mode));
    }
}

#[test]
fn a_certificate_for_redis_and_its_key_go_together() {
    let redis = ("REDIS_URL", "rediss://h");
    let (certificate, key) = (("REDIS_TLS_CERT", "/c.pem"), ("REDIS_TLS_KEY", "/k.pem"));
    let files = env(&[redis, certificate, key]).settings().redis_files;
    assert_eq!(files.certificate, Some("/c.pem".into()));
    assert_eq!(files.key, Some("/k.pem".into()));
    assert_eq!(
        env(&[redis, certificate]).errors(),
        "REDIS_TLS_CERT from the environment: means nothing without REDIS_TLS_KEY"
    );
    assert_eq!(
        env(&[redis, key]).errors(),
        "REDIS_TLS_KEY from the environment: means nothing without REDIS_TLS_CERT"
    );
}

#[test]
fn the_files_of_tls_go_together() {
    let (certificate, key) = (("TLS_CERT", "/c.pem"), ("TLS_KEY", "k.pem"));
    assert_eq!(env(&[]).settings().tls, None);
    let world = env(&[certificate, key]);
    let tls = world.settings().tls.unwrap();
    assert_eq!(tls.certificate, Path::new("/c.pem"));
    assert!(tls.key.is_absolute() && tls.key.ends_with("k.pem"), "{tls:?}");
    assert_eq!((tls.clients, tls.min_version), (None, TlsVersion::Tls12));

    let clients = ("TLS_CLIENT_CA", "/ca.pem");
    for (word, required) in [(None, true), (Some("require"), true), (Some("request"), false)] {
        let mut world = env(&[certificate, key, clients, ("TLS_MIN_VERSION", "1.3")]);
        if let Some(word) = word {
            world = world.env("TLS_CLIENT_AUTH", word);
        }
        let tls = world.settings().tls.unwrap();
        let expected = ClientCertificates {
            authorities: "/ca.pem".into(),
            required,
        };
        assert_eq!((tls.clients, tls.min_version), (Some(expected), TlsVersion::Tls13));
    }
    let scopes = |further: &[(&str, &str)]| {
        env(&[&[certificate, key, clients], further].concat())
            .settings()
            .auth
            .certificates
    };
    let of = ("TLS_CLIENT_SCOPES", "read; CN=ops: admin");
    assert_eq!(scopes(&[]), Some(CertificateScopes::default()));
    assert_eq!(scopes(&[of]), Some(of.1.parse().unwrap()));
    for other in [
        ("TLS_CLIENT_AUTH", "request"),
        ("AUTH", "keys"),
        ("AUTH", "none-i-know"),
    ] {
        assert_eq!(scopes(&[of, other]), None, "{other:?}");
        let warnings = env(&[certificate, key, clients, of, other]).loaded().warnings;
        assert!(
            warnings[0].starts_with("TLS_CLIENT_SCOPES from the environment is not used: "),
            "{warnings:?}"
        );
    }
    for (given, expected) in [
        (
            &[certificate, key, of][..],
            "TLS_CLIENT_SCOPES from the environment: means nothing without TLS_CLIENT_CA",
        ),
        (
            &[certificate][..],
            "TLS_CERT from the environment: means nothing without TLS_KEY",
        ),
        (&[key], "TLS_KEY from the environment: means nothing without TLS_CERT"),
        (
            &[clients],
            "TLS_CLIENT_CA from the environment: means nothing without TLS_CERT",
        ),
        (
            &[certificate, key, ("TLS_CLIENT_AUTH", "request")],
            "TLS_CLIENT_AUTH from the environment: means nothing without TLS_CLIENT_CA",
        ),
        (
            &[("TLS_MIN_VERSION", "1.3")],
            "TLS_MIN_VERSION from the environment: means nothing without TLS_CERT",
        ),
        (
            &[certificate, key, ("TLS_MIN_VERSION", "1.1")],
            "TLS_MIN_VERSION from the environment: \"1.1\" is not one of 1.2, 1.3",
        ),
    ] {
        assert_eq!(env(given).errors(), expected);
    }
}

#[test]
fn the_proxy_protocol_needs_trusted_proxies() {
    let (on, proxies) = (("PROXY_PROTOCOL", "on"), ("TRUSTED_PROXIES", "10.0.0.0/8"));
    assert!(!env(&[proxies]).settings().proxy_protocol);
    assert!(env(&[proxies, on]).settings().proxy_protocol);
    assert_eq!(
        env(&[on]).errors(),
        "PROXY_PROTOCOL from the environment: means nothing without TRUSTED_PROXIES"
    );
}

#[test]
fn several_instances_share_no_cache_in_one_process() {
    let several = ("INSTANCES", "2");
    let it = env(&[several]);
    assert_eq!(it.settings().cache_mode, CacheMode::Off);
    assert_eq!(it.origin("CACHE_MODE"), "default with INSTANCES");
    let errors = env(&[several, ("CACHE_MODE", "local")]).errors();
    assert!(errors.contains("CACHE_MODE") && errors.contains("INSTANCES"));
    let redis = ("REDIS_URL", "redis://h");
    let it = env(&[several, redis]).settings();
    assert_eq!(it.cache_mode, CacheMode::Strong);
}

#[test]
fn several_instances_share_their_limits_where_there_is_a_redis() {
    let redis = ("REDIS_URL", "redis://h");
    for (variables, shared_by) in [
        (&[][..], None),
        (&[("INSTANCES", "3")], None),
        (&[redis], None),
        (&[redis, ("INSTANCES", "3")], Some(3)),
        (&[redis, ("INSTANCES", "3"), ("RATE_LIMIT_SHARED", "off")], None),
        (&[redis, ("RATE_LIMIT_SHARED", "redis")], Some(1)),
        (
            &[
                redis,
                ("INSTANCES", "3"),
                ("CACHE_MODE", "off"),
                ("RATE_LIMIT_SHARED", "redis"),
            ],
            Some(3),
        ),
    ] {
        let settings = env(variables).settings();
        assert_eq!(settings.limits.shared_by, shared_by, "{variables:?}");
        assert_eq!(settings.limits_redis.is_some(), shared_by.is_some());
    }
    assert_eq!(
        env(&[("RATE_LIMIT_SHARED", "redis")]).errors(),
        "RATE_LIMIT_SHARED from the environment: \"redis\" needs REDIS_URL"
    );
}

#[test]
fn a_staleness_bound_too_short_to_be_proven_is_refused() {
    let redis = ("REDIS_URL", "redis://h");
    let bound = ("CACHE_MAX_STALENESS_MS", "19");
    let errors = env(&[redis, bound, ("CACHE_MODE", "bounded")]).errors();
    assert!(errors.contains("20ms at least"), "{errors}");
}

#[test]
fn a_staleness_bound_belongs_to_the_bounded_mode() {
    let bound = ("CACHE_MAX_STALENESS_MS", "250");
    let redis = ("REDIS_URL", "redis://h");
    let it = env(&[redis, bound, ("CACHE_MODE", "bounded")]).settings();
    let max_staleness = millis(250);
    let redis_at_h = RedisConfig::from_url("redis://h").unwrap();
    assert_eq!(
        it.cache.mode,
        Mode::Bounded {
            redis: redis_at_h,
            max_staleness
        }
    );
    for variables in [&[bound][..], &[redis, bound], &[redis, bound, ("CACHE_MODE", "ttl")]] {
        let errors = env(variables).errors();
        assert!(
            errors.starts_with("CACHE_MAX_STALENESS_MS from the environment"),
            "{errors}"
        );
    }
}

#[test]
fn the_flag_of_a_switch_needs_no_value() {
    assert!(World::new().arg("--db-echo").settings().postgres.echo);
    assert!(!World::new().arg("--db-echo=no").settings().postgres.echo);
}

#[test]
fn a_negative_number_after_a_flag_is_its_value() {
    let errors = World::new().arg("--port").arg("-1").errors();
    assert!(errors.starts_with("--port from the command line: \"-1\""), "{errors}");
}

#[test]
fn a_span_of_time_that_no_clock_can_show_is_refused_by_name() {
    for name in SPANS {
        for span in ["1e300", "99999999999h", "18446744073709551615", "87601h"] {
            let errors = env(&[(name, span)]).errors();
            let expected = format!("{name} from the environment: \"{span}\" is longer than ten years");
            assert!(errors.starts_with(&expected), "{errors}");
        }
        env(&[(name, "87600h")]).settings();
    }
}

#[test]
fn every_page_may_not_send_credentials_and_a_wildcard_stands_alone() {
    let errors = env(&[("CORS_ORIGINS", "*"), ("CORS_CREDENTIALS", "true")]).errors();
    assert!(
        errors.starts_with("CORS_ORIGINS from the environment: is * while credentials are allowed"),
        "{errors}"
    );
    let errors = env(&[("CORS_ORIGINS", "*,https://x.org")]).errors();
    assert!(errors.contains("has * beside origins"), "{errors}");
    assert!(env(&[("CORS_ORIGINS", "*")]).settings().http.cors.is_some());
    let several = [("CORS_ORIGINS", "https://x.org"), ("CORS_CREDENTIALS", "true")];
    assert!(env(&several).settings().http.cors.is_some());
}

#[test]
fn memory_is_critical_after_it_is_worth_a_warning() {
    let errors = env(&[("MEMORY_WARN", "85")]).errors();
    assert!(
        errors.starts_with("MEMORY_CRITICAL by default: \"85\" is not more than the 85 of MEMORY_WARN"),
        "{errors}"
    );
    env(&[("MEMORY_WARN", "85"), ("MEMORY_CRITICAL", "0")]).settings();
    env(&[("MEMORY_WARN", "0"), ("MEMORY_CRITICAL", "10")]).settings();
}

#[test]
fn strict_transport_security_without_tls_is_a_warning() {
    let warnings = env(&[("HSTS", "1h")]).loaded().warnings;
    assert!(
        warnings.len() == 1 && warnings[0].contains("has no effect over plain HTTP"),
        "{warnings:?}"
    );
    let behind = env(&[("HSTS", "1h"), ("TRUSTED_PROXIES", "10.0.0.0/8")]).loaded();
    assert_eq!(behind.warnings, Vec::<String>::new());
}
