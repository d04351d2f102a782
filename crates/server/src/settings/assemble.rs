//! Builds the typed settings and checks them against each other.
//!
//! Invariant: every row of the table is read and shown here, once.

use cenote_cache::MIN_STALENESS;

use super::parse::Kind;
use super::resolve::{Found, Resolver};
use super::sources::{Cited, Origin};
use super::table::{self as t, Setting};
use super::typed::{
    CacheMode, CacheModeName, CacheSettings, HttpSettings, LogSettings, PoolSettings, RedisTls, RetrySettings,
    Settings, ShutdownSettings, StatementSettings,
};
use super::{parse, server};

/// Reads every setting. The result counts only if the resolver has no problems.
pub(crate) fn settings(r: &mut Resolver<'_>) -> Settings {
    let instances = r.value(&t::INSTANCES);
    Settings {
        database: server::database(r),
        data_dir: r.optional(&t::DATA_DIR).map(|path| r.directory.join(path)),
        schema: r.value(&t::DB_SCHEMA),
        migrate: r.value(&t::MIGRATE),
        instances,
        pool: pool(r),
        statements: StatementSettings {
            timeout: r.value(&t::COMMAND_TIMEOUT),
            cache: r.value(&t::DB_STATEMENT_CACHE),
            echo: r.value(&t::DB_ECHO),
            slow: r.value(&t::DB_SLOW_QUERY),
        },
        retry: RetrySettings {
            attempts: r.value(&t::DB_RETRY_ATTEMPTS),
            delay: r.value(&t::DB_RETRY_DELAY),
        },
        cache: cache(r, instances),
        http: HttpSettings {
            host: r.value(&t::HOST),
            port: r.value(&t::PORT),
            cores: r.optional(&t::HTTP_CORES),
            max_connections: r.value(&t::HTTP_MAX_CONNECTIONS),
            header_timeout: r.value(&t::HTTP_HEADER_TIMEOUT),
            body_timeout: r.value(&t::HTTP_BODY_TIMEOUT),
            idle_timeout: r.value(&t::HTTP_IDLE_TIMEOUT),
            max_body: r.value(&t::HTTP_MAX_BODY),
            answer_memory: r.value(&t::HTTP_ANSWER_MEMORY),
        },
        shutdown: ShutdownSettings {
            delay: r.value(&t::SHUTDOWN_DELAY),
            timeout: r.value(&t::SHUTDOWN_TIMEOUT),
        },
        log: LogSettings {
            filter: r.value(&t::LOG),
            format: r.value(&t::LOG_FORMAT),
        },
    }
}

fn pool(r: &mut Resolver<'_>) -> PoolSettings {
    let (min, max) = pool_sizes(r);
    PoolSettings {
        min,
        max,
        overflow: r.value(&t::DB_POOL_MAX_OVERFLOW),
        timeout: r.value(&t::DB_POOL_TIMEOUT),
        max_waiters: r.value(&t::DB_POOL_MAX_WAITERS),
        queue_bytes: r.value(&t::DB_QUEUE_MAX_BYTES),
        queue_wait: r.value(&t::DB_QUEUE_MAX_WAIT),
        recycle: r.value(&t::DB_POOL_RECYCLE),
        idle_timeout: r.value(&t::DB_POOL_IDLE_TIMEOUT),
        connect_timeout: r.value(&t::DB_CONNECT_TIMEOUT),
    }
}

fn pool_sizes(r: &mut Resolver<'_>) -> (usize, usize) {
    let profile = r.optional(&t::POOL_PROFILE).map(|profile| profile.min_and_max());
    let (min, min_origin) = size(r, &t::DB_POOL_MIN_SIZE, profile.map(|(min, _)| min));
    let (max, max_origin) = size(r, &t::DB_POOL_MAX_SIZE, profile.map(|(_, max)| max));
    let (Some(min), Some(max)) = (min, max) else {
        return Default::default();
    };
    let chosen = |origin: &Origin| !matches!(origin, Origin::Default | Origin::Follows(_));
    if min > max && chosen(&max_origin) && !chosen(&min_origin) {
        // Whoever asks for one connection at most has not asked for two warm ones.
        let origin = Origin::Follows(t::DB_POOL_MAX_SIZE.about.name());
        r.show(&t::DB_POOL_MIN_SIZE, &max, origin);
        return (max, max);
    }
    if min > max {
        let bound = Cited(t::DB_POOL_MAX_SIZE.about.name(), &max_origin);
        let message = format!("\"{min}\" is more than the {max} of {bound}");
        r.problem(Cited(t::DB_POOL_MIN_SIZE.about.name(), &min_origin), message);
    }
    (min, max)
}

fn size(
    r: &mut Resolver<'_>,
    setting: &Setting<parse::Whole<usize>>,
    profile: Option<usize>,
) -> (Option<usize>, Origin) {
    let found = match (r.search(setting, r.everywhere()), profile) {
        (Found::Nothing, Some(size)) => Found::Value(size, Origin::Follows(t::POOL_PROFILE.about.name())),
        (Found::Nothing, None) => Found::Value(r.default_of(setting), Origin::Default),
        (found, _) => found,
    };
    r.show_found(setting, &found);
    match found {
        Found::Value(size, origin) => (Some(size), origin),
        _ => (None, Origin::Default),
    }
}

fn cache(r: &mut Resolver<'_>, instances: usize) -> CacheSettings {
    let redis = r.search(&t::REDIS_URL, r.everywhere());
    r.show_found(&t::REDIS_URL, &redis);
    let mode = r.search(&t::CACHE_MODE, r.everywhere());
    let (name, mode_origin) = match mode {
        Found::Value(name, origin) => (name, origin),
        // What one process keeps, the writes of another would not reach.
        _ if redis.is_nothing() && instances > 1 => (CacheModeName::Off, Origin::Follows(t::INSTANCES.about.name())),
        _ if redis.is_nothing() => (CacheModeName::Local, Origin::Default),
        _ => (CacheModeName::Strong, Origin::Follows(t::REDIS_URL.about.name())),
    };
    r.show(&t::CACHE_MODE, &name, mode_origin.clone());
    if name.needs_redis() && redis.is_nothing() {
        let message = format!("\"{}\" needs REDIS_URL", t::CACHE_MODE.kind.show(&name));
        r.problem(Cited(t::CACHE_MODE.about.name(), &mode_origin), message);
    }
    if name == CacheModeName::Local && instances > 1 {
        let message = format!(
            "\"local\" would miss the writes of the other instances of INSTANCES, which are {instances}; it is for one"
        );
        r.problem(Cited(t::CACHE_MODE.about.name(), &mode_origin), message);
    }
    CacheSettings {
        mode: cache_mode(r, name, &mode_origin),
        redis: redis.value(),
        redis_tls: redis_tls(r),
        ttl: r.value(&t::CACHE_TTL),
        stale_on_error: r.value(&t::CACHE_STALE_ON_ERROR),
        near_bytes: r.value(&t::CACHE_NEAR_BYTES),
        feed: r.value(&t::CACHE_FEED),
    }
}

fn redis_tls(r: &mut Resolver<'_>) -> RedisTls {
    let mut file = |setting| {
        let path = r.optional(setting)?;
        Some(r.directory.join(path))
    };
    let authorities = file(&t::REDIS_TLS_CA);
    let (certificate, key) = (file(&t::REDIS_TLS_CERT), file(&t::REDIS_TLS_KEY));
    if certificate.is_some() != key.is_some() {
        let (given, missing) = match certificate {
            Some(_) => (&t::REDIS_TLS_CERT, &t::REDIS_TLS_KEY),
            None => (&t::REDIS_TLS_KEY, &t::REDIS_TLS_CERT),
        };
        if let Found::Value(_, origin) = r.search(given, r.everywhere()) {
            let message = format!("means nothing without {}", missing.about.name());
            r.problem(Cited(given.about.name(), &origin), message);
        }
    }
    RedisTls {
        authorities,
        identity: certificate.zip(key),
    }
}

fn cache_mode(r: &mut Resolver<'_>, name: CacheModeName, mode_origin: &Origin) -> CacheMode {
    let bound = r.search(&t::CACHE_MAX_STALENESS_MS, r.everywhere());
    r.show_found(&t::CACHE_MAX_STALENESS_MS, &bound);
    if name != CacheModeName::Bounded
        && let Found::Value(_, origin) = &bound
    {
        let mode = Cited(t::CACHE_MODE.about.name(), mode_origin);
        let shown = t::CACHE_MODE.kind.show(&name);
        let message = format!("means nothing with \"{shown}\" of {mode}; only bounded has a bound");
        r.problem(Cited(t::CACHE_MAX_STALENESS_MS.about.name(), origin), message);
    }
    if let Found::Value(bound, origin) = &bound
        && *bound < MIN_STALENESS
    {
        let shown = t::CACHE_MAX_STALENESS_MS.kind.show(bound);
        let least = t::CACHE_MAX_STALENESS_MS.kind.show(&MIN_STALENESS);
        let name = t::CACHE_MAX_STALENESS_MS.about.name();
        r.problem(
            Cited(name, origin),
            format!("\"{shown}\" is too short to be proven; {least} at least"),
        );
    }
    match name {
        CacheModeName::Local => CacheMode::Local,
        CacheModeName::Strong => CacheMode::Strong,
        CacheModeName::Ttl => CacheMode::Ttl,
        CacheModeName::Off => CacheMode::Off,
        CacheModeName::Bounded => {
            if bound.is_nothing() {
                let origin = Origin::Follows(t::CACHE_MODE.about.name());
                r.show(&t::CACHE_MAX_STALENESS_MS, &t::MAX_STALENESS, origin);
            }
            CacheMode::Bounded {
                max_staleness: bound.value().unwrap_or(t::MAX_STALENESS),
            }
        }
    }
}
