//! Break, error, restore, success: what callers see while the server is down, and that everything works afterwards.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use cenote_postgres::{Config, Error, Pool, Retired};
use tokio::{
    runtime::{Builder, Handle},
    sync::{mpsc, oneshot},
    task::JoinSet,
    time::{Instant, timeout},
};

use crate::support::{SLACK, SOON, connecting::refusal, database, database_on, server, until, until_ok};

async fn one(pool: &Pool) -> i32 {
    let connection = timeout(SOON, pool.get()).await.unwrap().unwrap();
    let row = connection.query_one("SELECT 1", &[]).await.unwrap();
    row.get(0)
}

#[tokio::test]
async fn a_killed_server_costs_only_what_was_running_and_the_next_caller_waits_for_its_return() {
    let server = server().await;
    let database = database_on(&server).await;
    let watcher = database.watcher().await;
    watcher.run("CREATE TABLE entry (id int)").await;
    let pool = database.pool(4);
    let mut running = Vec::new();
    for id in 0..4 {
        let connection = pool.get_owned().await.unwrap();
        let process_id = connection.process_id();
        running.push(tokio::spawn(async move {
            let sql = format!("INSERT INTO entry SELECT {id} FROM pg_sleep(60)");
            connection.execute(&sql, &[]).await
        }));
        watcher.sees_running(process_id, "pg_sleep").await;
    }
    server.kill().await.unwrap();
    for command in running {
        let error = timeout(SOON, command).await.unwrap().unwrap().unwrap_err();
        assert!(matches!(error, Error::Lost { .. }), "{error:?}");
        assert!(error.is_outcome_unknown());
    }

    let error = refusal(&pool).await.to_string();
    assert!(error.contains("cannot reach 127.0.0.1"), "{error}");

    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { one(&pool).await }
    });
    until("the caller waits", async || pool.stats().pool.waiting == 1).await;
    let failures = || pool.stats().pool.connect_failures;
    let before = failures();
    until("another connect fails", async || failures() > before).await;
    assert!(!waiting.is_finished(), "there is nothing to connect to");
    server.restart().await.unwrap();
    assert_eq!(timeout(SOON, waiting).await.unwrap().unwrap(), 1);
    assert_eq!(pool.stats().last_connect_error, None);
    assert_eq!(database.watcher().await.rows_of("entry").await, 0);
}

#[tokio::test]
async fn a_commit_cut_off_by_a_crash_is_reported_as_unknown() {
    let server = server().await;
    let database = database_on(&server).await;
    let watcher = database.watcher().await;
    // A deferred trigger keeps the commit busy.
    watcher
        .run(
            "CREATE TABLE entry (id int);
             CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS
                 'BEGIN PERFORM pg_sleep(60); RETURN NULL; END';
             CREATE CONSTRAINT TRIGGER slow AFTER INSERT ON entry
                 DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION wait()",
        )
        .await;
    let pool = database.pool(1);
    let mut connection = pool.get_owned().await.unwrap();
    let process_id = connection.process_id();
    let commit = tokio::spawn(async move {
        let transaction = connection.transaction().await?;
        let insert = "INSERT INTO entry VALUES (1)";
        transaction.execute(insert, &[]).await?;
        transaction.commit().await
    });
    watcher.sees_running(process_id, "COMMIT").await;
    server.kill().await.unwrap();
    let error = timeout(SOON, commit).await.unwrap().unwrap().unwrap_err();
    assert!(error.is_outcome_unknown(), "{error:?}");
    server.restart().await.unwrap();
    assert_eq!(one(&pool).await, 1);
}

#[tokio::test]
async fn a_session_terminated_while_idle_is_never_handed_out() {
    let database = database().await;
    let watcher = database.watcher().await;
    let pool = database.pool(3);
    for round in 0..20 {
        let all = [
            pool.get().await.unwrap(),
            pool.get().await.unwrap(),
            pool.get().await.unwrap(),
        ];
        let ended = all[round % 3].process_id();
        drop(all);
        watcher.terminate(ended).await;
        watcher.sees_gone(ended).await;
        for _ in 0..3 {
            let connection = pool.get().await.unwrap();
            assert_ne!(connection.process_id(), ended);
            connection.query("SELECT 1", &[]).await.unwrap();
        }
    }
    assert_eq!(pool.stats().errors, 0);
}

/// A runtime on another thread; it ends when the sender is dropped.
fn another_core() -> (Handle, mpsc::Sender<()>) {
    let (stop, mut stopped) = mpsc::channel(1);
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let handle = runtime.handle().clone();
    std::thread::spawn(move || runtime.block_on(stopped.recv()));
    (handle, stop)
}

#[tokio::test]
async fn a_session_that_ended_unseen_by_the_core_it_lives_on_is_not_handed_out_on_another() {
    let database = database().await;
    let watcher = database.watcher().await;
    let (core, _stop) = another_core();
    let homes = vec![core.clone(), Handle::current()];
    let pool = Pool::on_runtimes(database.config(2), homes).unwrap();
    let [there, here] = pool.per_runtime().collect::<Vec<_>>().try_into().unwrap();
    let opened = core.spawn(async move { there.get().await.unwrap().process_id() });
    let ended = opened.await.unwrap();
    // As long as the session lives, it is used on this runtime too.
    assert_eq!(here.get().await.unwrap().process_id(), ended);
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (busy, is_busy) = oneshot::channel();
    core.spawn(async move {
        busy.send(()).unwrap();
        held.recv().unwrap_err();
    });
    is_busy.await.unwrap();
    watcher.terminate(ended).await;
    watcher.sees_gone(ended).await;
    let connection = timeout(SOON, here.get()).await.unwrap().unwrap();
    assert_ne!(connection.process_id(), ended);
    connection.query("SELECT 1", &[]).await.unwrap();
    assert_eq!(pool.stats().errors, 0);
    assert_eq!(pool.stats().pool.retired(Retired::Broken), 1);
    drop(release);
}

#[tokio::test]
async fn a_session_terminated_while_busy_is_lost_and_says_why() {
    let database = database().await;
    let watcher = database.watcher().await;
    let pool = database.pool(1);
    let connection = pool.get().await.unwrap();
    let process_id = connection.process_id();
    let (ended, ()) = tokio::join!(connection.query("SELECT pg_sleep(60)", &[]), async {
        watcher.sees_running(process_id, "pg_sleep").await;
        watcher.terminate(process_id).await;
    });
    let error = ended.unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error:?}");
    let said = error.to_string();
    assert!(said.contains("administrator command"), "{said}");
    // The next command is not even sent.
    let error = connection.query("SELECT 1", &[]).await.unwrap_err();
    assert!(matches!(error, Error::Disconnected { .. }), "{error:?}");
    assert!(error.is_retryable() && !error.is_outcome_unknown());
    drop(connection);
    assert_eq!(one(&pool).await, 1);
    assert_eq!(pool.stats().pool.retired(Retired::Broken), 1);
}

#[tokio::test]
async fn a_frozen_server_means_timeouts_within_their_bounds_and_works_after_the_thaw() {
    let server = server().await;
    let database = database_on(&server).await;
    let (command, acquire) = (Duration::from_secs(1), Duration::from_millis(1500));
    let mut config = database.config(2);
    config.command_timeout = Some(command);
    config.pool.acquire_timeout = acquire;
    let pool = Pool::new(config).unwrap();
    assert_eq!(one(&pool).await, 1);

    server.freeze().await.unwrap();
    let connection = pool.get().await.unwrap();
    let started = Instant::now();
    let error = connection.query("SELECT 1", &[]).await.unwrap_err();
    assert!(matches!(error, Error::Timeout(_)), "{error:?}");
    assert!(started.elapsed() < command + SLACK);
    drop(connection);
    // More callers than connections: each gets an answer.
    let callers = (0..6).map(|_| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let started = Instant::now();
            let refused = pool.get().await.is_err();
            (refused, started.elapsed())
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        let (refused, waited) = timeout(SOON, caller).await.unwrap().unwrap();
        assert!(refused, "a connection from a server that does not answer");
        assert!(waited < acquire + SLACK, "{waited:?}");
    }

    server.thaw().await.unwrap();
    let connection = until_ok("a connection", async || pool.get().await).await;
    connection.query("SELECT 1", &[]).await.unwrap();
}

/// The server answers a cancel request only after the thaw.
#[tokio::test]
async fn a_cancel_the_server_did_not_confirm_keeps_its_connection_from_further_use() {
    let server = server().await;
    let database = database_on(&server).await;
    let mut config = database.config(1);
    config.command_timeout = Some(Duration::from_secs(1));
    config.pool.close_timeout = Duration::from_millis(500);
    let pool = Pool::new(config).unwrap();
    let connection = pool.get().await.unwrap();
    let process_id = connection.process_id();
    connection.query("SELECT 1", &[]).await.unwrap();
    server.freeze().await.unwrap();
    connection.query("SELECT 1", &[]).await.unwrap_err();
    let error = connection.query("SELECT 1", &[]).await.unwrap_err();
    assert!(matches!(error, Error::Disconnected { .. }), "{error:?}");
    server.thaw().await.unwrap();
    let refuses = async || {
        let again = connection.query("SELECT pg_sleep(0.01)", &[]).await;
        assert!(matches!(again, Err(Error::Disconnected { .. })), "{again:?}");
    };
    // The server ends the command or the session, by the cancel request or without it.
    let watcher = database.watcher().await;
    until("the server has nothing left to cancel", async || {
        refuses().await;
        let activity = watcher.activity(process_id).await;
        activity.is_none_or(|(state, _)| state == "idle")
    })
    .await;
    refuses().await;
    drop(connection);
    let connection = pool.get().await.unwrap();
    assert_ne!(connection.process_id(), process_id);
    connection.query("SELECT 1", &[]).await.unwrap();
}

#[tokio::test]
async fn too_many_connections_are_named_as_the_reason_and_the_pool_recovers() {
    let server = cenote_local::PostgresServer::temporary()
        .setting("max_connections", "6")
        .setting("max_wal_senders", "0")
        .start()
        .await
        .unwrap();
    let database = database_on(&server).await;
    let mut others = Vec::new();
    for _ in 0..6 {
        others.push(database.watcher().await);
    }
    let pool = database.pool(2);
    let error = refusal(&pool).await.to_string();
    assert!(error.contains("too many clients"), "{error}");
    let health = pool.health().await;
    assert_eq!(health.state, cenote_postgres::HealthState::Unhealthy);
    others.truncate(2);
    assert_eq!(one(&pool).await, 1);
}

#[tokio::test]
async fn a_wrong_password_is_named_as_the_reason_and_not_repeated() {
    let server = server().await;
    let mut config = Config::from_url(&server.url()).unwrap();
    config.server.password("not-the-secret");
    assert!(!format!("{config:?}").contains("not-the-secret"));
    let pool = Pool::new(config).unwrap();
    let error = Error::from(refusal(&pool).await);
    for said in [error.to_string(), format!("{error:?}")] {
        assert!(said.contains("password authentication failed"), "{said}");
        assert!(!said.contains("not-the-secret"), "{said}");
    }
    let url = server.url();
    let right = url.split([':', '@']).nth(2).unwrap();
    assert!(!error.to_string().contains(right));
    assert!(!format!("{pool:?}").contains("not-the-secret"));
}

#[tokio::test]
async fn a_closed_pool_leaves_no_session_behind() {
    let database = database().await;
    let watcher = database.watcher().await;
    let pool = database.pool(8);
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(pool.get_owned().await.unwrap());
    }
    // Some are returned clean, some dirty, some busy, and one is returned later.
    held[0].batch_execute("BEGIN").await.unwrap();
    for busy in &held[1..3] {
        tokio::select! {
            ended = busy.query("SELECT pg_sleep(60)", &[]) => panic!("{ended:?}"),
            () = watcher.sees_running(busy.process_id(), "pg_sleep") => {}
        }
    }
    let last = held.pop().unwrap();
    drop(held);
    assert!(watcher.sessions("%").await > 1);
    let closing = tokio::spawn({
        let pool = pool.clone();
        async move { pool.close().await }
    });
    until("all other sessions are ended", async || {
        watcher.sessions("%").await == 1
    })
    .await;
    assert!(!closing.is_finished(), "one connection is still held");
    last.query("SELECT 1", &[]).await.unwrap();
    drop(last);
    timeout(SOON, closing).await.unwrap().unwrap();
    assert_eq!(watcher.sessions("%").await, 0);
    let error = pool.get().await.unwrap_err();
    assert!(!error.is_retryable(), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_server_never_sees_more_sessions_than_the_maximum() {
    let database = database().await;
    let watcher = database.watcher().await;
    let pool = database.pool(3);
    let discarded = Arc::new(AtomicU32::new(0));
    let mut tasks = JoinSet::new();
    for _ in 0..8 {
        let (pool, discarded) = (pool.clone(), discarded.clone());
        tasks.spawn(async move {
            loop {
                let connection = pool.get().await.unwrap();
                // A busy session lives longer than its socket.
                let busy = connection.client().batch_execute("SELECT pg_sleep(0.05)");
                let _given_up = timeout(Duration::from_millis(5), busy).await;
                connection.discard();
                discarded.fetch_add(1, Relaxed);
            }
        });
    }
    let (mut most, mut looks) = (0, 0);
    until("enough looks and connections", async || {
        most = most.max(watcher.sessions("%").await);
        looks += 1;
        looks >= 300 && discarded.load(Relaxed) >= 60
    })
    .await;
    tasks.shutdown().await;
    assert!((1..=3).contains(&most), "{most} sessions");
}
