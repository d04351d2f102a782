//! Makes a service of its parts, as the settings say.
//!
//! Invariant: what no retry would cure, such as a port in use, is found first; a failure leaves nothing running.

use std::{sync::Arc, time::SystemTime};

use cenote_cache::{CheckError, RedisProblemKind, check_redis};
use tokio::{net::TcpListener, sync::watch, time::Instant};

use super::{
    auth::{self, Exposed},
    backend::Opened,
    cache::{self, CacheError, cache_config, limits_redis},
    failure::Failure,
    listen::{describe, listen},
    memory,
    reload::{LoadedFrom, Reloader, Targets},
    service::Service,
};
use crate::{
    access::{Gate, GateConfig},
    admin::{Admin, Reloads},
    app::{App, Shared},
    audit::AuditLog,
    cores::Cores,
    dashboard,
    health::HealthMonitor,
    http::{LiveConfig, Tls, Traffic},
    limits::Limits,
    memory_watch::{self, MemoryReader, MemoryState},
    open_files::{HOW_TO_RAISE, OpenFiles, TooFewOpenFiles},
    response_memory::ResponseMemory,
    routes::ROUTE_NAMES,
    settings::Settings,
    slow_statements,
    spans::Spans,
    systemd::PassedSockets,
};

/// What differs between a service of the command line and one of a test.
pub(super) struct Surroundings {
    /// Sockets to accept on, instead of `HOST` and `PORT`.
    pub(super) sockets: PassedSockets,
    /// Reads the memory; `None` watches none.
    pub(super) memory: Option<Box<dyn MemoryReader>>,
    /// `None`: the settings cannot be reloaded.
    pub(super) from: Option<LoadedFrom>,
    /// Where the log leaves spans.
    pub(super) spans: Spans,
}

impl Default for Surroundings {
    fn default() -> Self {
        Self {
            sockets: PassedSockets::default(),
            memory: memory_watch::system_reader(),
            from: None,
            spans: Spans::default(),
        }
    }
}

/// Makes a service of all its parts.
///
/// # Errors
///
/// [`Failure`], after which nothing is left running.
pub(super) async fn compose(mut settings: Settings, surroundings: Surroundings) -> Result<Service, Failure> {
    let Surroundings {
        sockets,
        memory,
        from,
        spans,
    } = surroundings;
    let mut http = settings.http.clone();
    (http.trusted_proxies, http.proxy_header) = (settings.trusted_proxies.clone(), settings.proxy_header);
    // First what no retry would cure, such as a port in use.
    let tls = settings.tls.clone().map(Tls::load).transpose()?;
    let listeners = open_listeners(&settings, sockets).await?;
    let addresses: Vec<_> = listeners.iter().filter_map(|it| it.local_addr().ok()).collect();
    let audit = AuditLog::open(settings.audit_log.clone()).map_err(Failure::Audit)?;
    if let Some(exposed) = Exposed::find(&settings.auth, &addresses) {
        return Err(Failure::Exposed(exposed));
    }
    let cores = Cores::start(settings.cores).map_err(Failure::Cores)?;
    http.max_connections = most_clients(&settings, cores.runtimes().len())?;
    let cache = cache_config(&settings).map_err(Failure::Redis)?;
    let limits = Arc::new(Limits::new(&settings.limits));
    let sharing = limits_redis(&settings).map_err(Failure::Redis)?;
    let sharing = sharing.map(|redis| (limits.clone(), redis));
    let exporter = settings.otlp.clone().map(|otlp| spans.export(otlp)).transpose();
    let exporter = exporter.map_err(Failure::Exporter)?;
    let slow_statements = Arc::default();
    settings.postgres.on_slow_statement = Some(slow_statements::keep_in(Arc::clone(&slow_statements)));
    let opening = Opened::open(settings, cores.runtimes());
    let (opened, redis) = tokio::join!(opening, check_redis(&cache.mode));
    let database = opened?;
    database.backend.announce();
    let stores = check_redis_kind(redis).and_then(|()| database.backend.stores(cache).map_err(Failure::Cache));
    let stores = match stores {
        Ok(stores) => stores,
        Err(failure) => {
            database.close().await;
            return Err(failure);
        }
    };
    // Boxed: the load of keys of tokens is large, and most services have none.
    let certificates = auth::certificates(&database.backend.settings);
    let auth = match Box::pin(database.backend.authenticator(certificates.as_ref())).await {
        Ok(auth) => auth,
        Err(error) => {
            database.close().await;
            return Err(Failure::Auth(error));
        }
    };
    let settings = &database.backend.settings;
    let pool = &database.backend.pool;
    let gate = Arc::new(Gate::new(
        auth.clone(),
        certificates,
        limits,
        &GateConfig {
            open: &settings.auth_open,
            pages_may_act: settings.dashboard_actions,
        },
        audit,
    ));
    let (reloads, requests) = Reloads::channel();
    let health = Arc::new(HealthMonitor::new(pool.clone()));
    let http = LiveConfig::from(http);
    let (thresholds, watched) = watch::channel(settings.memory);
    let reloading = from.map(|from| {
        let targets = Targets {
            backend: database.backend.clone(),
            health: health.clone(),
            gate: gate.clone(),
            auth: auth.clone(),
            tls: tls.clone(),
            http: http.clone(),
            memory: thresholds,
        };
        (Reloader { from, targets }, requests)
    });
    let shared = Shared {
        cache_mode: settings.cache_mode,
        has_feed: settings.change_feed,
        health,
        admin: Arc::new(Admin::of(pool, &cores.runtimes()[0], reloads)),
        started: Instant::now(),
        started_at: SystemTime::now(),
        traffic: Arc::new(Traffic::new(cores.runtimes().len(), ROUTE_NAMES)),
        slow_statements,
        connection_limit: Arc::default(),
        spans,
        memory: ResponseMemory::new(settings.answer_memory),
        memory_state: MemoryState::default(),
        auth,
        tls: tls.clone(),
        gate,
    };
    let apps = App::per_runtime(pool, stores, &shared);
    let memory_watch = memory::watch(&apps[0], settings, memory, watched);
    log_pool_sizes(settings);
    if let Some(address) = addresses.first() {
        let scheme = if tls.is_some() { "https" } else { "http" };
        tracing::info!(%address, "{}", describe(scheme, &addresses));
    }
    let about = dashboard::About {
        address: addresses.first().copied(),
        near_bytes: settings.cache.near_bytes,
        instances: settings.instances,
    };
    Ok(Service {
        listeners,
        addresses,
        tls,
        http,
        cores,
        database,
        apps,
        memory_watch,
        reloading,
        exporter,
        sharing,
        about,
    })
}

/// Returns the sockets that were passed, or opens those of `HOST` and `PORT`.
async fn open_listeners(settings: &Settings, sockets: PassedSockets) -> Result<Vec<TcpListener>, Failure> {
    if !sockets.is_empty() {
        return sockets.into_listeners().map_err(Failure::PassedSockets);
    }
    let (host, port) = (&settings.host, settings.port);
    listen(host, port).await.map_err(|error| Failure::Listen {
        host: host.clone(),
        port,
        error,
    })
}

/// Refuses a Redis of another kind than the URL demands. The cache reports any other problem, and uses Redis once the problem
/// is gone.
fn check_redis_kind(checked: Result<(), CheckError>) -> Result<(), Failure> {
    match checked.map_err(CacheError::from) {
        Err(error) if error.redis().is_none_or(|it| it.kind() == RedisProblemKind::Mismatch) => {
            Err(Failure::Redis(error))
        }
        _ => Ok(()),
    }
}

fn log_pool_sizes(settings: &Settings) {
    let pool = &settings.postgres.pool;
    tracing::info!(
        min = pool.min_size,
        max = pool.max_size,
        overflow = pool.max_overflow,
        timeout = pool.acquire_timeout.as_secs_f64(),
        "pool initialized"
    );
}

/// Returns the maximum number of client connections: `HTTP_MAX_CONNECTIONS`, or less if the limit of open files is lower.
fn most_clients(settings: &Settings, cores: usize) -> Result<usize, TooFewOpenFiles> {
    let wanted = settings.http.max_connections;
    let files = OpenFiles::prepare(settings, cache::connections_beside_pool(settings), cores);
    let most = files.clients(wanted)?;
    if most < wanted {
        let OpenFiles { limit, open, kept } = files;
        tracing::warn!(
            limit,
            open,
            kept,
            clients = most,
            "the limit of open files leaves room for {most} clients, not for the {wanted} of HTTP_MAX_CONNECTIONS; more \
             get a 503. Raise it ({HOW_TO_RAISE}), or lower HTTP_MAX_CONNECTIONS"
        );
    }
    Ok(most)
}
