//! The names and the default of each setting.

use std::path::Path;

use cenote::http::{ProxyHeader, Sampling};
use cenote::limits::{HeadersOn, LimitsConfig};
use cenote::settings::{AuthMode, CacheMode, Migrate, OpenGroup, Settings};
use cenote_cache::Mode;

use crate::world::{World, env, host, millis, secs, sizes};

#[test]
fn with_nothing_set_every_default_of_the_contract_holds() {
    let loaded = World::new().loaded();
    let it = loaded.settings;
    assert!(!it.names_database());
    assert_eq!(it.data_dir, None);
    assert_eq!(it.schema.to_string(), "public");
    assert_eq!(it.migrate, Migrate::Auto);
    assert_eq!(it.instances, 1);
    let pool = &it.postgres.pool;
    assert_eq!((pool.min_size, pool.max_size, pool.max_overflow), (Some(2), 10, 0));
    assert_eq!(pool.acquire_timeout, secs(30));
    assert_eq!(pool.max_waiters, 10_000);
    assert_eq!((it.queue_bytes, it.queue_wait), (64 << 20, secs(2)));
    assert_eq!(pool.max_lifetime, Some(secs(1800)));
    assert_eq!(pool.idle_timeout, Some(secs(300)));
    assert_eq!(pool.connect_timeout, secs(5));
    assert_eq!(it.postgres.command_timeout, Some(secs(5)));
    assert_eq!(it.postgres.statement_cache, 256);
    assert!(!it.postgres.echo);
    assert_eq!(it.postgres.slow_query, Some(secs(1)));
    assert_eq!((it.postgres.retry.attempts, it.postgres.retry.delay), (3, secs(1)));
    assert_eq!((it.cache_mode, &it.cache.mode), (CacheMode::Local, &Mode::Local));
    assert_eq!(it.cache.mode.redis(), None);
    assert_eq!(it.cache.ttl, secs(300));
    assert!(!it.cache.stale_on_error);
    assert_eq!((it.host.as_str(), it.port), ("127.0.0.1", 8000));
    assert_eq!(it.auth.mode, AuthMode::Off);
    assert_eq!((it.auth.stale, it.auth.claims.leeway), (secs(60), 30));
    assert_eq!(it.http.max_connections, 20_000);
    assert_eq!((it.http.first_byte_timeout, it.http.head_timeout), (secs(10), secs(10)));
    assert_eq!(it.http.body_timeout, secs(15));
    assert_eq!(it.http.idle_timeout, secs(75));
    assert_eq!(it.http.max_body, 1 << 20);
    assert_eq!(it.limits, LimitsConfig::default());
    assert_eq!(it.limits.auth_failures.to_string(), "20/min");
    assert!(it.limits.read.is_off() && it.limits.write.is_off() && it.limits.admin.is_off());
    assert!(it.trusted_proxies.is_empty());
    assert_eq!((it.shutdown_delay, it.http.drain_timeout), (secs(1), secs(30)));
    assert_eq!((it.http.max_headers, it.http.max_header_bytes), (100, 65_536));
    assert_eq!((&it.http.cors, it.http.hsts), (&None, None));
    assert!(!it.http.compression && !it.http.server_timing);
    assert!(it.dashboard_actions);
    assert_eq!((it.memory.warning, it.memory.critical), (Some(75), Some(85)));
    assert_eq!(it.audit_log, None);
    assert_eq!(it.log_filter, "info");
    assert_eq!(it.log_is_pretty, None);
    assert_eq!(loaded.warnings, Vec::<String>::new());
    for row in loaded.report.rows() {
        assert_eq!(row.origin.to_string(), "default", "{}", row.name);
    }
}

/// The names of a setting, a value, and whether the typed settings then hold it.
type Row = (&'static [&'static str], &'static str, fn(&Settings) -> bool);

/// Every setting but `DB_PORT` and `DB_PASS`, which name no database alone, and `CACHE_MAX_STALENESS_MS`.
const ROWS: &[Row] = &[
    (&["DATABASE_URL"], "postgresql://h/d", |s| s.names_database()),
    (&["DB_HOST"], "h", |s| host(&s.postgres) == "h"),
    (&["DB_USER"], "u", |s| s.postgres.server.get_user() == Some("u")),
    (&["DB_NAME"], "n", |s| s.postgres.server.get_dbname() == Some("n")),
    (&["DATA_DIR"], "/data", |s| {
        s.data_dir.as_deref() == Some(Path::new("/data"))
    }),
    (&["DB_SCHEMA"], "Own", |s| s.schema.to_string() == "Own"),
    (&["MIGRATE"], "check", |s| s.migrate == Migrate::Check),
    (&["INSTANCES"], "4", |s| s.instances == 4),
    (&["POOL_PROFILE"], "very-high", |s| sizes(s) == (20, 100)),
    (&["DB_POOL_MIN_SIZE", "POOL_MIN_SIZE", "DB_POOL_MIN"], "3", |s| {
        sizes(s).0 == 3
    }),
    (
        &["DB_POOL_MAX_SIZE", "POOL_MAX_SIZE", "DB_POOL_MAX", "DB_POOL_SIZE"],
        "33",
        |s| sizes(s).1 == 33,
    ),
    (&["DB_POOL_MAX_OVERFLOW"], "5", |s| s.postgres.pool.max_overflow == 5),
    (&["DB_POOL_TIMEOUT"], "0.5", |s| {
        s.postgres.pool.acquire_timeout == millis(500)
    }),
    (&["DB_POOL_MAX_WAITERS"], "7", |s| s.postgres.pool.max_waiters == 7),
    (&["DB_QUEUE_MAX_BYTES"], "3m", |s| s.queue_bytes == 3 << 20),
    (&["DB_QUEUE_MAX_WAIT"], "250ms", |s| s.queue_wait == millis(250)),
    (&["DB_POOL_RECYCLE"], "1h", |s| {
        s.postgres.pool.max_lifetime == Some(secs(3600))
    }),
    (&["DB_POOL_LEAK_AFTER"], "0", |s| s.postgres.pool.leak_after.is_none()),
    (&["DB_POOL_IDLE_TIMEOUT"], "0", |s| {
        s.postgres.pool.idle_timeout.is_none()
    }),
    (&["DB_CONNECT_TIMEOUT"], "9", |s| {
        s.postgres.pool.connect_timeout == secs(9)
    }),
    (&["COMMAND_TIMEOUT"], "2m", |s| {
        s.postgres.command_timeout == Some(secs(120))
    }),
    (&["DB_STATEMENT_CACHE"], "0", |s| s.postgres.statement_cache == 0),
    (&["DB_ECHO"], "yes", |s| s.postgres.echo),
    (&["DB_SLOW_QUERY"], "0", |s| s.postgres.slow_query.is_none()),
    (&["DB_RETRY_ATTEMPTS"], "8", |s| s.postgres.retry.attempts == 8),
    (&["DB_RETRY_DELAY"], "250ms", |s| s.postgres.retry.delay == millis(250)),
    (&["REDIS_URL"], "rediss://h", |s| s.cache.mode.redis().is_some()),
    (&["REDIS_TLS_CA"], "/ca.pem", |s| s.redis_files.authorities.is_some()),
    (&["CACHE_MODE"], "off", |s| s.cache_mode == CacheMode::Off),
    (&["CACHE_TTL"], "60", |s| s.cache.ttl == secs(60)),
    (&["CACHE_STALE_ON_ERROR"], "on", |s| s.cache.stale_on_error),
    (&["CACHE_NEAR_BYTES"], "1m", |s| s.cache.near_bytes == 1_048_576),
    (&["CACHE_FEED"], "notify", |s| s.change_feed),
    (&["HOST"], "0.0.0.0", |s| s.host == "0.0.0.0"),
    (&["PORT"], "0", |s| s.port == 0),
    (&["AUTH"], "keys", |s| s.auth.mode == AuthMode::Keys),
    (&["AUTH_STALE"], "7", |s| s.auth.stale == secs(7)),
    (&["AUTH_PEPPER"], "salt", |s| s.auth.pepper.is_some()),
    (&["JWT_ISSUER"], "https://issuer.example", |s| {
        s.auth.claims.issuer.as_deref() == Some("https://issuer.example")
    }),
    (&["JWT_AUDIENCE"], "cenote, other", |s| {
        s.auth.claims.audiences == ["cenote", "other"]
    }),
    (&["JWT_LEEWAY"], "5", |s| s.auth.claims.leeway == 5),
    (&["JWT_SCOPES"], "roles", |s| {
        s.auth.claims.scopes.as_deref() == Some("/roles")
    }),
    (&["AUTH_OPEN"], "docs, metrics", |s| {
        s.auth_open == [OpenGroup::Docs, OpenGroup::Metrics]
    }),
    (&["HTTP_CORES"], "3", |s| s.cores == Some(3)),
    (&["HTTP_MAX_CONNECTIONS"], "100", |s| s.http.max_connections == 100),
    (&["HTTP_HEADER_TIMEOUT"], "1", |s| s.http.head_timeout == secs(1)),
    (&["HTTP_BODY_TIMEOUT"], "1", |s| s.http.body_timeout == secs(1)),
    (&["HTTP_IDLE_TIMEOUT"], "1", |s| s.http.idle_timeout == secs(1)),
    (&["HTTP_MAX_BODY"], "64k", |s| s.http.max_body == 65_536),
    (&["HTTP_ANSWER_MEMORY"], "8m", |s| s.answer_memory == 8 << 20),
    (&["HTTP_MAX_HEADERS"], "50", |s| s.http.max_headers == 50),
    (&["HTTP_MAX_HEADER_BYTES"], "16k", |s| s.http.max_header_bytes == 16_384),
    (&["CORS_ORIGINS"], "https://x.org, http://localhost:3000", |s| {
        s.http.cors.is_some()
    }),
    (&["HSTS"], "24h", |s| s.http.hsts == Some(secs(86_400))),
    (&["COMPRESSION"], "on", |s| s.http.compression),
    (&["SERVER_TIMING"], "on", |s| s.http.server_timing),
    (&["DASHBOARD_ACTIONS"], "off", |s| !s.dashboard_actions),
    (&["MEMORY_WARN"], "60", |s| s.memory.warning == Some(60)),
    (&["MEMORY_CRITICAL"], "0", |s| s.memory.critical.is_none()),
    (&["AUDIT_LOG"], "/audit.log", |s| {
        s.audit_log.as_deref() == Some(Path::new("/audit.log"))
    }),
    (&["RATE_LIMIT_READ"], "100/min burst=20", |s| {
        s.limits.read.to_string() == "100/min burst=20"
    }),
    (&["RATE_LIMIT_WRITE"], "10/s,200/h", |s| {
        s.limits.write.windows().len() == 2
    }),
    (&["RATE_LIMIT_ADMIN"], "5/s", |s| !s.limits.admin.is_off()),
    (&["RATE_LIMIT_AUTH_FAILURES"], "off", |s| {
        s.limits.auth_failures.is_off()
    }),
    (&["RATE_LIMIT_CLASSES"], "search=GET /users:100/min", |s| {
        s.limits.classes.to_string() == "search=GET /users:100/min"
    }),
    (&["RATE_LIMIT_KEYS"], "1024", |s| s.limits.buckets == 1024),
    (&["RATE_LIMIT_HEADERS"], "refused", |s| {
        s.limits.headers == HeadersOn::Refusals
    }),
    (&["RATE_LIMIT_LEGACY_HEADERS"], "true", |s| s.limits.legacy_headers),
    (&["RATE_LIMIT_IPV6_PREFIX"], "56", |s| s.limits.ipv6_prefix == 56),
    (&["TRUSTED_PROXIES"], "10.0.0.0/8,::1", |s| {
        s.trusted_proxies.to_string() == "10.0.0.0/8,::1/128"
    }),
    (&["TRUSTED_PROXY_HEADER"], "forwarded", |s| {
        s.proxy_header == ProxyHeader::Forwarded
    }),
    (&["SHUTDOWN_DELAY"], "0", |s| s.shutdown_delay.is_zero()),
    (&["SHUTDOWN_TIMEOUT"], "2", |s| s.http.drain_timeout == secs(2)),
    (&["LOG", "LOG_LEVEL", "RUST_LOG"], "info,cenote=debug", |s| {
        s.log_filter == "info,cenote=debug"
    }),
    (
        &["OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"],
        "http://localhost:4318",
        |s| s.http.sampling == Some(Sampling::default()),
    ),
    (&["LOG_FORMAT"], "json", |s| s.log_is_pretty == Some(false)),
];

#[test]
fn every_name_works_in_every_source_with_and_without_file() {
    for (names, value, holds) in ROWS {
        for name in *names {
            let key = name.to_lowercase();
            let flag = key.replace('_', "-");
            let file = || World::new().file("value", &format!("{value}\n"));
            for (what, world) in [
                ("command line", World::new().arg(&format!("--{flag}")).arg(value)),
                ("environment", env(&[(name, value)])),
                (".env", World::new().file(".env", &format!("{name}={value}\n"))),
                (
                    "TOML",
                    World::new().file("cenote.toml", &format!("{key} = {value:?}\n")),
                ),
                ("command line file", file().arg(&format!("--{flag}-file=value"))),
                ("environment file", file().env(&format!("{name}_FILE"), "value")),
                (".env file", file().file(".env", &format!("{name}_FILE=value"))),
                (
                    "TOML file",
                    file().file("cenote.toml", &format!("{key}_file = 'value'")),
                ),
            ] {
                assert!(holds(&world.settings()), "{name} from {what}");
                assert_ne!(world.origin(names[0]), "default", "{name} from {what}");
            }
        }
    }
}

#[test]
fn no_setting_is_left_out_of_these_tests() {
    // Tested elsewhere: these settings have no meaning without others.
    let mut tried = vec![
        "DB_PORT",
        "DB_PASS",
        "CACHE_MAX_STALENESS_MS",
        "CENOTE_CONFIG",
        "CORS_CREDENTIALS",
        "CORS_MAX_AGE",
        "RATE_LIMIT_SHARED",
        "REDIS_TLS_CERT",
        "REDIS_TLS_KEY",
        "CENOTE_BOOTSTRAP_KEY_FILE",
        "JWT_SECRET",
        "JWT_JWKS_FILE",
        "JWT_JWKS_URL",
        "TLS_CERT",
        "TLS_KEY",
        "TLS_CLIENT_CA",
        "TLS_CLIENT_AUTH",
        "TLS_CLIENT_SCOPES",
        "TLS_MIN_VERSION",
        "PROXY_PROTOCOL",
        "OTLP_HEADERS",
        "OTLP_SERVICE_NAME",
        "TRACE_RATIO",
    ];
    tried.extend(ROWS.iter().map(|(names, ..)| names[0]));
    tried.sort_unstable();
    let report = World::new().loaded().report;
    let mut rows: Vec<_> = report.rows().iter().map(|row| row.name).collect();
    rows.sort_unstable();
    assert_eq!(tried, rows);
}

#[test]
fn two_names_of_one_setting_agree_or_are_both_named() {
    for (names, value, _) in ROWS {
        for alias in &names[1..] {
            env(&[(names[0], value), (alias, value)]).settings();
            let other = if names[0] == "LOG" { "warn" } else { "1" };
            let errors = env(&[(names[0], value), (alias, other)]).errors();
            assert!(errors.contains(names[0]) && errors.contains(alias), "{errors}");
        }
    }
    assert_eq!(
        env(&[("DB_HOST", "h"), ("DB_PASS", "one"), ("DB_PASSWORD", "two")]).errors(),
        "DB_PASS from the environment: differs from DB_PASSWORD from the environment; they name one setting"
    );
    // Equal values need not be spelled alike.
    env(&[("DB_POOL_MAX", "10"), ("DB_POOL_SIZE", " 010 ")]).settings();
}

#[test]
fn misspelt_names_are_warned_about_and_others_are_not() {
    let world = env(&[
        ("DB_POOL_MAXSIZE", "5"),
        ("PATH", "/bin"),
        ("HOME", "/"),
        ("DB_NAME", "x"),
    ]);
    let world = world.file(".env", "\nCACHE_TLL=5\nSECRET_KEY=x\n");
    assert_eq!(
        world.loaded().warnings,
        [
            "DB_POOL_MAXSIZE from the environment is not a setting; did you mean DB_POOL_MAX_SIZE?",
            "CACHE_TLL from .env line 2 is not a setting; did you mean CACHE_TTL?",
        ]
    );
}
