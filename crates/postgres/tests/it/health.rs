//! A health check tells the truth, and tells it in time.

use std::time::Duration;

use cenote_postgres::{Health, HealthState, Pool};
use tokio::time::{Instant, sleep};

use crate::support::{SOON, database, database_on, server};

/// The promise is a second and a half; a busy machine may add to it.
const IN_TIME: Duration = Duration::from_secs(5);

async fn health(pool: &Pool) -> Health {
    let started = Instant::now();
    let health = pool.health().await;
    let took = started.elapsed();
    assert!(took < IN_TIME, "{took:?} for {health:?}");
    health
}

async fn recovers(pool: &Pool) -> Health {
    let deadline = Instant::now() + SOON;
    loop {
        let health = health(pool).await;
        if health.state == HealthState::Healthy {
            assert_eq!(health.problem, None);
            return health;
        }
        assert!(Instant::now() < deadline, "still {health:?}");
        sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn a_database_that_answers_is_healthy() {
    let pool = database().await.pool(2);
    let health = recovers(&pool).await;
    let latency = health.latency.unwrap();
    assert!(latency < pool.config().degraded_latency, "{latency:?}");
}

#[tokio::test]
async fn with_every_connection_in_use_it_is_degraded_and_afterwards_healthy() {
    let pool = database().await.pool(1);
    let held = pool.get().await.unwrap();
    let busy = health(&pool).await;
    assert_eq!(busy.state, HealthState::Degraded);
    assert_eq!(busy.problem.unwrap(), "all connections are in use");
    assert_eq!(busy.latency, None);
    drop(held);
    recovers(&pool).await;
}

#[tokio::test]
async fn slower_than_the_threshold_is_degraded() {
    let mut config = database().await.config(1);
    config.degraded_latency = Duration::from_millis(200);
    let pool = Pool::new(config).unwrap();
    recovers(&pool).await;
    let held = pool.get().await.unwrap();
    let (slow, ()) = tokio::join!(health(&pool), async {
        sleep(Duration::from_millis(300)).await;
        drop(held);
    });
    assert_eq!(slow.state, HealthState::Degraded);
    assert!(slow.latency.unwrap() >= Duration::from_millis(300));
    assert_eq!(slow.problem.unwrap(), "slower than 200 ms");
    recovers(&pool).await;
}

#[tokio::test]
async fn a_stopped_server_is_unhealthy_and_a_started_one_healthy_again() {
    let server = server().await;
    let pool = database_on(&server).await.pool(2);
    recovers(&pool).await;
    server.stop().await.unwrap();
    let down = health(&pool).await;
    assert_eq!(down.state, HealthState::Unhealthy);
    let problem = down.problem.unwrap();
    assert!(!problem.contains("127.0.0.1"), "for strangers: {problem}");
    server.restart().await.unwrap();
    recovers(&pool).await;
}

#[tokio::test]
async fn a_frozen_server_is_unhealthy_in_time_and_a_thawed_one_healthy_again() {
    let server = server().await;
    let pool = database_on(&server).await.pool(2);
    recovers(&pool).await;
    server.freeze().await.unwrap();
    for _ in 0..4 {
        let frozen = health(&pool).await;
        assert_eq!(frozen.state, HealthState::Unhealthy, "{frozen:?}");
    }
    server.thaw().await.unwrap();
    recovers(&pool).await;
}

#[tokio::test]
async fn a_closed_pool_is_unhealthy() {
    let pool = database().await.pool(1);
    recovers(&pool).await;
    pool.close().await;
    let closed = health(&pool).await;
    assert_eq!(closed.state, HealthState::Unhealthy);
    assert_eq!(closed.problem.unwrap(), "shutting down");
}

#[tokio::test]
async fn health_checks_leave_the_connections_as_they_were() {
    let database = database().await;
    let pool = database.pool(2);
    for _ in 0..20 {
        recovers(&pool).await;
    }
    let stats = pool.stats().pool;
    assert_eq!((stats.connects, stats.cleaned, stats.in_use), (1, 0, 0));
}
