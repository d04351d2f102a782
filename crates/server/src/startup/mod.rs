//! The composition root: builds a service, or only its database, from settings, runs it, and stops it.
//!
//! Invariant: on a stop `/health/ready` answers 503 first, then the listeners close, requests in flight finish, the pool
//! closes, a private database stops, and last the threads that served.

mod auth;
mod backend;
mod cache;
mod first_key;
mod listen;
mod memory;
mod private;
mod reach;
mod readiness;
mod reload;

use std::{
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use cenote_cache::{CheckError, RedisConfig, RedisProblemKind, check_redis};
use tokio::{
    net::TcpListener,
    runtime::Handle,
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep},
};

use self::{
    auth::Exposed,
    backend::DatabaseError,
    listen::{describe, listen},
    reload::{Reloader, Targets},
};
pub(crate) use self::{
    auth::{AuthError, key_hasher, tokens},
    backend::{Backend, Opened},
    cache::{CacheError, cache_config, limits_redis},
    listen::as_reached_from_here,
    reach::{Unusable, reach},
    reload::LoadedFrom,
};
use crate::{
    access::{Gate, GateConfig, Guarded},
    admin::{Admin, ReloadRequest, Reloads},
    app::{App, Shared},
    audit::AuditLog,
    cores::Cores,
    dashboard,
    health::{HealthMonitor, Stage},
    http::{self, Drained, LiveConfig, TcpListeners, Tls, TlsError, Traffic},
    limits::Limits,
    memory_watch::{self, MemoryReader, MemoryState, MemoryWatch},
    open_files::{HOW_TO_RAISE, OpenFiles, TooFewOpenFiles},
    response_memory::ResponseMemory,
    routes::{ROUTE_NAMES, Routes},
    settings::Settings,
    slow_statements,
    spans::{Exporter, Spans},
    systemd::{self, PassedSockets, supervise},
};

/// Why a service cannot be built. `Display` says what failed and why.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct StartError(#[from] Failure);

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("cannot listen on HOST {host:?}, PORT {port}: {error}")]
    Listen { host: String, port: u16, error: io::Error },
    #[error("cannot accept on the sockets of LISTEN_FDS: {0}")]
    PassedSockets(io::Error),
    #[error("TLS_CERT and TLS_KEY cannot be used: {0}")]
    Tls(#[from] TlsError),
    #[error("cannot start a thread for each of HTTP_CORES: {0}")]
    Cores(io::Error),
    #[error("cannot start the export of traces: {0}")]
    Exporter(io::Error),
    #[error("too few open files are allowed: {0}")]
    OpenFiles(#[from] TooFewOpenFiles),
    #[error("no database: {0}")]
    Database(#[from] DatabaseError),
    #[error("REDIS_URL cannot be used: {0}")]
    Redis(CacheError),
    #[error("no cache: {0}")]
    Cache(CacheError),
    #[error("cannot write to AUDIT_LOG: {0}")]
    Audit(io::Error),
    #[error("{0}")]
    Exposed(Exposed),
    #[error("requests cannot be authenticated: {0}")]
    Auth(#[from] AuthError),
}

/// Why a service ended by itself. `Display` says what failed and why.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct RunError(#[from] Ended);

#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error("the database cannot be used: {0}")]
    Database(#[from] Unusable),
    #[error("cannot start: the start ended early")]
    Start,
    #[error("a serving thread has ended")]
    Core,
}

/// The request to stop a service.
#[derive(Clone, Copy, Debug)]
pub struct Stop {
    /// The signal or other reason, for the log.
    pub reason: &'static str,
    /// The time between readiness answering 503 and the listeners closing. A load balancer needs it to notice.
    pub delay: Duration,
}

/// A service that listens. It accepts no connection before [`run`](Self::run).
pub struct Service {
    listeners: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    tls: Option<Tls>,
    http: LiveConfig,
    cores: Cores,
    database: Opened,
    /// One for each core.
    apps: Vec<App>,
    memory_watch: Option<MemoryWatch>,
    /// `None`: the settings were not loaded from sources, so there is nothing to read again.
    reloading: Option<(Reloader, mpsc::Receiver<ReloadRequest>)>,
    /// `None`: no traces are exported.
    exporter: Option<Exporter>,
    /// The limits that are shared, and the Redis through which they are.
    sharing: Option<(Arc<Limits>, RedisConfig)>,
    /// What the dashboard shows of the settings.
    about: dashboard::About,
}

/// What differs between a service of the command line and one of a test.
struct Surroundings {
    /// Sockets to accept on, instead of `HOST` and `PORT`.
    sockets: PassedSockets,
    /// Reads the memory; `None` watches none.
    memory: Option<Box<dyn MemoryReader>>,
    /// `None`: the settings cannot be reloaded.
    from: Option<LoadedFrom>,
    /// Where the log leaves spans.
    spans: Spans,
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

/// Binds the listeners, starts the threads that serve, and opens the pool over the database that the settings name. If
/// they name none, it starts a private PostgreSQL and waits for it. A database or a Redis that does not answer is no
/// error: [`Service::run`] waits for it.
///
/// # Errors
///
/// [`StartError`], after which nothing is left running.
///
/// # Cancel safety
///
/// A dropped future closes what it has opened.
pub async fn build(settings: Settings) -> Result<Service, StartError> {
    // Boxed, because it is large.
    Ok(Box::pin(compose(settings, Surroundings::default())).await?)
}

/// Like [`build`], but accepts on the sockets that systemd passed, if it passed any, and not on `HOST` and `PORT`; the
/// settings can be reloaded, and `spans` are exported.
pub(crate) async fn build_for_serve(
    settings: Settings,
    from: LoadedFrom,
    sockets: PassedSockets,
    spans: Spans,
) -> Result<Service, StartError> {
    let surroundings = Surroundings {
        sockets,
        from: Some(from),
        spans,
        ..Surroundings::default()
    };
    Ok(Box::pin(compose(settings, surroundings)).await?)
}

/// Opens only the pool over the database of the settings, on this runtime, for commands that serve nothing. A database
/// that does not answer is no error.
///
/// # Errors
///
/// [`StartError`], after which nothing is left running.
///
/// # Cancel safety
///
/// A dropped future closes what it has opened.
pub(crate) async fn open(settings: Settings) -> Result<Opened, StartError> {
    let opened = Opened::open(settings, &[Handle::current()]).await;
    Ok(opened.map_err(Failure::from)?)
}

/// Like [`build`], with another reader of the memory than the system's; `None` watches none. For tests.
///
/// # Errors
///
/// Those of [`build`].
///
/// # Cancel safety
///
/// As [`build`].
pub async fn build_with_memory(
    settings: Settings,
    reader: Option<Box<dyn MemoryReader>>,
) -> Result<Service, StartError> {
    let surroundings = Surroundings {
        memory: reader,
        ..Surroundings::default()
    };
    Ok(Box::pin(compose(settings, surroundings)).await?)
}

async fn compose(mut settings: Settings, surroundings: Surroundings) -> Result<Service, Failure> {
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

impl Service {
    /// The addresses it listens on. All have one port.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Asks for reloads of the settings.
    pub(crate) fn reloads(&self) -> Reloads {
        self.apps[0].admin.reloads().clone()
    }

    /// Waits for the database, brings the schema up to date, and serves until `stop` resolves; then drains.
    ///
    /// # Errors
    ///
    /// [`RunError`] if the database will never be usable, or a thread has panicked. Everything is closed then.
    ///
    /// # Cancel safety
    ///
    /// A dropped future stops accepting; requests in flight end with the threads that serve them.
    pub async fn run(self, stop: impl Future<Output = Stop>) -> Result<Drained, RunError> {
        // Health and pool are shared, so any core will do.
        let app = &self.apps[0];
        let watching = self.memory_watch.map(|watch| tokio::spawn(watch.run()));
        let sharing = self.sharing.map(|(limits, redis)| tokio::spawn(limits.share(redis)));
        let figures = self.about.dashboard(app);
        let sampling = tokio::spawn(dashboard::sample(app.clone(), self.about, figures.clone()));
        let supervising = tokio::spawn(supervise(app.clone(), self.cores.runtimes().to_vec()));
        let mut starting = tokio::spawn(readiness::get_ready(app.clone(), self.database.backend.clone()));
        let reloading = self
            .reloading
            .map(|(reloader, requests)| tokio::spawn(reloader.run(requests)));
        let following = app
            .auth
            .clone()
            .map(|auth| tokio::spawn(async move { auth.follow().await }));
        let (leave, left) = oneshot::channel();
        let leaving = async { left.await.unwrap_or(()) };
        let stopping = async {
            let Stop { reason, delay } = stop.await;
            app.health.enter(Stage::Draining);
            figures.end();
            systemd::stopping();
            // Fails if the service is ending for another reason.
            let _ = leave.send(());
            tracing::info!(signal = reason, "draining");
            sleep(delay).await;
        };
        let core = |(runtime, app): (&Handle, &App)| http::Core {
            runtime: runtime.clone(),
            service: Guarded {
                service: Routes::new(app.clone(), figures.clone()),
                gate: app.gate.clone(),
            },
        };
        let cores = self.cores.runtimes().iter().zip(&self.apps).map(core).collect();
        let Settings {
            proxy_protocol,
            trusted_proxies,
            ..
        } = &*self.database.backend.settings;
        let proxies = proxy_protocol.then(|| trusted_proxies.clone());
        let listeners = TcpListeners::from(self.listeners)
            .with_tls(self.tls)
            .with_proxies(proxies.unwrap_or_default());
        let ended = tokio::select! {
            drained = http::serve(listeners, cores, self.http, app.traffic.clone(), leaving, stopping) => Ok(drained),
            failed = &mut starting => Err(match failed {
                Ok(Err(error)) => Ended::Database(error),
                Ok(Ok(())) | Err(_) => Ended::Start,
            }),
            () = self.cores.lost() => Err(Ended::Core),
        };
        starting.abort();
        supervising.abort();
        sampling.abort();
        for task in [watching, sharing, reloading].into_iter().flatten() {
            task.abort();
        }
        if let (Some(following), Some(auth)) = (following, &app.auth) {
            following.abort();
            auth.close().await;
        }
        for app in &self.apps {
            app.store.abort();
            app.store.close().await;
        }
        self.database.close().await;
        if let Some(exporter) = self.exporter {
            exporter.stop().await;
        }
        self.cores.stop();
        Ok(ended?)
    }
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
