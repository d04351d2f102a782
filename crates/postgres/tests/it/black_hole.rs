//! A network that drops everything silently: every wait ends within its bound, and a connection that died that way is
//! used by one caller at most.

use std::time::Duration;

use cenote_postgres::{Config, Error, HealthState, Pool, Retired};
use cenote_testing::{Direction, Proxy};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{SLACK, SOON, Watcher, database, through_proxy, until, until_ok};

const CONNECTIONS: u32 = 4;
const COMMAND: Duration = Duration::from_secs(1);
const ACQUIRE: Duration = Duration::from_secs(2);
/// What a health check promises.
const HEALTH: Duration = Duration::from_millis(1500);

/// A pool with all its connections open and idle, the proxy between it and the server, and a second session that does
/// not use the proxy.
struct Scene {
    pool: Pool,
    proxy: Proxy,
    watcher: Watcher,
}

async fn scene(change: impl FnOnce(&mut Config)) -> Scene {
    let direct = database().await;
    let (proxy, database) = through_proxy(&direct).await;
    let mut config = database.config(CONNECTIONS);
    config.command_timeout = Some(COMMAND);
    config.pool.acquire_timeout = ACQUIRE;
    config.pool.min_size = Some(CONNECTIONS);
    // A connection is replaced once the server has confirmed its close, or after this time.
    config.pool.close_timeout = Duration::from_millis(300);
    change(&mut config);
    let pool = Pool::new(config).unwrap();
    let scene = Scene {
        pool,
        proxy,
        watcher: direct.watcher().await,
    };
    scene.is_back_to_normal().await;
    scene
}

impl Scene {
    /// Waits until there are as many sessions as the pool has connections, all of them idle.
    async fn is_back_to_normal(&self) {
        until_ok("all connections are open and idle", async || {
            let sessions = self.watcher.sessions("%").await;
            let stats = self.pool.stats();
            let is_normal = sessions == i64::from(CONNECTIONS) && stats.pool.idle == CONNECTIONS;
            is_normal.then_some(()).ok_or((sessions, stats))
        })
        .await;
    }
}

/// What became of a caller.
#[derive(Debug, PartialEq)]
enum Outcome {
    Answered,
    NoConnection,
    NoAnswer,
}

/// Takes a connection and runs a query, and checks that both end within their bounds.
async fn ask(pool: &Pool) -> Outcome {
    let started = Instant::now();
    let taken = pool.get().await;
    let waited = started.elapsed();
    assert!(waited < ACQUIRE + SLACK, "{waited:?} for a connection");
    let Ok(connection) = taken else {
        return Outcome::NoConnection;
    };
    let started = Instant::now();
    let answer = connection.query_one("SELECT 42", &[]).await;
    let waited = started.elapsed();
    assert!(waited < COMMAND + SLACK, "{waited:?} for an answer");
    match answer {
        Ok(row) => {
            assert_eq!(row.get::<_, i32>(0), 42);
            Outcome::Answered
        }
        Err(Error::Timeout(limit)) if limit == COMMAND => Outcome::NoAnswer,
        Err(error) => panic!("{error:?}"),
    }
}

/// Many callers at the same time, each asking `times` times.
async fn ask_all(pool: &Pool, callers: u32, times: u32) -> Vec<Outcome> {
    let callers = (0..callers).map(|_| {
        let pool = pool.clone();
        tokio::spawn(async move {
            let mut outcomes = Vec::new();
            for _ in 0..times {
                outcomes.push(ask(&pool).await);
            }
            outcomes
        })
    });
    let mut outcomes = Vec::new();
    for caller in callers.collect::<Vec<_>>() {
        outcomes.extend(caller.await.unwrap());
    }
    outcomes
}

fn number_of(outcomes: &[Outcome], wanted: &Outcome) -> usize {
    outcomes.iter().filter(|it| *it == wanted).count()
}

#[tokio::test]
async fn behind_a_silent_network_every_wait_ends_in_time_and_afterwards_every_query_is_answered() {
    let scene = scene(|_| {}).await;
    let pool = &scene.pool;
    scene.proxy.freeze();
    let outcomes = ask_all(pool, 3 * CONNECTIONS, 2).await;
    assert_eq!(number_of(&outcomes, &Outcome::Answered), 0);
    // Each connection is found dead by one caller; the others are told that no connection is free.
    let dead = number_of(&outcomes, &Outcome::NoAnswer);
    assert_eq!(dead, CONNECTIONS as usize, "{outcomes:?}");

    let started = Instant::now();
    let health = timeout(SOON, pool.health()).await.unwrap();
    let took = started.elapsed();
    assert_eq!(health.state, HealthState::Unhealthy, "{health:?}");
    assert!(took < HEALTH + SLACK, "{took:?}");

    scene.proxy.heal();
    scene.is_back_to_normal().await;
    let outcomes = ask_all(pool, 3 * CONNECTIONS, 20).await;
    assert!(outcomes.iter().all(|it| *it == Outcome::Answered));
    assert_eq!(pool.health().await.state, HealthState::Healthy);
    scene.is_back_to_normal().await;
    let stats = pool.stats();
    assert_eq!(stats.pool.retired(Retired::Broken), u64::from(CONNECTIONS));
}

#[tokio::test]
async fn the_first_health_check_notices_a_silent_network_within_its_bound() {
    let scene = scene(|_| {}).await;
    scene.proxy.freeze();
    let started = Instant::now();
    let health = timeout(SOON, scene.pool.health()).await.unwrap();
    let took = started.elapsed();
    assert_eq!(health.state, HealthState::Unhealthy, "{health:?}");
    assert!(took < HEALTH + SLACK, "{took:?}");
}

#[tokio::test]
async fn a_half_open_connection_fails_one_caller_and_is_never_used_again() {
    let scene = scene(|_| {}).await;
    let pool = &scene.pool;
    scene.proxy.half_open().await;
    // One after the other, so that each caller could get a connection that another has found dead.
    let mut outcomes = Vec::new();
    for _ in 0..5 * CONNECTIONS {
        outcomes.push(ask(pool).await);
    }
    let failed = number_of(&outcomes, &Outcome::NoAnswer);
    assert!(failed <= CONNECTIONS as usize, "{outcomes:?}");
    assert!(failed > 0, "nothing was half-open");
    assert_eq!(number_of(&outcomes, &Outcome::NoConnection), 0);
    let outcomes = ask_all(pool, CONNECTIONS, 5).await;
    let more = number_of(&outcomes, &Outcome::NoAnswer);
    assert!(failed + more <= CONNECTIONS as usize, "{more} more");
    let outcomes = ask_all(pool, 3 * CONNECTIONS, 20).await;
    assert!(outcomes.iter().all(|it| *it == Outcome::Answered));
    scene.is_back_to_normal().await;
}

#[tokio::test]
async fn with_checks_a_half_open_connection_fails_no_caller() {
    let rested = Duration::from_millis(100);
    let scene = scene(|config| {
        config.pool.check_after = Some(rested);
        config.pool.check_timeout = Duration::from_millis(200);
        // One caller may have to wait for all checks.
        config.pool.acquire_timeout = SOON;
    })
    .await;
    scene.proxy.half_open().await;
    // Only a connection that has been idle for some time is checked.
    sleep(rested * 2).await;
    for _ in 0..3 {
        // All at the same time: otherwise the connection at the bottom of the stack is never taken.
        let mut held = Vec::new();
        for _ in 0..CONNECTIONS {
            held.push(timeout(SOON, scene.pool.get()).await.unwrap().unwrap());
        }
        for connection in held {
            connection.query_one("SELECT 42", &[]).await.unwrap();
        }
    }
    assert_eq!(scene.pool.stats().errors, 0);
    scene.is_back_to_normal().await;
}

#[tokio::test]
async fn a_commit_whose_answer_does_not_arrive_is_reported_as_unknown_and_may_have_happened() {
    let scene = scene(|_| {}).await;
    scene.watcher.run("CREATE TABLE entry (id int)").await;
    let mut connection = scene.pool.get().await.unwrap();
    let transaction = connection.transaction().await.unwrap();
    let insert = "INSERT INTO entry VALUES (1)";
    transaction.execute(insert, &[]).await.unwrap();
    scene.proxy.hold(Direction::ToClient);
    let error = transaction.commit().await.unwrap_err();
    assert!(error.is_outcome_unknown(), "{error:?}");
    until("the commit happens", async || scene.watcher.rows_of("entry").await > 0).await;
    drop(connection);
    scene.proxy.heal();
    scene.is_back_to_normal().await;
}

#[tokio::test]
async fn a_garbled_answer_is_an_error_and_costs_its_connection() {
    let scene = scene(|_| {}).await;
    let connection = scene.pool.get().await.unwrap();
    let process_id = connection.process_id();
    connection.query_one("SELECT 42", &[]).await.unwrap();
    scene.proxy.corrupt(Direction::ToClient, 1); // a byte of the length of the message
    let error = connection.query_one("SELECT 42", &[]).await.unwrap_err();
    assert!(matches!(error, Error::Lost { .. }), "{error:?}");
    drop(connection);
    scene.watcher.sees_gone(process_id).await;
    scene.is_back_to_normal().await;
    let outcomes = ask_all(&scene.pool, 2 * CONNECTIONS, 5).await;
    assert!(outcomes.iter().all(|it| *it == Outcome::Answered));
}

#[tokio::test]
async fn connections_cut_while_idle_are_given_to_nobody() {
    let scene = scene(|_| {}).await;
    for _ in 0..5 {
        scene.proxy.cut().await;
        let outcomes = ask_all(&scene.pool, 3 * CONNECTIONS, 2).await;
        assert!(outcomes.iter().all(|it| *it == Outcome::Answered));
        scene.is_back_to_normal().await;
    }
    assert_eq!(scene.pool.stats().errors, 0);
}
