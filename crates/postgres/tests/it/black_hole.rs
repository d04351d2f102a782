//! A network that swallows what is sent without a word: every wait ends within its bound, and no
//! connection that went dead in silence is used twice.

use std::time::Duration;

use cenote_local::{Direction, Proxy};
use cenote_postgres::{Config, Error, HealthState, Pool, Retired};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{SOON, Watcher, database, through_proxy};

const CONNECTIONS: u32 = 4;
const COMMAND: Duration = Duration::from_secs(1);
const ACQUIRE: Duration = Duration::from_secs(2);
/// What a health check promises.
const HEALTH: Duration = Duration::from_millis(1500);
/// What a busy machine may add to any of them.
const SLACK: Duration = Duration::from_secs(4);

/// A pool with all its connections open and idle, the proxy between it and the server, and a
/// watcher at the server.
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
    // Until the server confirms a close, or this time is over, nothing takes the connection's place.
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
        let deadline = Instant::now() + SOON;
        loop {
            let sessions = self.watcher.sessions("%").await;
            let idle = self.pool.stats().pool.idle;
            if sessions == i64::from(CONNECTIONS) && idle == CONNECTIONS {
                return;
            }
            let stats = self.pool.stats();
            assert!(Instant::now() < deadline, "{sessions} sessions: {stats:?}");
            sleep(Duration::from_millis(5)).await;
        }
    }
}

/// What became of a caller.
#[derive(Debug, PartialEq)]
enum Outcome {
    Answered,
    NoConnection,
    NoAnswer,
}

/// Takes a connection and asks something, and checks that both end in time.
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

/// So many callers at once, and then each as often again.
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
async fn behind_a_silent_network_every_wait_ends_in_time_and_all_is_well_afterwards() {
    let scene = scene(|_| {}).await;
    let pool = &scene.pool;
    scene.proxy.freeze();
    let outcomes = ask_all(pool, 3 * CONNECTIONS, 2).await;
    assert_eq!(number_of(&outcomes, &Outcome::Answered), 0);
    // Each connection is found dead by one caller; the others are told that there is none.
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
async fn a_half_open_connection_disappoints_one_caller_and_is_never_used_again() {
    let scene = scene(|_| {}).await;
    let pool = &scene.pool;
    scene.proxy.half_open().await;
    // One after the other, so that every caller could get a connection another has found dead.
    let mut outcomes = Vec::new();
    for _ in 0..5 * CONNECTIONS {
        outcomes.push(ask(pool).await);
    }
    let disappointed = number_of(&outcomes, &Outcome::NoAnswer);
    assert!(disappointed <= CONNECTIONS as usize, "{outcomes:?}");
    assert!(disappointed > 0, "nothing was half-open");
    assert_eq!(number_of(&outcomes, &Outcome::NoConnection), 0);
    let outcomes = ask_all(pool, CONNECTIONS, 5).await;
    let more = number_of(&outcomes, &Outcome::NoAnswer);
    assert!(disappointed + more <= CONNECTIONS as usize, "{more} more");
    let outcomes = ask_all(pool, 3 * CONNECTIONS, 20).await;
    assert!(outcomes.iter().all(|it| *it == Outcome::Answered));
    scene.is_back_to_normal().await;
}

#[tokio::test]
async fn with_checks_a_half_open_connection_disappoints_nobody() {
    let rested = Duration::from_millis(100);
    let scene = scene(|config| {
        config.pool.check_after = Some(rested);
        config.pool.check_timeout = Duration::from_millis(200);
        config.pool.acquire_timeout = SOON; // one caller may have to wait for all checks
    })
    .await;
    scene.proxy.half_open().await;
    sleep(rested * 2).await;
    for _ in 0..3 {
        // All at once, or the one at the bottom would never be asked for.
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
    let deadline = Instant::now() + SOON;
    while scene.watcher.rows_of("entry").await == 0 {
        assert!(Instant::now() < deadline, "the commit has not happened");
        sleep(Duration::from_millis(5)).await;
    }
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
    scene.proxy.corrupt(Direction::ToClient, 1); // how long the message is
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
