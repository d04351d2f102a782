//! `cenote serve`: from settings to a running service and back.
//!
//! Invariant: on SIGTERM or SIGHUP `/health/ready` turns 503 first, then the listener closes, requests in flight finish,
//! the pool closes, a private database stops, and last the threads that served.

use std::{process::ExitCode, time::Duration};

use cenote_cache::RedisProblemKind;
use cenote_postgres::Pool;
use tokio::{
    runtime::Handle,
    sync::oneshot,
    time::{Instant, sleep},
};

use super::{
    Database, block_on,
    cache::{CacheError, beside_pool, check_limit, has_feed, migration, stores, try_redis},
    fail,
    listen::{describe, listen},
    reach::{self, Unusable},
    signals::{Ending, Signals},
    warn,
};
use crate::{
    app::App,
    cores::Cores,
    health::Stage,
    http::{self, HttpConfig},
    open_files::{HOW_TO_RAISE, OpenFiles, TooFewOpenFiles},
    output,
    response_memory::ResponseMemory,
    routes::Routes,
    settings::{CacheMode, HttpSettings, Loaded, Migrate, Settings},
    store::requirements,
    telemetry,
};

/// Pause between tries to bring the schema up to date at the start, and between warnings that it does not succeed.
const TRY_AGAIN: Duration = Duration::from_millis(500);
const SAY_AGAIN: Duration = Duration::from_secs(5);

pub(super) fn run(loaded: Loaded) -> ExitCode {
    warn(&loaded.warnings);
    telemetry::init(&loaded.settings.log);
    block_on(serve(loaded.settings))
}

async fn serve(settings: Settings) -> ExitCode {
    let signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return fail("cannot receive signals", &error),
    };
    // First what fails for good: a port that is taken.
    let HttpSettings { host, port, .. } = &settings.http;
    let listeners = match listen(host, *port).await {
        Ok(listeners) => listeners,
        Err(error) => {
            return fail(&format!("cannot listen on HOST {host:?}, PORT {port}"), &error);
        }
    };
    let addresses: Vec<_> = listeners.iter().filter_map(|it| it.local_addr().ok()).collect();
    let cores = match Cores::start(settings.http.cores) {
        Ok(cores) => cores,
        Err(error) => return fail("cannot start a thread for each of HTTP_CORES", &error),
    };
    let most_clients = match most_clients(&settings, cores.runtimes().len()) {
        Ok(most) => most,
        Err(error) => return fail("too few open files are allowed", &error),
    };
    let opening = Database::open(&settings, cores.runtimes());
    let (database, redis) = tokio::join!(opening, redis_suits(&settings));
    let database = match database {
        Ok(database) => database,
        Err(error) => return fail("no database", &error),
    };
    if let Err(error) = redis {
        database.close().await;
        return fail("REDIS_URL cannot be used", &error);
    }
    let stores = match stores(&database, &settings) {
        Ok(stores) => stores,
        Err(error) => {
            database.close().await;
            return fail("no cache", &error);
        }
    };
    let feed = has_feed(&settings);
    let memory = ResponseMemory::new(settings.http.answer_memory);
    let apps = App::per_runtime(&database.pool, stores, settings.cache.mode, feed, &memory);
    tracing::info!(
        min = settings.pool.min,
        max = settings.pool.max,
        overflow = settings.pool.overflow,
        timeout = settings.pool.timeout.as_secs_f64(),
        "pool initialized"
    );
    if let Some(address) = addresses.first() {
        tracing::info!(%address, "{}", describe(&addresses));
    }

    // Whichever core's: what these two ask for is the same for all.
    let app = &apps[0];
    let mut starting = tokio::spawn(start(app.clone(), settings.clone()));
    let mut config = http_config(&settings);
    config.max_connections = most_clients;
    let (leave, left) = oneshot::channel();
    let leaving = async { left.await.unwrap_or(()) };
    let stopping = stop(app.clone(), leave, settings.shutdown.delay, signals);
    let core = |(runtime, app): (&Handle, &App)| http::Core {
        runtime: runtime.clone(),
        service: Routes::new(app.clone()),
    };
    let serving = cores.runtimes().iter().zip(&apps).map(core).collect();
    let serving = http::serve(listeners, serving, config, leaving, stopping);
    tokio::pin!(serving);
    let drained = tokio::select! {
        drained = &mut serving => Some(drained),
        failed = &mut starting => {
            match failed {
                Ok(Err(error)) => fail("the database cannot be used", &error),
                Ok(Ok(())) | Err(_) => fail("cannot start", &"the start ended early"),
            };
            None
        }
        () = cores.lost() => {
            fail("cannot go on", &"a thread that serves has ended");
            None
        }
    };
    starting.abort();
    for app in &apps {
        app.store.abort();
        app.store.close().await;
    }
    database.close().await;
    cores.stop();
    match drained {
        None => ExitCode::FAILURE,
        Some(drained) => {
            let http::Drained { finished, cut } = drained;
            tracing::info!(finished, cut, "stopped");
            ExitCode::SUCCESS
        }
    }
}

/// Refuses a URL that asks for what the server is not. Any other problem does not keep the service from its work: the
/// cache says what it is, and uses Redis once it is over.
async fn redis_suits(settings: &Settings) -> Result<(), CacheError> {
    match try_redis(settings).await {
        Err(error) if error.redis().is_some_and(|it| it.kind() != RedisProblemKind::Mismatch) => Ok(()),
        tried => tried,
    }
}

/// How many clients there may be at a time: `HTTP_MAX_CONNECTIONS`, as far as the limit of open files allows.
fn most_clients(settings: &Settings, cores: usize) -> Result<usize, TooFewOpenFiles> {
    let wanted = settings.http.max_connections;
    let beside = usize::try_from(beside_pool(settings)).unwrap_or(usize::MAX);
    let descriptors = OpenFiles::prepare(settings, beside, cores);
    let most = descriptors.clients(wanted)?;
    if most < wanted {
        let OpenFiles { limit, open, kept } = descriptors;
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

/// Waits for the database and sees to its schema, as long as it takes. An error is one that will not pass.
async fn start(app: App, settings: Settings) -> Result<(), Unusable> {
    let mut said: Option<Instant> = None;
    while let Err(error) = see_to_schema(&app, &settings).await {
        if error.is_permanent() {
            return Err(error);
        }
        if said.is_none_or(|said| said.elapsed() >= SAY_AGAIN) {
            tracing::warn!(%error, "the database cannot be used yet; trying again");
            app.health.waits_for(error.shown());
            said = Some(Instant::now());
        }
        sleep(TRY_AGAIN).await;
    }
    app.health.waits_for(None);
    warn_if_not_durable(&app.pool, &settings).await;
    warn_if_too_many_connections(&app.pool, &settings).await;
    if let Err(problem) = check_limit(&app.pool, &settings).await {
        tracing::warn!("{problem}");
    }
    let is_standby = is_standby(&app.pool, &settings).await;
    let get_ready = async {
        // Nobody can listen on a standby.
        app.store.ready(app.has_feed && !is_standby).await;
        app.health.enter(Stage::Running);
        tracing::info!("ready");
    };
    // The task's end means that the start failed, so a successful one has none.
    let follow = async {
        match app.has_feed {
            true => app.store.follow_changes().await,
            false => std::future::pending().await,
        }
    };
    tokio::join!(get_ready, follow);
    Ok(())
}

/// Whether the server is a standby; warns of what the cache cannot promise there.
async fn is_standby(pool: &Pool, settings: &Settings) -> bool {
    let sql = "SELECT pg_is_in_recovery()";
    let asked = async { pool.get().await?.query_one(sql, &[]).await };
    let asked: Result<_, cenote_postgres::Error> = asked.await;
    let is_standby = match asked {
        Ok(row) => row.get(0),
        Err(error) => {
            tracing::warn!(%error, "cannot ask whether the database is a standby");
            false
        }
    };
    if is_standby && (settings.cache.mode == CacheMode::Local || has_feed(settings)) {
        tracing::warn!(
            "the database is a standby, whose changes are not seen here: what CACHE_MODE=local keeps may be as old as \
             CACHE_TTL, and CACHE_FEED=notify works only once it is promoted; set CACHE_MODE=off for fresh answers"
        );
    }
    is_standby
}

async fn see_to_schema(app: &App, settings: &Settings) -> Result<(), Unusable> {
    reach::reach(&app.pool, None).await?;
    let migration = migration(settings);
    match settings.migrate {
        Migrate::Off => {}
        Migrate::Check => migration.check(&app.pool).await?,
        Migrate::Auto => {
            let waiting = reach::InLogAndHealth(&app.health);
            let added = migration.run(&app.pool, &waiting, None).await?;
            if !added.is_empty() {
                tracing::info!(added = added.join(", "), "schema migrated");
            }
        }
    }
    Ok(())
}

/// Once: the setting may be intended.
async fn warn_if_not_durable(pool: &Pool, settings: &Settings) {
    let lossy = match pool.get().await {
        Ok(connection) => requirements::durability(connection.client(), &settings.schema).await,
        Err(_) => return,
    };
    match lossy {
        Ok(lossy) if lossy.is_empty() => {}
        Ok(lossy) => tracing::warn!("writes that are answered may be lost: {}", lossy.join("; ")),
        Err(error) => tracing::warn!(%error, "cannot ask whether writes are durable"),
    }
}

async fn warn_if_too_many_connections(pool: &Pool, settings: &Settings) {
    let beside = beside_pool(settings);
    match pool.check_capacity(instances(settings), beside).await {
        Ok(capacity) if !capacity.fits() => tracing::warn!(
            wanted = capacity.wanted,
            available = capacity.available(),
            limit = capacity.limit(),
            "INSTANCES × (DB_POOL_MAX_SIZE + DB_POOL_MAX_OVERFLOW + {beside} for the cache) is more than {} leaves for \
             ordinary users",
            capacity.limit()
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "cannot ask for the server's max_connections"),
    }
}

/// Processes like this one that share the server.
pub(super) fn instances(settings: &Settings) -> u32 {
    u32::try_from(settings.instances).unwrap_or(u32::MAX)
}

fn http_config(settings: &Settings) -> HttpConfig {
    let http = &settings.http;
    HttpConfig {
        max_connections: http.max_connections,
        max_body: http.max_body as u64,
        first_byte_timeout: http.header_timeout,
        head_timeout: http.header_timeout,
        body_timeout: http.body_timeout,
        idle_timeout: http.idle_timeout,
        drain_timeout: settings.shutdown.timeout,
        ..HttpConfig::default()
    }
}

/// Completes when the listener is to close; `leave` is told when connections are to be closed by their answers. A second
/// signal ends the process at once.
async fn stop(app: App, leave: oneshot::Sender<()>, delay: Duration, mut signals: Signals) {
    let first = signals.first().await;
    app.health.enter(Stage::Draining);
    // Nobody listens any more if the service is ending for another reason.
    let _ = leave.send(());
    tracing::info!(signal = first.name(), "draining");
    tokio::spawn(async move {
        signals.second().await;
        output::flush();
        std::process::exit(130);
    });
    // A load balancer needs a moment to notice; someone at a terminal does not want to wait for it.
    if first != Ending::Interrupt {
        sleep(delay).await;
    }
}
