//! What the hooks do: to a new session, before and after each use, and before a close.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use cenote_postgres::{Config, Connection, Decision, Error, Hooks, Pool, Reason, Reset, Retired};

use crate::support::{SOON, connecting::refused, database, give_up_after, until};

const SETUP: &str = "SET search_path = shop; SET TimeZone = 'Asia/Tokyo'";

/// A fresh database, for hooks that may take as long as a busy machine needs.
async fn patient(max_size: u32) -> Config {
    let mut config = database().await.config(max_size);
    (config.pool.check_timeout, config.pool.close_timeout) = (SOON, SOON);
    config
}

/// A pool of one connection whose sessions begin with these commands, and how often they began.
async fn pool(setup: &'static str, change: impl FnOnce(&mut Config)) -> (Pool, Arc<AtomicU32>) {
    let mut config = database().await.config(1);
    let begun = Arc::new(AtomicU32::new(0));
    let count = begun.clone();
    let hooks = Hooks::default().after_connect(move |connection| {
        count.fetch_add(1, Relaxed);
        Box::pin(async move { connection.batch_execute(setup).await })
    });
    change(&mut config);
    (Pool::with_hooks(config, hooks).unwrap(), begun)
}

async fn setting(connection: &Connection, name: &str) -> String {
    let row = connection
        .query_one("SELECT current_setting($1)", &[&name])
        .await
        .unwrap();
    row.get(0)
}

#[tokio::test]
async fn every_user_finds_the_session_that_the_hook_made_and_a_clean_return_stays_free() {
    let (pool, begun) = pool(SETUP, |_| {}).await;
    for _ in 0..5 {
        let connection = pool.get().await.unwrap();
        assert_eq!(setting(&connection, "search_path").await, "shop");
        assert_eq!(setting(&connection, "TimeZone").await, "Asia/Tokyo");
    }
    assert_eq!(begun.load(Relaxed), 1);
    let stats = pool.stats().pool;
    assert_eq!((stats.connects, stats.cleaned), (1, 0));
}

#[tokio::test]
async fn what_a_user_changes_is_undone_and_the_hook_runs_again() {
    let (pool, begun) = pool(SETUP, |_| {}).await;
    let connection = pool.get().await.unwrap();
    connection
        .batch_execute("SET search_path = other; SET work_mem = '1MB'")
        .await
        .unwrap();
    drop(connection);
    let connection = pool.get().await.unwrap();
    assert_eq!(setting(&connection, "search_path").await, "shop");
    assert_ne!(setting(&connection, "work_mem").await, "1MB");
    assert_eq!(begun.load(Relaxed), 2);
    assert_eq!(pool.stats().pool.connects, 1);
}

#[tokio::test]
async fn a_rollback_alone_does_not_run_it_again() {
    let (pool, begun) = pool(SETUP, |_| {}).await;
    let connection = pool.get().await.unwrap();
    connection.batch_execute("BEGIN").await.unwrap();
    drop(connection);
    let connection = pool.get().await.unwrap();
    assert_eq!(setting(&connection, "search_path").await, "shop");
    assert_eq!((begun.load(Relaxed), pool.stats().pool.cleaned), (1, 1));
}

#[tokio::test]
async fn with_a_reset_at_every_return_it_runs_at_every_return() {
    let (pool, begun) = pool(SETUP, |config| config.reset = Reset::Always).await;
    for round in 1..=3 {
        let connection = pool.get().await.unwrap();
        assert_eq!(setting(&connection, "search_path").await, "shop");
        drop(connection);
        until("it ran again", async || begun.load(Relaxed) == round + 1).await;
    }
}

#[tokio::test]
async fn a_hook_that_fails_or_leaves_a_transaction_open_fails_the_connect_and_says_so() {
    for (setup, words) in [
        ("SET ROLE nobody_of_this_name", "the session could not be set up: ERROR"),
        ("BEGIN", "the session could not be set up: it left a transaction open"),
        ("DEALLOCATE ALL", "the session could not be set up: it deallocated"),
    ] {
        let (pool, _) = pool(setup, |config| config.pool.acquire_timeout = Duration::from_secs(2)).await;
        let said = refused(pool.get().await).to_string();
        assert!(said.contains(words), "{said}");
        assert_eq!(pool.stats().last_connect_error, Some("the session could not be set up"));
    }
}

tokio::task_local! {
    static TENANT: &'static str;
}

/// Hooks that set the tenant of the caller's task in its session.
fn by_tenant() -> Hooks {
    Hooks::default().before_acquire(|connection, _| {
        Box::pin(async move {
            let tenant = TENANT.try_with(|tenant| *tenant).unwrap_or("nobody");
            let set = "SELECT set_config('app.tenant', $1, false)";
            connection.execute(set, &[&tenant]).await?;
            Ok(Decision::Keep)
        })
    })
}

async fn tenant(pool: &Pool) -> String {
    let row = pool.query_one("SELECT current_setting('app.tenant')", &[]).await;
    row.unwrap().get(0)
}

#[tokio::test]
async fn each_caller_finds_what_the_hook_before_its_acquire_has_set_and_no_more() {
    let mut config = patient(1).await;
    let begun = Arc::new(AtomicU32::new(0));
    let count = begun.clone();
    config.reset = Reset::WhenDirty;
    let hooks = by_tenant().after_connect(move |connection| {
        count.fetch_add(1, Relaxed);
        Box::pin(async move { connection.batch_execute(SETUP).await })
    });
    let pool = Pool::with_hooks(config, hooks).unwrap();
    for one in ["blue", "green"] {
        assert_eq!(TENANT.scope(one, tenant(&pool)).await, one);
    }
    assert_eq!(tenant(&pool).await, "nobody");
    let connection = pool.get().await.unwrap();
    assert_eq!(
        setting(&connection, "search_path").await,
        "shop",
        "what after_connect has set stays"
    );
    assert_eq!(pool.stats().pool.connects, 1);
    assert_eq!(begun.load(Relaxed), 4, "once for each reset");
}

#[tokio::test]
async fn a_caller_dropped_at_any_await_of_the_hook_leaves_nothing_of_it_to_the_next() {
    let pool = Pool::with_hooks(patient(1).await, by_tenant()).unwrap();
    let mut polls = 0;
    loop {
        polls += 1;
        let served = give_up_after(polls, TENANT.scope("dropped", pool.get())).await;
        let done = served.is_some();
        drop(served);
        let bare = pool.query_one("SELECT current_setting('app.tenant')", &[]);
        let row = TENANT.scope("next", bare).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), "next");
        if done {
            break;
        }
    }
    assert!(polls > 2, "it was never dropped in the hook");
}

#[tokio::test]
async fn an_error_of_the_hook_before_an_acquire_reaches_its_caller_alone() {
    let fails = Arc::new(AtomicU32::new(0));
    let left = fails.clone();
    let hooks = Hooks::default().before_acquire(move |connection, _| {
        let fail = left.load(Relaxed) == 1;
        Box::pin(async move {
            if fail {
                connection.batch_execute("SET ROLE nobody_of_this_name").await?;
            }
            Ok(Decision::Keep)
        })
    });
    let pool = Pool::with_hooks(patient(1).await, hooks).unwrap();
    pool.query("SELECT 1", &[]).await.unwrap();
    fails.store(1, Relaxed);
    let error = pool.query("SELECT 1", &[]).await.unwrap_err();
    fails.store(0, Relaxed);
    let Error::Acquire(refused) = &error else {
        panic!("{error:?}");
    };
    assert_eq!(refused.reason(), Reason::Rejected);
    assert!(error.to_string().contains("before_acquire: ERROR: role"), "{error}");
    assert!(!error.public().contains("role"), "{}", error.public());
    pool.query("SELECT 1", &[]).await.unwrap();
    assert_eq!(pool.stats().pool.retired(Retired::Broken), 1);
}

#[tokio::test]
async fn the_hook_after_a_release_finds_a_clean_session_and_its_own_limit_and_leaves_nothing() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = seen.clone();
    let hooks = Hooks::default().after_release(move |connection, info| {
        let note = note.clone();
        Box::pin(async move {
            let limit = connection.command_timeout();
            let asked = "SELECT current_setting('work_mem'), pg_current_xact_id_if_assigned()::text";
            let row = connection.query_one(asked, &[]).await?;
            let found = (row.get::<_, String>(0), row.get::<_, Option<String>>(1));
            note.lock().unwrap().push((found, limit, info.uses, info.peer));
            connection.batch_execute("SET work_mem = '3MB'").await?;
            Ok(Decision::Keep)
        })
    });
    let mut config = patient(1).await;
    config.command_timeout = Some(SOON);
    let pool = Pool::with_hooks(config, hooks).unwrap();
    let usual = setting(&pool.get().await.unwrap(), "work_mem").await;
    let connection = pool.get().await.unwrap();
    connection.set_command_timeout(Some(Duration::from_millis(1)));
    let host = connection.host().to_owned();
    connection
        .client()
        .batch_execute("SET work_mem = '1MB'; BEGIN; SELECT pg_current_xact_id()")
        .await
        .unwrap();
    drop(connection);
    let connection = pool.get().await.unwrap();
    assert_eq!(setting(&connection, "work_mem").await, usual);
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    assert_eq!(seen.len(), 2);
    for (at, (found, limit, uses, peer)) in seen.into_iter().enumerate() {
        assert_eq!((found, limit), ((usual.clone(), None), Some(SOON)), "use {at}");
        assert_eq!((uses, peer.as_deref()), (at as u64 + 1, Some(&*host)));
    }
    assert_eq!(pool.stats().pool.connects, 1);
}

#[tokio::test]
async fn the_hook_on_a_close_learns_the_reason_and_can_still_send_a_command() {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher.run("CREATE TABLE closed (why text)").await;
    let hooks = Hooks::default().on_close(|connection, _, reason| {
        Box::pin(async move {
            let why = format!("{reason:?}");
            let noted = connection.execute("INSERT INTO closed VALUES ($1)", &[&why]).await;
            assert!(noted.is_ok() || reason == Retired::Broken, "{noted:?}");
        })
    });
    let mut config = database.config(2);
    config.pool.close_timeout = SOON;
    let pool = Pool::with_hooks(config, hooks).unwrap();
    drop(pool.get().await.unwrap());
    assert_eq!(pool.retain(|_, _| false), 1);
    drop(pool.get().await.unwrap());
    pool.replace_all();
    let killed = pool.get().await.unwrap();
    watcher.terminate(killed.process_id()).await;
    killed.query("SELECT 1", &[]).await.unwrap_err();
    drop(killed);
    drop(pool.get().await.unwrap());
    pool.close().await;
    let why = "SELECT count(*) FROM closed WHERE why = $1";
    for reason in ["Discarded", "Replaced", "Closed"] {
        assert_eq!(watcher.number(why, &[&reason]).await, 1, "{reason}");
    }
    assert_eq!(watcher.rows_of("closed").await, 3);
}

#[tokio::test]
async fn a_detached_connection_works_on_outside_the_pool_until_its_owner_closes_it() {
    let database = database().await;
    let watcher = database.watcher().await;
    let pool = database.pool(1);
    let own = pool.get().await.unwrap().detach();
    let other = pool.get().await.unwrap();
    assert_ne!(other.process_id(), own.process_id());
    assert_eq!(pool.stats().pool.retired(Retired::Detached), 1);
    own.query("SELECT 1", &[]).await.unwrap();
    let process_id = own.process_id();
    own.close().await;
    watcher.sees_gone(process_id).await;
}

#[tokio::test]
async fn replacing_all_opens_new_sessions_and_costs_no_caller_an_error() {
    let pool = database().await.pool(2);
    let held = pool.get().await.unwrap();
    let before = [held.process_id(), pool.get().await.unwrap().process_id()];
    pool.replace_all();
    held.query("SELECT 1", &[]).await.unwrap();
    drop(held);
    for _ in 0..2 {
        let connection = pool.get().await.unwrap();
        assert!(!before.contains(&connection.process_id()));
        assert_eq!(connection.info().peer.as_deref(), Some(connection.host()));
    }
    assert_eq!(pool.stats().pool.retired(Retired::Replaced), 2);
}
