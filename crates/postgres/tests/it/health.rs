//! A health check is right, and ends in time.

use std::time::Duration;

use cenote_postgres::{Health, HealthState, Pool};
use tokio::time::{Instant, sleep};

use crate::support::{SLACK, database, database_on, server, until_ok};

/// What a health check promises.
const IN_TIME: Duration = Duration::from_millis(1500);

async fn health(pool: &Pool) -> Health {
    let started = Instant::now();
    let health = pool.health().await;
    let took = started.elapsed();
    assert!(took < IN_TIME + SLACK, "{took:?} for {health:?}");
    health
}

async fn recovers(pool: &Pool) -> Health {
    let health = until_ok("the pool is healthy", async || {
        let health = health(pool).await;
        match health.state {
            HealthState::Healthy => Ok(health),
            _ => Err(health),
        }
    })
    .await;
    assert_eq!(health.problem, None);
    health
}

#[tokio::test]
async fn a_database_that_answers_is_healthy() {
    let pool = database().await.pool(2);
    let health = recovers(&pool).await;
    let latency = health.latency.unwrap();
    assert!(latency < pool.config().degraded_latency, "{latency:?}");
}

#[tokio::test]
async fn a_pool_with_every_connection_in_use_is_degraded_and_afterwards_healthy() {
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
async fn a_database_slower_than_the_threshold_is_degraded() {
    let mut config = database().await.config(1);
    config.degraded_latency = Duration::from_millis(200);
    let pool = Pool::new(config).unwrap();
    recovers(&pool).await;
    let held = pool.get().await.unwrap();
    let (slow, ()) = tokio::join!(health(&pool), async {
        // The latency under test: the check waits this long for the only connection.
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
    assert!(!problem.contains("127.0.0.1"), "the problem is public: {problem}");
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
