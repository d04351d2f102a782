//! The table of all settings: one row has a setting's names, kind, default and documentation, and the place in the
//! configuration where its value goes.
//!
//! Invariant: all of these are written nowhere else.

use std::fmt::Display;
use std::str::FromStr;

use super::parse::{
    Bytes, DatabaseHost, DatabaseUrl, Kind, List, ListenHost, Location, Milliseconds, OneOf, Parsed, Password,
    PositiveSeconds, RedisServers, Seconds, SecondsOrOff, Switch, Text, Whole,
};
use super::resolve::Fallback::{Else, Is};
use super::resolve::{About, Reload, Row, Setting};
use crate::access::OpenGroup;
use crate::auth::{AuthMode, CertificateScopes, ClaimRules, JwksUrl};
use crate::http::{ProxyHeader, Sampling, TlsVersion, TrustedProxies, check_origin};
use crate::limits::{HeadersOn, Policy, RouteClasses};
use crate::spans::OtlpUrl;
use crate::store::{CacheMode, Migrate, SchemaName};
use crate::telemetry;

/// The form of a limit.
const LIMIT: &str = "off, or a limit such as 100/min, 100/min burst=20 or 100/s,5000/h";

/// Parses a value by its own type.
fn parsed<T: FromStr<Err: Display>>(text: &str) -> Result<T, String> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

/// `#[reload] NAME or ALIAS: Kind(form), default => setter, "help";`, where `reload` is `live` or `password`, and not there
/// for a setting that needs a restart.
macro_rules! settings {
    ($($group:literal {
        $($(#[$reload:ident])? $name:ident $(or $alias:ident)* : $kind:ident $(<$of:ty>)? $(($($form:tt)*))?,
            $fallback:expr $(=> $set:expr)?, $help:literal;)*
    })*) => {
        $($(
            pub(super) static $name: Setting<$kind$(<$of>)?> = Setting {
                about: About {
                    group: $group,
                    names: &[stringify!($name) $(, stringify!($alias))*],
                    fallback: $fallback,
                    help: $help,
                    is_secret: <$kind$(<$of>)? as Kind>::SECRET,
                    is_switch: <$kind$(<$of>)? as Kind>::SWITCH,
                    reload: settings!(@reload $($reload)?),
                },
                kind: $kind $(::<$of>)? $(($($form)*))?,
                set: settings!(@set $($set)?),
            };
        )*)*

        /// Every setting, in the order of the documentation.
        pub(super) static TABLE: &[&dyn Row] = &[$($(&$name),*),*];
    };
    (@set $set:expr) => { Some($set) };
    (@set) => { None };
    (@reload live) => { Reload::Live };
    (@reload password) => { Reload::Password };
    (@reload) => { Reload::Restart };
}

/// More connections than any server accepts.
const MANY: u32 = 100_000;

/// The minimum and the maximum size of the pool, by one word.
const PROFILES: &[(&str, (u32, u32))] = &[
    ("low", (2, 5)),
    ("medium", (5, 20)),
    ("high", (10, 50)),
    ("very-high", (20, 100)),
];

/// The values of claims are compared as they are.
fn any_text(text: &str) -> Result<String, String> {
    match text.trim() {
        "" => Err("is empty".into()),
        trimmed if trimmed != text => Err("starts or ends with a blank".into()),
        _ => Ok(text.to_owned()),
    }
}

settings! {
    "Database" {
        #[password]
        DATABASE_URL: DatabaseUrl, Else("none: a private PostgreSQL is started"),
            "URL of the database. SQLAlchemy's postgresql+asyncpg:// is understood";
        DB_HOST: List<DatabaseHost>(DatabaseHost), Else("localhost if another DB_ name is set"),
            "Host of the database, as an alternative to DATABASE_URL";
        DB_PORT: Whole<u16>(1..=65_535), Else("5432"),
            "Port of the database";
        DB_USER: Text, Else("the user who runs the process"),
            "User of the database";
        #[live]
        DB_PASS or DB_PASSWORD: Password, Else("none"),
            "Password of the database user; the file of DB_PASS_FILE is read again for every connection";
        DB_NAME: Text, Else("the name of the user"),
            "Name of the database";
        DB_SCHEMA: Parsed<SchemaName>(
            "NAME",
            "name of a schema; taken as it is written, upper and lower case included",
            str::parse,
        ), Is("public") => |s, it| s.schema = it,
            "Schema of the service's tables; it is created if it is missing";
        MIGRATE: OneOf<Migrate>(Migrate::WORDS), Is("auto") => |s, it| s.migrate = it,
            "What serve does if the schema is not up to date: auto = add what is missing; check = end and name what \
             is missing; off = check nothing";
        DATA_DIR: Location, Else("~/.local/share/cenote/postgres; as root /var/lib/cenote/postgres")
            => |s, it| s.data_dir = Some(s.directory.join(it)),
            "Data directory of the private PostgreSQL that is started if no database is set";
        INSTANCES: Whole<u32>(1..=MANY), Is("1") => |s, it| s.instances = it,
            "Number of instances that share the database; cenote warns if their connections exceed the server's \
             limit";
    }
    "Pool" {
        #[live]
        POOL_PROFILE: OneOf<(u32, u32)>(PROFILES), Else("none"),
            "Pool sizes in one word, minimum/maximum: low 2/5, medium 5/20, high 10/50, very-high 20/100; explicit \
             sizes take precedence";
        #[live]
        DB_POOL_MIN_SIZE or POOL_MIN_SIZE or DB_POOL_MIN: Whole<u32>(0..=MANY), Is("2")
            => |s, it| s.postgres.pool.min_size = Some(it),
            "Minimum number of open connections. The default is lowered to DB_POOL_MAX_SIZE if that is smaller";
        #[live]
        DB_POOL_MAX_SIZE or POOL_MAX_SIZE or DB_POOL_MAX or DB_POOL_SIZE: Whole<u32>(1..=MANY), Is("10")
            => |s, it| s.postgres.pool.max_size = it,
            "Maximum number of connections, not counting overflow";
        #[live]
        DB_POOL_MAX_OVERFLOW: Whole<u32>(0..=MANY), Is("0") => |s, it| s.postgres.pool.max_overflow = it,
            "Number of connections beyond DB_POOL_MAX_SIZE under load; they are closed when they are released";
        DB_POOL_TIMEOUT: Seconds, Is("30") => |s, it| s.postgres.pool.acquire_timeout = it,
            "Maximum wait for a connection in seconds; 0 = do not wait";
        DB_POOL_MAX_WAITERS: Whole<u32>(0..=10_000_000), Is("10000") => |s, it| s.postgres.pool.max_waiters = it,
            "Maximum number of requests that wait for a connection; further requests get a 503 at once";
        DB_QUEUE_MAX_BYTES: Bytes(1..=1 << 40), Is("67108864") => |s, it| s.queue_bytes = it,
            "Maximum bytes of requests that wait for a batch, for reads and for writes each; further requests get a \
             503 at once";
        DB_QUEUE_MAX_WAIT: PositiveSeconds, Is("2") => |s, it| s.queue_wait = it,
            "Maximum expected wait for a batch in seconds; a request that would wait longer gets a 503 at once";
        DB_POOL_RECYCLE: SecondsOrOff, Is("1800") => |s, it| s.postgres.pool.max_lifetime = it,
            "Lifetime of a connection in seconds, with jitter; 0 = no limit";
        DB_POOL_IDLE_TIMEOUT: SecondsOrOff, Is("300") => |s, it| s.postgres.pool.idle_timeout = it,
            "Seconds after which an idle connection beyond DB_POOL_MIN_SIZE is closed; 0 = never";
        DB_POOL_LEAK_AFTER: SecondsOrOff, Is("60") => |s, it| s.postgres.pool.leak_after = it,
            "Seconds after which a connection that one caller holds counts as leaked: the log names its source line; \
             0 = never";
        DB_CONNECT_TIMEOUT: PositiveSeconds, Is("5") => |s, it| s.postgres.pool.connect_timeout = it,
            "Timeout for opening a connection in seconds, including TLS and login";
    }
    "Statements" {
        COMMAND_TIMEOUT: PositiveSeconds, Is("5") => |s, it| s.postgres.command_timeout = Some(it),
            "Timeout of a statement in seconds; the statement is also cancelled on the server. With CACHE_MODE \
             strong or bounded the server ends it after 1 s at the latest";
        DB_STATEMENT_CACHE: Whole<usize>(0..=1_000_000), Is("256") => |s, it| s.postgres.statement_cache = it,
            "Number of prepared statements that each connection keeps; 0 = none";
        DB_ECHO: Switch, Is("false") => |s, it| s.postgres.echo = it,
            "Log every SQL statement";
        DB_SLOW_QUERY: SecondsOrOff, Is("1") => |s, it| s.postgres.slow_query = it,
            "Log statements that take as long as this, in seconds, with their times and without parameters; 0 = off";
        DB_RETRY_ATTEMPTS: Whole<u32>(1..=100), Is("3") => |s, it| s.postgres.retry.attempts = it,
            "Maximum number of attempts of a statement that may be retried, including the first; 1 = no retry";
        DB_RETRY_DELAY: Seconds, Is("1.0") => |s, it| s.postgres.retry.delay = it,
            "Delay before the first retry in seconds; it grows exponentially, with jitter";
    }
    "Cache" {
        #[password]
        REDIS_URL: RedisServers, Else("none: in-process cache only"),
            "URL of Redis: redis://[[user]:password@]host[:port][/database], rediss:// with TLS, \
             unix:///path/of/the/socket; several nodes of a cluster are separated by commas";
        REDIS_TLS_CA: Location, Else("the authorities that the system trusts")
            => |s, it| s.redis_files.authorities = Some(s.directory.join(it)),
            "PEM file with the authorities that may sign the certificate of a rediss:// server";
        REDIS_TLS_CERT: Location, Else("none") => |s, it| s.redis_files.certificate = Some(s.directory.join(it)),
            "PEM file with the client certificate for a rediss:// server, and its chain; needs REDIS_TLS_KEY";
        REDIS_TLS_KEY: Location, Else("none") => |s, it| s.redis_files.key = Some(s.directory.join(it)),
            "PEM file with the private key of REDIS_TLS_CERT";
        CACHE_MODE: OneOf<CacheMode>(CacheMode::WORDS),
            Else("strong with REDIS_URL, else local; off with several INSTANCES and no REDIS_URL")
            => |s, it| s.cache_mode = it,
            "Consistency of cached reads: local = cached in this process, which must be the only writer; strong = no \
             stale reads through any instance; bounded = stale by CACHE_MAX_STALENESS_MS at most; ttl = plain \
             cache-aside; off = no cache. strong, bounded and ttl need REDIS_URL";
        CACHE_TTL: PositiveSeconds, Is("300") => |s, it| s.cache.set_ttl(it),
            "Lifetime of a cached value in seconds; that a key has no value is cached for a tenth of it, at least 1 \
             s";
        CACHE_MAX_STALENESS_MS: Milliseconds, Else("1000 with CACHE_MODE=bounded"),
            "Maximum staleness of a read in milliseconds; only with CACHE_MODE=bounded";
        CACHE_STALE_ON_ERROR: Switch, Is("false") => |s, it| s.cache.stale_on_error = it,
            "Answer with an outdated cached value, marked as stale, if the database fails";
        CACHE_NEAR_BYTES: Bytes(65_536..=1 << 40), Is("67108864") => |s, it| s.cache.near_bytes = it as u64,
            "Maximum memory of the values cached in this process, including keys and bookkeeping; in modes local and \
             bounded";
        CACHE_FEED: OneOf<bool>(&[("off", false), ("notify", true)]), Is("off") => |s, it| s.change_feed = it,
            "Whether the cache sees writes that bypass the service: notify = through triggers that the service adds \
             to its table";
    }
    "HTTP" {
        HOST: ListenHost, Is("127.0.0.1") => |s, it| s.host = it,
            "Address to listen on";
        PORT: Whole<u16>(0..=65_535), Is("8000") => |s, it| s.port = it,
            "Port to listen on; 0 = any free port";
        #[live]
        TLS_CERT: Location, Else("none: plain HTTP"),
            "File (PEM) with the certificate to show to clients, and its chain in order; the service then speaks HTTPS \
             alone. Needs TLS_KEY. It is read again when it changes";
        #[live]
        TLS_KEY: Location, Else("none"),
            "File (PEM) with the private key of TLS_CERT, not encrypted";
        #[live]
        TLS_CLIENT_CA: Location, Else("none: clients are not asked for a certificate"),
            "File (PEM) with the authorities that may sign the certificates of clients; needs TLS_CERT";
        TLS_CLIENT_AUTH: OneOf<bool>(&[("require", true), ("request", false)]), Else("require with TLS_CLIENT_CA"),
            "What happens to a client without a certificate: require = it is refused; request = it is served. One with a \
             certificate of another authority is always refused";
        TLS_CLIENT_SCOPES: Parsed<CertificateScopes>(
            "SCOPES",
            "scopes, or SUBJECT: SCOPES, separated by ;",
            parsed,
        ), Else("read,write with TLS_CLIENT_CA and AUTH=off"),
            "What the owners of certificates may do where a certificate is all that a client must show, such as \
             read; CN=ops,O=Acme: read,write,admin. An entry without a subject is for all others";
        #[live]
        TLS_MIN_VERSION: OneOf<TlsVersion>(TlsVersion::WORDS), Else("1.2 with TLS_CERT"),
            "Oldest version of TLS that is accepted";
        HTTP_CORES: Whole<usize>(1..=1024), Else("all that the process may use") => |s, it| s.cores = Some(it),
            "Number of cores that serve requests, each with a thread of its own";
        HTTP_MAX_CONNECTIONS: Whole<usize>(1..=10_000_000), Is("20000") => |s, it| s.http.max_connections = it,
            "Maximum number of client connections; further ones get a 503";
        #[live]
        HTTP_HEADER_TIMEOUT: PositiveSeconds, Is("10")
            => |s, it| (s.http.first_byte_timeout, s.http.head_timeout) = (it, it),
            "Timeout for the first byte of a request, and for its head, in seconds each";
        #[live]
        HTTP_BODY_TIMEOUT: PositiveSeconds, Is("15") => |s, it| s.http.body_timeout = it,
            "Timeout for the body of a request in seconds";
        #[live]
        HTTP_IDLE_TIMEOUT: PositiveSeconds, Is("75") => |s, it| s.http.idle_timeout = it,
            "Seconds after which an idle keep-alive connection is closed";
        #[live]
        HTTP_MAX_BODY: Bytes(1..=1 << 30), Is("1048576") => |s, it| s.http.max_body = it as u64,
            "Maximum size of a request body in bytes; 64k and 1m are understood";
        HTTP_ANSWER_MEMORY: Bytes(1 << 20..=1 << 40), Is("67108864") => |s, it| s.answer_memory = it,
            "Maximum bytes of large responses, above 32 KiB each, that are being made or read by their clients; \
             further ones become a 503";
        #[live]
        HTTP_MAX_HEADERS: Whole<usize>(1..=100), Is("100") => |s, it| s.http.max_headers = it,
            "Maximum number of headers of a request; a request with more gets a 431";
        HTTP_MAX_HEADER_BYTES: Bytes(8192..=1 << 20), Is("65536") => |s, it| s.http.max_header_bytes = it as u32,
            "Maximum size of the head of a request in bytes; a request with a larger one gets a 431";
        SHUTDOWN_DELAY: Seconds, Is("1") => |s, it| s.shutdown_delay = it,
            "Seconds between /health/ready answering 503 and the listener closing";
        #[live]
        SHUTDOWN_TIMEOUT: Seconds, Is("30") => |s, it| s.http.drain_timeout = it,
            "Maximum wait for requests in flight at shutdown in seconds";
    }
    "Web" {
        #[live]
        CORS_ORIGINS: List<Parsed<String>>(Parsed("ORIGIN", "origin such as https://app.example.org, or *", check_origin)),
            Else("none: no page of another origin may read responses"),
            "Origins of web pages that may use the API, exactly as browsers send them; * = every page";
        #[live]
        CORS_CREDENTIALS: Switch, Is("false"),
            "Let pages of CORS_ORIGINS send cookies and client certificates along; not with *";
        #[live]
        CORS_MAX_AGE: Seconds, Is("600"),
            "Seconds for which browsers remember what CORS_ORIGINS allows";
        #[live]
        HSTS: SecondsOrOff, Is("0") => |s, it| s.http.hsts = it,
            "Seconds for which browsers that came over TLS use nothing else (Strict-Transport-Security); 0 = off";
        #[live]
        COMPRESSION: Switch, Is("false") => |s, it| s.http.compression = it,
            "Compress documentation, metrics and lists of users with gzip for callers that accept it";
        #[live]
        SERVER_TIMING: Switch, Is("false") => |s, it| s.http.server_timing = it,
            "Tell all callers where the time of their request went, in the header Server-Timing; those with the scope admin \
             are told anyway";
        DASHBOARD_ACTIONS: OneOf<bool>(&[("off", false), ("on", true)]), Is("on") => |s, it| s.dashboard_actions = it,
            "Whether pages in a browser, such as the dashboard, may administer the service if their user may: pause, resize, \
             flush and the like; programs may in any case";
    }
    "Memory" {
        #[live]
        MEMORY_WARN: Whole<u8>(0..=99), Is("75") => |s, it| s.memory.warning = Some(it).filter(|it| *it > 0),
            "Percent of the memory limit from which on the log and /health warn; 0 = never";
        #[live]
        MEMORY_CRITICAL: Whole<u8>(0..=99), Is("85") => |s, it| s.memory.critical = Some(it).filter(|it| *it > 0),
            "Percent of the memory limit from which on the near cache is shrunk and long bodies are refused; 0 = never";
    }
    "Authentication" {
        AUTH: OneOf<AuthMode>(AuthMode::WORDS), Is("off") => |s, it| s.auth.mode = it,
            "What a caller must show: keys = an API key; jwt = a token; keys+jwt = either; off = nothing, which only \
             loopback addresses allow; none-i-know = nothing, wherever HOST is";
        #[live]
        AUTH_STALE: Seconds, Is("60") => |s, it| s.auth.stale = it,
            "Seconds for which known API keys are accepted while the database is away, 5 at least; then 503";
        AUTH_PEPPER: Password, Else("none: the SHA-256 of a key is stored") => |s, it| s.auth.pepper = Some(it),
            "Secret of the HMAC that is stored of API keys; if it is lost, so are all keys";
        #[live]
        CENOTE_BOOTSTRAP_KEY_FILE: Location, Else("none")
            => |s, it| s.auth.bootstrap_key = Some(s.directory.join(it)),
            "File of the first API key, which gets all scopes if there is no key; a missing or empty file gets a new one";
        #[live]
        JWT_SECRET: Password, Else("none"),
            "Secret of tokens with HS256, 32 bytes at least; the file of JWT_SECRET_FILE is read again every 10 s";
        #[live]
        JWT_JWKS_FILE: Location, Else("none"),
            "File with the JWK set that tokens are verified with; it is read again every 10 s";
        #[live]
        JWT_JWKS_URL: Parsed<JwksUrl>("URL", "https:// URL, or an http:// URL of this machine", str::parse),
            Else("none"),
            "URL of that JWK set; it is read again every 10 minutes, and for a token with an unknown key id";
        #[live]
        JWT_ISSUER: Parsed<String>("TEXT", "text", any_text), Else("none: any")
            => |s, it| s.auth.claims.issuer = Some(it),
            "Issuer that a token must name in iss";
        #[live]
        JWT_AUDIENCE: List<Parsed<String>>(Parsed("TEXT", "text", any_text)), Else("none: any")
            => |s, it| s.auth.claims.audiences = it,
            "Audience that a token must name in aud; one of several is enough";
        #[live]
        JWT_LEEWAY: Whole<u16>(0..=300), Is("30") => |s, it| s.auth.claims.leeway = it.into(),
            "Seconds by which the clocks of the issuer and this machine may differ";
        #[live]
        JWT_SCOPES: Parsed<String>("CLAIM", "name of a claim, or a JSON pointer to it", any_text),
            Else("scope, then scp") => |s, it| s.auth.claims.scopes = Some(ClaimRules::pointer(&it)),
            "Where a token has its scopes: /realm_access/roles";
        #[live]
        AUTH_OPEN: List<OneOf<OpenGroup>>(OneOf(OpenGroup::WORDS)), Else("none") => |s, it| s.auth_open = it,
            "Routes that need no key or token: docs, health, metrics";
    }
    "Limits" {
        #[live]
        RATE_LIMIT_READ: Parsed<Policy>("LIMIT", LIMIT, parsed), Is("off") => |s, it| s.limits.read = it,
            "How often a caller may read";
        #[live]
        RATE_LIMIT_WRITE: Parsed<Policy>("LIMIT", LIMIT, parsed), Is("off") => |s, it| s.limits.write = it,
            "How often a caller may write or delete";
        #[live]
        RATE_LIMIT_ADMIN: Parsed<Policy>("LIMIT", LIMIT, parsed), Is("off") => |s, it| s.limits.admin = it,
            "How often a caller may use the routes for administration";
        #[live]
        RATE_LIMIT_AUTH_FAILURES: Parsed<Policy>("LIMIT", LIMIT, parsed), Is("20/min") => |s, it| s.limits.auth_failures = it,
            "How often an address may fail to authenticate before it gets a 429";
        #[live]
        RATE_LIMIT_CLASSES: Parsed<RouteClasses>(
            "CLASSES",
            "classes as NAME=ROUTES:LIMIT, separated by ;",
            parsed,
        ), Else("none") => |s, it| s.limits.classes = it,
            "Limits of certain routes in place of those above, such as search=GET /users:100/min; see docs/limits.md";
        RATE_LIMIT_KEYS: Whole<usize>(64..=16_777_216), Is("65536") => |s, it| s.limits.buckets = it,
            "Callers that are told apart at a time; one counts several times if its limit has several windows. Each takes \
             25 bytes";
        #[live]
        RATE_LIMIT_HEADERS: OneOf<HeadersOn>(HeadersOn::WORDS), Is("always") => |s, it| s.limits.headers = it,
            "Which responses have the headers RateLimit and RateLimit-Policy: always = of all routes with a limit; \
             refused = those with status 429; off = none";
        #[live]
        RATE_LIMIT_LEGACY_HEADERS: Switch, Is("false") => |s, it| s.limits.legacy_headers = it,
            "Send X-RateLimit-Limit, X-RateLimit-Remaining and X-RateLimit-Reset as well";
        #[live]
        RATE_LIMIT_IPV6_PREFIX: Whole<u8>(48..=128), Is("64") => |s, it| s.limits.ipv6_prefix = it,
            "Leading bits of an IPv6 address that stand for one caller";
        RATE_LIMIT_SHARED: OneOf<bool>(&[("off", false), ("redis", true)]),
            Else("redis with REDIS_URL and several INSTANCES, else off"),
            "Whether the INSTANCES share the limits: redis = through REDIS_URL; off = each admits all of a limit";
        TRUSTED_PROXIES: Parsed<TrustedProxies>(
            "NETWORKS",
            "addresses and networks such as 10.0.0.0/8, separated by commas or blanks",
            parsed,
        ), Else("none") => |s, it| s.trusted_proxies = it,
            "Proxies whose header names the client";
        TRUSTED_PROXY_HEADER: OneOf<ProxyHeader>(ProxyHeader::WORDS), Is("x-forwarded-for") => |s, it| s.proxy_header = it,
            "Header in which the proxies name the client";
        PROXY_PROTOCOL: OneOf<bool>(&[("off", false), ("on", true)]), Is("off") => |s, it| s.proxy_protocol = it,
            "Whether every connection from TRUSTED_PROXIES begins with a header of the PROXY protocol, version 1 or 2";
    }
    "Traces" {
        OTLP_ENDPOINT or OTEL_EXPORTER_OTLP_ENDPOINT: Parsed<OtlpUrl>(
            "URL",
            "URL such as http://localhost:4318",
            str::parse,
        ), Else("none: no traces are exported"),
            "Base URL of the collector that gets traces, by OTLP over HTTP";
        OTLP_HEADERS or OTEL_EXPORTER_OTLP_HEADERS: Password, Else("none"),
            "Headers of each request to the collector, as name=value,name=value with percent-encoded values";
        OTLP_SERVICE_NAME or OTEL_SERVICE_NAME: Text, Else("cenote"),
            "Name of this service in traces";
        TRACE_RATIO or OTEL_TRACES_SAMPLER_ARG: Parsed<Sampling>("SHARE", "share from 0 to 1", str::parse), Else("0.01"),
            "Share of the requests that are traced; a request with a traceparent is traced if its caller traces it";
    }
    "Log" {
        #[live]
        LOG or LOG_LEVEL or RUST_LOG: Parsed<String>("FILTER", "tracing filter directives", telemetry::parse_filter), Is("info")
            => |s, it| s.log_filter = it,
            "What is logged, as tracing filter directives such as info,cenote=debug";
        LOG_FORMAT: OneOf<Option<bool>>(&[("auto", None), ("pretty", Some(true)), ("json", Some(false))]), Is("auto")
            => |s, it| s.log_is_pretty = it,
            "Format of the log: auto = pretty on a terminal, otherwise json";
        AUDIT_LOG: Location, Else("the log, with target audit")
            => |s, it| s.audit_log = Some(s.directory.join(it)),
            "File with a line of JSON for each administrative call and each change of an API key by command: who, what, from where, result";
    }
    "Configuration" {
        CENOTE_CONFIG: Location, Else("cenote.toml if it exists"),
            "TOML file with settings; its keys are the names in lower case";
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_help_text_fits_a_table_cell() {
        for row in TABLE {
            let help = row.about().help;
            assert!(!help.is_empty() && !help.contains(['|', '\n']), "{help}");
            assert!(!help.ends_with('.'), "{help}");
        }
    }
}
