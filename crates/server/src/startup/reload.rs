//! Reads the settings again while the service runs, and applies what it can.
//!
//! Invariant: all or nothing. Whatever can fail is done before anything is changed, and one task carries out one reload
//! after the other.

use std::sync::Arc;

use cenote_postgres::{Config, Limits};
use tokio::{
    sync::{mpsc, watch},
    task::spawn_blocking,
};

use super::backend::Backend;
use crate::{
    access::Gate,
    admin::{Fault, ReloadRefused, ReloadRequest, Reloaded},
    audit::AuditedCall,
    auth::{Authenticator, KeySource, PreparedKeys, TokenConfig},
    health::{HealthMonitor, Stage},
    http::{ClientCertificates, LiveConfig, PreparedTls, Tls, TlsConfig},
    memory_watch::Thresholds,
    settings::{Changes, LivePassword, Loaded, Report, Settings, Sources},
    systemd, telemetry,
};

/// The settings of TLS to clients, which can only change where there is TLS.
const TLS: [&str; 4] = ["TLS_CERT", "TLS_KEY", "TLS_CLIENT_CA", "TLS_MIN_VERSION"];
/// The settings of tokens, which can only change where tokens are accepted.
const TOKENS: [&str; 7] = [
    "JWT_SECRET",
    "JWT_JWKS_FILE",
    "JWT_JWKS_URL",
    "JWT_ISSUER",
    "JWT_AUDIENCE",
    "JWT_LEEWAY",
    "JWT_SCOPES",
];

/// The settings of limits, which can only change where they are not shared with other instances.
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

/// Where the settings came from, and what they were.
#[derive(Debug)]
pub(crate) struct LoadedFrom {
    pub(crate) sources: Sources,
    pub(crate) report: Report,
}

/// Carries out reloads.
pub(super) struct Reloader {
    pub(super) from: LoadedFrom,
    pub(super) targets: Targets,
}

/// What a reload changes.
pub(super) struct Targets {
    /// Its settings are those of the start.
    pub(super) backend: Backend,
    pub(super) health: Arc<HealthMonitor>,
    pub(super) gate: Arc<Gate>,
    pub(super) auth: Option<Arc<Authenticator>>,
    pub(super) tls: Option<Tls>,
    pub(super) http: LiveConfig,
    pub(super) memory: watch::Sender<Thresholds>,
}

/// What was read from files beside the settings, and is not in use yet.
struct Prepared {
    tls: Option<PreparedTls>,
    keys: Option<(&'static str, PreparedKeys)>,
}

impl Reloader {
    /// Carries out the reloads that are asked for. Ends with the last [`Reloads`](crate::admin::Reloads).
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<ReloadRequest>) {
        while let Some(ReloadRequest { by, answer }) = requests.recv().await {
            // systemd takes a READY for the end of the start.
            let is_running = self.targets.health.stage() == Stage::Running;
            if is_running {
                systemd::reloading();
            }
            let reloaded = self.reload().await;
            log(by, &reloaded);
            if is_running {
                systemd::ready();
            }
            match answer {
                // Nobody waits any more if it fails.
                Some(answer) => drop(answer.send(reloaded)),
                // The line of a request is written with its response.
                None => self.targets.gate.audit_log().record(audited(by, &reloaded)).await,
            }
        }
    }

    async fn reload(&mut self) -> Result<Reloaded, ReloadRefused> {
        let sources = self.from.sources.clone();
        // Files may be on a network. The error concerns the runtime's own end.
        let loaded = spawn_blocking(move || sources.load()).await;
        let loaded = loaded.map_err(|_| ReloadRefused::Ending)?;
        let Loaded {
            settings,
            report,
            warnings,
        } = loaded.map_err(|errors| ReloadRefused::from(&errors))?;
        let prepared = self.targets.prepare(&settings).await?;
        for warning in warnings {
            tracing::warn!("{warning}");
        }
        let mut changes = Changes::between(&self.from.report, &report);
        self.targets.apply(&settings, prepared, &mut changes);
        let (applied, needs_restart) = (changes.live(), changes.restart());
        self.from.report.adopt(report, &needs_restart);
        Ok(Reloaded { applied, needs_restart })
    }
}

impl Targets {
    /// Does what can fail, and changes nothing.
    async fn prepare(&self, settings: &Settings) -> Result<Prepared, ReloadRefused> {
        let mut faults = Vec::new();
        let mut refuse = |name: &str, problem: String| {
            let name = name.to_owned();
            faults.push(Fault { name, problem });
        };
        let tls = match (&self.tls, &settings.tls) {
            (Some(tls), Some(config)) => match tls.prepare(with_clients_of(&tls.config(), config)).await {
                Ok(prepared) => Some(prepared),
                Err(error) => {
                    refuse("TLS_CERT", format!("TLS_CERT and TLS_KEY cannot be used: {error}"));
                    None
                }
            },
            _ => None,
        };
        let tokens = self.auth.as_ref().and_then(|auth| auth.tokens());
        let keys = match tokens.zip(settings.auth.token_keys.clone()) {
            Some((tokens, source)) => {
                let name = setting_of(&source);
                let rules = settings.auth.claims.clone();
                match tokens.prepare(TokenConfig { source, rules }).await {
                    Ok(prepared) => Some((name, prepared)),
                    Err(error) => {
                        refuse(name, format!("{name}: {error}"));
                        None
                    }
                }
            }
            None => None,
        };
        match faults.is_empty() {
            true => Ok(Prepared { tls, keys }),
            false => Err(ReloadRefused::Faults(faults)),
        }
    }

    /// Applies the settings. `changes` are those of the settings; afterwards they say what was applied.
    fn apply(&self, settings: &Settings, prepared: Prepared, changes: &mut Changes) {
        self.apply_passwords(settings, changes);
        self.apply_pool_limits(settings, changes);
        let asks = |tls: &TlsConfig| tls.clients.is_some();
        if self.backend.settings.tls.as_ref().is_some_and(asks) != settings.tls.as_ref().is_some_and(asks) {
            changes.hold_back(&["TLS_CLIENT_CA"]);
        }
        match prepared.tls.map(PreparedTls::adopt) {
            None => changes.hold_back(&TLS),
            Some(true) => changes.note("TLS_CERT"),
            Some(false) => {}
        }
        self.apply_auth(settings, prepared.keys, changes);
        if !self.gate.set_limits(&settings.limits) {
            changes.hold_back(&LIMITS);
        }
        self.http.replace(&settings.http);
        self.memory.send_if_modified(|memory| {
            let differs = *memory != settings.memory;
            *memory = settings.memory;
            differs
        });
        if telemetry::filter() != settings.log_filter && telemetry::set_filter(&settings.log_filter).is_ok() {
            changes.note("LOG");
        }
    }

    fn apply_passwords(&self, settings: &Settings, changes: &mut Changes) {
        let running = &*self.backend.settings;
        let is_same = is_same_database(&running.postgres, &settings.postgres);
        match is_same && replace(&running.database_password, &settings.database_password) {
            true => changes.only_password_of("DATABASE_URL"),
            // The password may be that of another server.
            false => changes.hold_back(&["DATABASE_URL", "DB_PASS"]),
        }
        let redis_of = |settings: &'_ Settings| settings.cache.mode.redis().or(settings.limits_redis.as_ref()).cloned();
        let [running_redis, redis] = [running, settings].map(redis_of);
        let is_same = running_redis.zip(redis).is_some_and(|(one, other)| {
            let servers = one.servers.iter().zip(&other.servers);
            one.servers.len() == other.servers.len() && { servers }.all(|(one, other)| one.is_same_but_password(other))
        });
        if is_same && replace(&running.redis_password, &settings.redis_password) {
            changes.only_password_of("REDIS_URL");
        }
    }

    fn apply_pool_limits(&self, settings: &Settings, changes: &mut Changes) {
        let pool = &settings.postgres.pool;
        let wanted = Limits {
            min_size: pool.min_size,
            max_size: pool.max_size,
            max_overflow: pool.max_overflow,
        };
        let before = self.backend.pool.limits();
        // The settings were checked, so that a resize does not fail.
        if before == wanted || self.backend.pool.resize(wanted).is_err() {
            return;
        }
        for (name, differs) in [
            ("DB_POOL_MIN_SIZE", before.min_size != wanted.min_size),
            ("DB_POOL_MAX_SIZE", before.max_size != wanted.max_size),
            ("DB_POOL_MAX_OVERFLOW", before.max_overflow != wanted.max_overflow),
        ] {
            if differs {
                changes.note(name);
            }
        }
    }

    fn apply_auth(&self, settings: &Settings, keys: Option<(&'static str, PreparedKeys)>, changes: &mut Changes) {
        self.gate.set_open(&settings.auth_open);
        let Some(auth) = &self.auth else {
            return changes.hold_back(&TOKENS);
        };
        match auth.tokens().zip(keys) {
            None => changes.hold_back(&TOKENS),
            Some((tokens, (name, keys))) => {
                if tokens.adopt(keys) {
                    changes.note(name);
                }
            }
        }
        if let Some(keys) = auth.keys() {
            keys.set_stale(settings.auth.stale);
        }
        // A database that is away must hold up no reload.
        if let Some(path) = settings.auth.bootstrap_key.clone()
            && self.health.stage() == Stage::Running
        {
            let backend = self.backend.clone();
            tokio::spawn(async move { backend.create_first_key(Some(&path)).await });
        }
    }
}

/// Whether clients are asked for a certificate, and must show one, decides who may call. So it stays as it is.
fn with_clients_of(running: &TlsConfig, new: &TlsConfig) -> TlsConfig {
    let clients = running.clients.as_ref().map(|running| ClientCertificates {
        authorities: match &new.clients {
            Some(clients) => clients.authorities.clone(),
            None => running.authorities.clone(),
        },
        required: running.required,
    });
    TlsConfig { clients, ..new.clone() }
}

/// The setting that names the source of the keys.
fn setting_of(source: &KeySource) -> &'static str {
    match source {
        KeySource::Secret(_) | KeySource::SecretFile(_) => "JWT_SECRET",
        KeySource::File(_) => "JWT_JWKS_FILE",
        KeySource::Url(_) => "JWT_JWKS_URL",
    }
}

/// Whether two configurations lead to the same servers as the same user.
fn is_same_database(one: &Config, other: &Config) -> bool {
    let without_password = |config: &Config| {
        let mut server = config.server.clone();
        server.password("");
        server
    };
    without_password(one) == without_password(other)
        && one.tls == other.tls
        && one.target_session == other.target_session
}

/// Lets connections ask the new source for their password. Returns whether that is possible: if there is no password, nobody
/// asks for one.
fn replace(running: &Option<LivePassword>, new: &Option<LivePassword>) -> bool {
    match (running, new) {
        (Some(running), Some(new)) => {
            running.replace(new.source());
            true
        }
        (None, None) => true,
        _ => false,
    }
}

/// The line of the audit for a reload that nobody waits for.
fn audited(by: &str, reloaded: &Result<Reloaded, ReloadRefused>) -> AuditedCall {
    let detail = match reloaded {
        Ok(reloaded) => reloaded.to_string(),
        Err(refused) => refused.to_string(),
    };
    AuditedCall {
        who: Some("signal".to_owned()),
        what: by.to_owned(),
        detail: Some(detail),
        from: None,
        result: Some(reloaded.is_err().into()),
    }
}

fn log(by: &str, reloaded: &Result<Reloaded, ReloadRefused>) {
    match reloaded {
        Ok(Reloaded { applied, needs_restart }) => {
            tracing::info!(by, applied = applied.join(", "), "settings reloaded");
            if !needs_restart.is_empty() {
                let settings = needs_restart.join(", ");
                tracing::warn!(settings, "these settings have new values that need a restart");
            }
        }
        Err(ReloadRefused::Faults(faults)) => {
            for fault in faults {
                tracing::error!(
                    by,
                    setting = fault.name,
                    "the settings were not reloaded: {}",
                    fault.problem
                );
            }
        }
        Err(ReloadRefused::Ending) => {}
    }
}
