//! Checks the settings against each other, and fills in defaults that follow from other settings.
//!
//! Invariant: a setting whose row says where its value goes is only overruled here by a setting that a source mentions.

use std::time::Duration;

use cenote_cache::{MIN_STALENESS, Mode, RedisConfig, Timing};

use super::live_password::{LivePassword, PasswordSource};
use super::origin::Origin;
use super::parse::Kind;
use super::resolve::{Resolver, Row};
use super::table as t;
use super::typed::Settings;
use crate::auth::{AuthMode, KeySource, SECRET_BYTES};
use crate::http::{ClientCertificates, Cors, TlsConfig};
use crate::spans::{OtlpConfig, OtlpHeaders};
use crate::store::CacheMode;

/// The default of `CACHE_MAX_STALENESS_MS`, which counts in one mode only.
const MAX_STALENESS: Duration = Duration::from_secs(1);

/// How long after `COMMAND_TIMEOUT` the server ends a statement by itself, if the cancel request was lost.
const BACKSTOP: Duration = Duration::from_secs(1);

/// The largest `statement_timeout` of PostgreSQL.
const LONGEST_STATEMENT: Duration = Duration::from_millis(i32::MAX as u64);

/// Applies all rules.
pub(super) fn apply(r: &mut Resolver, s: &mut Settings) {
    pool_sizes(r, s);
    let mut redis = r.get(&t::REDIS_URL).map(RedisConfig::new);
    if let Some(redis) = &mut redis {
        s.redis_password = redis_password(r, redis).map(LivePassword::new);
        redis.password = s.redis_password.as_ref().map(LivePassword::for_redis);
    }
    cache(r, s, redis.as_ref());
    go_together(r, &t::REDIS_TLS_CERT, &t::REDIS_TLS_KEY);
    limits(r, s, redis);
    cors(r, s);
    hsts(r, s);
    memory(r, s);
    tokens(r, s);
    tls(r, s);
    proxy_protocol(r, s);
    traces(r, s);
}

fn pool_sizes(r: &mut Resolver, s: &mut Settings) {
    if let Some((min, max)) = r.get(&t::POOL_PROFILE) {
        for (setting, size) in [(&t::DB_POOL_MIN_SIZE, min), (&t::DB_POOL_MAX_SIZE, max)] {
            if !r.is_set(setting) {
                r.follow(setting, size, &t::POOL_PROFILE, s);
            }
        }
    }
    let (min, max) = (s.postgres.pool.min_size.unwrap_or(0), s.postgres.pool.max_size);
    if min <= max || !r.has_value(&t::DB_POOL_MAX_SIZE) {
        return;
    }
    if !r.is_set(&t::DB_POOL_MIN_SIZE) && r.is_set(&t::DB_POOL_MAX_SIZE) {
        // A pool of one connection at most cannot keep two by default.
        r.follow(&t::DB_POOL_MIN_SIZE, max, &t::DB_POOL_MAX_SIZE, s);
    } else {
        let bound = r.cite(&t::DB_POOL_MAX_SIZE);
        r.problem_with(
            &t::DB_POOL_MIN_SIZE,
            format!("\"{min}\" is more than the {max} of {bound}"),
        );
    }
}

fn cache(r: &mut Resolver, s: &mut Settings, redis: Option<&RedisConfig>) {
    let has_redis = r.is_set(&t::REDIS_URL);
    if !r.has_value(&t::CACHE_MODE) {
        match has_redis {
            true => r.follow(&t::CACHE_MODE, CacheMode::Strong, &t::REDIS_URL, s),
            // The writes of one process would not reach what another keeps.
            false if s.instances > 1 => r.follow(&t::CACHE_MODE, CacheMode::Off, &t::INSTANCES, s),
            false => r.show(&t::CACHE_MODE, &CacheMode::Local, Origin::Default),
        }
    }
    let mode = s.cache_mode;
    if mode.needs_redis() && !has_redis {
        r.problem_with(&t::CACHE_MODE, format!("\"{}\" needs REDIS_URL", mode.as_str()));
    }
    if mode == CacheMode::Local && s.instances > 1 {
        let message = format!(
            "\"local\" would miss the writes of the other instances of INSTANCES, which are {}; it is for one",
            s.instances
        );
        r.problem_with(&t::CACHE_MODE, message);
    }
    let max_staleness = max_staleness(r, s);
    // Without servers there is a problem, so that the settings are not used.
    let redis = redis.cloned().unwrap_or_else(|| RedisConfig::new(Vec::new()));
    s.cache.mode = match mode {
        CacheMode::Local => Mode::Local,
        CacheMode::Strong => Mode::Strong(redis),
        CacheMode::Bounded => Mode::Bounded { redis, max_staleness },
        CacheMode::Ttl => Mode::Ttl(redis),
        CacheMode::Off => Mode::Off,
    };
    // Where nothing is cached, nothing has to be dropped.
    s.change_feed &= mode != CacheMode::Off;
    if mode == CacheMode::Local {
        // A single process needs no lease, and its fences may stand until the server ends the slowest statement.
        let timeout = s.postgres.command_timeout.unwrap_or(LONGEST_STATEMENT);
        let limit = timeout.saturating_add(BACKSTOP).min(LONGEST_STATEMENT);
        match Timing::new(limit * 2, limit, limit * 2) {
            Ok(timing) => s.cache.timing = timing,
            Err(invalid) => r.problem_with(&t::COMMAND_TIMEOUT, invalid),
        }
    }
}

/// Where the password is. A file is read again for every connection.
fn redis_password(r: &Resolver, redis: &RedisConfig) -> Option<PasswordSource> {
    let text = redis.servers.first()?.password()?;
    let in_file = r.file_of(&t::REDIS_URL).map(PasswordSource::RedisUrl);
    Some(in_file.unwrap_or_else(|| PasswordSource::Text(text.clone())))
}

fn max_staleness(r: &mut Resolver, s: &mut Settings) -> Duration {
    let setting = &t::CACHE_MAX_STALENESS_MS;
    let is_bounded = s.cache_mode == CacheMode::Bounded;
    let Some(bound) = r.get(setting) else {
        if is_bounded && !r.is_set(setting) {
            r.follow(setting, MAX_STALENESS, &t::CACHE_MODE, s);
        }
        return MAX_STALENESS;
    };
    if !is_bounded {
        let (word, mode) = (s.cache_mode.as_str(), r.cite(&t::CACHE_MODE));
        r.problem_with(
            setting,
            format!("means nothing with \"{word}\" of {mode}; only bounded has a bound"),
        );
    }
    if bound < MIN_STALENESS {
        let (bound, least) = (setting.kind.show(&bound), setting.kind.show(&MIN_STALENESS));
        r.problem_with(
            setting,
            format!("\"{bound}\" is too short to be proven; {least} at least"),
        );
    }
    bound
}

/// Several instances that do not share their limits would admit several times as much.
fn limits(r: &mut Resolver, s: &mut Settings, redis: Option<RedisConfig>) {
    let has_redis = r.is_set(&t::REDIS_URL);
    let is_shared = match r.get(&t::RATE_LIMIT_SHARED) {
        Some(true) if !has_redis => {
            r.problem_with(&t::RATE_LIMIT_SHARED, "\"redis\" needs REDIS_URL");
            return;
        }
        Some(is_shared) => is_shared,
        None if has_redis && s.instances > 1 => {
            r.follow(&t::RATE_LIMIT_SHARED, true, &t::REDIS_URL, s);
            true
        }
        None => false,
    };
    if is_shared && redis.is_some() {
        s.limits.shared_by = Some(s.instances);
        s.limits_redis = redis;
    }
}

/// Refuses one of two settings, such as a certificate and its key, without the other.
fn go_together(r: &mut Resolver, one: &dyn Row, other: &dyn Row) {
    for (given, missing) in [(one, other), (other, one)] {
        if r.is_set(given) && !r.is_set(missing) {
            means_nothing_without(r, given, missing);
        }
    }
}

fn cors(r: &mut Resolver, s: &mut Settings) {
    let credentials = r.get(&t::CORS_CREDENTIALS).unwrap_or_default();
    let max_age = r.get(&t::CORS_MAX_AGE).unwrap_or_default();
    let Some(origins) = r.get(&t::CORS_ORIGINS) else {
        return;
    };
    match Cors::new(origins.iter().map(String::as_str), credentials, max_age) {
        Ok(cors) => s.http.cors = Some(cors),
        Err(error) => r.problem_with(&t::CORS_ORIGINS, error),
    }
}

fn hsts(r: &mut Resolver, s: &Settings) {
    if s.http.hsts.is_some() && !r.is_set(&t::TLS_CERT) && !r.is_set(&t::TRUSTED_PROXIES) {
        let cited = r.cite(&t::HSTS);
        r.warnings.push(format!(
            "{cited} has no effect over plain HTTP; set TLS_CERT, or name the proxy that takes TLS in TRUSTED_PROXIES"
        ));
    }
}

fn memory(r: &mut Resolver, s: &mut Settings) {
    if let (Some(warning), Some(critical)) = (s.memory.warning, s.memory.critical)
        && critical <= warning
    {
        let bound = r.cite(&t::MEMORY_WARN);
        let message = format!("\"{critical}\" is not more than the {warning} of {bound}");
        r.problem_with(&t::MEMORY_CRITICAL, message);
    }
}

/// The keys of tokens come from one place, which is set if and only if tokens are accepted.
fn tokens(r: &mut Resolver, s: &mut Settings) {
    let places: [&dyn Row; 3] = [&t::JWT_SECRET, &t::JWT_JWKS_FILE, &t::JWT_JWKS_URL];
    let set: Vec<&dyn Row> = places.into_iter().filter(|place| r.is_set(*place)).collect();
    if let [first, second, ..] = set[..] {
        let first = r.cite(first);
        r.problem_with(
            second,
            format!("the keys of tokens come from one place, and {first} is set too"),
        );
    }
    let secret = r.get(&t::JWT_SECRET).map(|secret| {
        if secret.expose().len() < SECRET_BYTES {
            r.problem_with(
                &t::JWT_SECRET,
                format!("the value is shorter than {SECRET_BYTES} bytes"),
            );
        }
        match r.file_of(&t::JWT_SECRET) {
            Some(file) => KeySource::SecretFile(file),
            None => KeySource::Secret(secret),
        }
    });
    let file = r
        .get(&t::JWT_JWKS_FILE)
        .map(|file| KeySource::File(r.directory.join(file)));
    let url = r.get(&t::JWT_JWKS_URL).map(KeySource::Url);
    let is_url = url.is_some();
    let accepts_tokens = s.auth.mode.has_tokens();
    s.auth.token_keys = secret.or(file).or(url).filter(|_| accepts_tokens);
    if accepts_tokens && set.is_empty() {
        r.problem_with(&t::AUTH, "tokens need JWT_SECRET, JWT_JWKS_FILE or JWT_JWKS_URL");
    }
    if !accepts_tokens && let Some(place) = set.first() {
        let (place, auth) = (r.cite(*place), r.cite(&t::AUTH));
        r.warnings
            .push(format!("{place} is not used: {auth} accepts no tokens"));
    }
    if accepts_tokens && is_url && !r.is_set(&t::JWT_AUDIENCE) {
        let message = "JWT_AUDIENCE is not set: tokens that the issuer made for other services are accepted too";
        r.warnings.push(message.to_owned());
    }
}

/// Nothing is traced unless there is a collector.
fn traces(r: &mut Resolver, s: &mut Settings) {
    let headers = match r.get(&t::OTLP_HEADERS).map(|text| OtlpHeaders::parse(text.expose())) {
        Some(Ok(headers)) => headers,
        Some(Err(wrong)) => {
            r.problem_with(&t::OTLP_HEADERS, format!("the value {wrong}"));
            OtlpHeaders::default()
        }
        None => OtlpHeaders::default(),
    };
    let service = r.get(&t::OTLP_SERVICE_NAME).unwrap_or_else(|| "cenote".to_owned());
    let sampling = r.get(&t::TRACE_RATIO).unwrap_or_default();
    match r.get(&t::OTLP_ENDPOINT) {
        Some(url) => {
            s.http.sampling = Some(sampling);
            s.otlp = Some(OtlpConfig { url, headers, service });
        }
        None if r.is_set(&t::OTLP_HEADERS) && !r.is_set(&t::OTLP_ENDPOINT) => {
            means_nothing_without(r, &t::OTLP_HEADERS, &t::OTLP_ENDPOINT);
        }
        None => {}
    }
}

fn means_nothing_without(r: &mut Resolver, given: &dyn Row, missing: &dyn Row) {
    r.problem_with(given, format!("means nothing without {}", missing.about().name()));
}

fn proxy_protocol(r: &mut Resolver, s: &Settings) {
    if s.proxy_protocol && !r.is_set(&t::TRUSTED_PROXIES) {
        means_nothing_without(r, &t::PROXY_PROTOCOL, &t::TRUSTED_PROXIES);
    }
}

fn tls(r: &mut Resolver, s: &mut Settings) {
    go_together(r, &t::TLS_CERT, &t::TLS_KEY);
    let of_clients: &dyn Row = &t::TLS_CLIENT_AUTH;
    for (given, missing) in [
        (&t::TLS_CLIENT_CA as &dyn Row, &t::TLS_CERT as &dyn Row),
        (of_clients, &t::TLS_CLIENT_CA),
        (&t::TLS_CLIENT_SCOPES, &t::TLS_CLIENT_CA),
        (&t::TLS_MIN_VERSION, &t::TLS_CERT),
    ] {
        if r.is_set(given) && !r.is_set(missing) {
            means_nothing_without(r, given, missing);
        }
    }
    let (certificate, key) = (r.get(&t::TLS_CERT), r.get(&t::TLS_KEY));
    let (authorities, required) = (r.get(&t::TLS_CLIENT_CA), r.get(&t::TLS_CLIENT_AUTH));
    let min_version = r.get(&t::TLS_MIN_VERSION);
    let clients = authorities.map(|authorities| ClientCertificates {
        authorities: s.directory.join(authorities),
        required: required.unwrap_or(true),
    });
    certificate_scopes(r, s, clients.as_ref());
    s.tls = certificate.zip(key).map(|(certificate, key)| TlsConfig {
        certificate: s.directory.join(certificate),
        key: s.directory.join(key),
        clients,
        min_version: min_version.unwrap_or_default(),
    });
}

/// Certificates authenticate if every client must show one, and nothing else is asked for.
fn certificate_scopes(r: &mut Resolver, s: &mut Settings, clients: Option<&ClientCertificates>) {
    let scopes = r.get(&t::TLS_CLIENT_SCOPES);
    let Some(clients) = clients else {
        return;
    };
    match (s.auth.mode, clients.required) {
        (AuthMode::Off, true) => s.auth.certificates = Some(scopes.unwrap_or_default()),
        (mode, _) if scopes.is_some() => {
            let scopes = r.cite(&t::TLS_CLIENT_SCOPES);
            r.warnings.push(match mode {
                AuthMode::Off => {
                    format!("{scopes} is not used: TLS_CLIENT_AUTH=request lets clients in without a certificate")
                }
                _ => format!(
                    "{scopes} is not used: with {} certificates give no scopes",
                    r.cite(&t::AUTH)
                ),
            });
        }
        _ => {}
    }
}
