//! Makes a service that listens ready.
//!
//! Invariant: the service becomes ready only after the schema is as `MIGRATE` demands, and after the cache knows its epoch
//! or has waited for it.

use std::time::Duration;

use cenote_postgres::{Error, Pool};
use tokio::time::{Instant, sleep};

use super::{
    backend::Backend,
    reach::{InLogAndHealth, Unusable, reach},
};
use crate::{
    app::App,
    health::Stage,
    settings::Settings,
    store::{CacheMode, Migrate, requirements},
    systemd,
};

/// Pause between attempts to bring the schema up to date, and between warnings that it failed.
const TRY_AGAIN: Duration = Duration::from_millis(500);
const SAY_AGAIN: Duration = Duration::from_secs(5);

/// Waits for the database, brings the schema up to date, enters [`Stage::Running`], and then follows the change feed.
/// Returns only with a permanent error.
pub(super) async fn get_ready(app: App, backend: Backend) -> Result<(), Unusable> {
    let mut said: Option<Instant> = None;
    while let Err(error) = prepare_schema(&app, &backend).await {
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
    backend
        .create_first_key(backend.settings.auth.bootstrap_key.as_deref())
        .await;
    warn_if_not_durable(&app.pool, &backend.settings).await;
    check_connections(&app, &backend).await;
    if let Err(problem) = backend.check_statement_limit().await {
        tracing::warn!("{problem}");
    }
    let is_standby = is_standby(&app.pool, &backend.settings).await;
    let enter = async {
        // A standby refuses LISTEN.
        app.store.ready(app.has_feed && !is_standby).await;
        app.health.enter(Stage::Running);
        systemd::ready();
        tracing::info!("ready");
    };
    // The end of the task means that the start failed, so a successful start must not end.
    let follow = async {
        match app.has_feed {
            true => app.store.follow_changes().await,
            false => std::future::pending().await,
        }
    };
    tokio::join!(enter, follow);
    Ok(())
}

/// Waits for the database, then does what `MIGRATE` says.
async fn prepare_schema(app: &App, backend: &Backend) -> Result<(), Unusable> {
    reach(&app.pool, None).await?;
    let migration = backend.migration();
    match backend.settings.migrate {
        Migrate::Off => {}
        Migrate::Check => migration.check(&app.pool).await?,
        Migrate::Auto => {
            let waiting = InLogAndHealth(&app.health);
            let added = migration.run(&app.pool, &waiting, None).await?;
            if !added.is_empty() {
                tracing::info!(added = added.join(", "), "schema migrated");
            }
        }
    }
    Ok(())
}

/// Warns if the server may lose commits. Only a warning, because the operator may accept that.
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

/// Notes how many connections the server allows, for the metrics. Warns if those of all instances exceed it.
async fn check_connections(app: &App, backend: &Backend) {
    let capacity = backend.capacity().await;
    if let Ok(capacity) = &capacity {
        // Fails only at a second start, which does not exist.
        let _known = app.connection_limit.set(capacity.available());
    }
    match capacity {
        Ok(capacity) if !capacity.fits() => tracing::warn!(
            wanted = capacity.wanted,
            available = capacity.available(),
            limit = capacity.limit(),
            "INSTANCES × (DB_POOL_MAX_SIZE + DB_POOL_MAX_OVERFLOW + {} beside the pool) is more than {} leaves for \
             ordinary users",
            backend.beside_pool(),
            capacity.limit()
        ),
        Ok(_) => {}
        Err(error) => tracing::warn!(%error, "cannot ask for the server's max_connections"),
    }
}

/// Returns whether the server is a standby. Warns if the cache is weaker there.
async fn is_standby(pool: &Pool, settings: &Settings) -> bool {
    let sql = "SELECT pg_is_in_recovery()";
    let asked = async { pool.get().await?.query_one(sql, &[]).await };
    let asked: Result<_, Error> = asked.await;
    let is_standby = match asked {
        Ok(row) => row.get(0),
        Err(error) => {
            tracing::warn!(%error, "cannot ask whether the database is a standby");
            false
        }
    };
    if is_standby && (settings.cache_mode == CacheMode::Local || settings.change_feed) {
        tracing::warn!(
            "the database is a standby, whose changes are not seen here: what CACHE_MODE=local keeps may be as old as \
             CACHE_TTL, and CACHE_FEED=notify works only once it is promoted; set CACHE_MODE=off for fresh answers"
        );
    }
    is_standby
}
