//! More callers than can be served: which are refused or shed, and when.

use std::time::Duration;

use cenote_pool::{AcquireError, Config, Pool, Reason};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::support::{Refused, Scripted, pool, small};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// How long a caller waited for its connection.
type Served = JoinHandle<Result<Duration, AcquireError<Refused>>>;

fn caller(pool: &Pool<Scripted>, patience: Duration, work: Duration) -> Served {
    let pool = pool.clone();
    tokio::spawn(async move {
        let asked = Instant::now();
        let held = pool.get_within(patience).await?;
        let waited = asked.elapsed();
        sleep(work).await;
        drop(held);
        Ok(waited)
    })
}

#[tokio::test(start_paused = true)]
async fn under_lasting_overload_a_caller_that_would_time_out_is_refused_at_once() {
    let (pool, _) = pool(small(1));
    let minute = Duration::from_secs(60);
    let patient: Vec<_> = (0..50).map(|_| caller(&pool, minute, ms(100))).collect();
    sleep(ms(500)).await;
    let too_early = caller(&pool, Duration::from_secs(1), ms(100));
    sleep(ms(1500)).await;
    assert!(
        matches!(too_early.await.unwrap().unwrap_err().reason(), Reason::Timeout { .. }),
        "no forecast for a queue half a second old"
    );

    // About 30 callers wait. Ten are served each second.
    let asked = Instant::now();
    let error = pool.get_within(Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(asked.elapsed(), Duration::ZERO);
    assert_eq!(error.reason(), Reason::Overloaded);
    assert!(error.is_retryable());
    let hint = error.retry_after().unwrap();
    assert!(ms(1500) < hint && hint < ms(2500), "{hint:?}");
    assert!(pool.stats().shedding);
    assert_eq!(pool.stats().refused, 1);

    // A caller that comes back after that time is served in time.
    sleep(hint).await;
    let again = caller(&pool, ms(1200), ms(0));
    assert!(again.await.unwrap().is_ok());
    for caller in patient {
        caller.await.unwrap().unwrap();
    }
    assert!(!pool.stats().shedding);
    drop(pool.get_within(ms(1)).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn a_caller_with_enough_patience_is_admitted_however_long_the_queue() {
    let (pool, _) = pool(small(1));
    let minute = Duration::from_secs(60);
    let callers: Vec<_> = (0..100).map(|_| caller(&pool, minute, ms(100))).collect();
    sleep(ms(3000)).await;
    let last = caller(&pool, Duration::from_secs(10), ms(0));
    assert!(last.await.unwrap().is_ok());
    drop(callers);
}

#[tokio::test(start_paused = true)]
async fn a_queue_kept_standing_by_a_pause_is_not_taken_for_overload() {
    let (pool, _) = pool(small(1));
    let minute = Duration::from_secs(60);
    let callers: Vec<_> = (0..30).map(|_| caller(&pool, minute, ms(100))).collect();
    sleep(ms(1500)).await;
    drop(pool.pause());
    sleep(Duration::from_secs(20)).await;
    let newcomer = caller(&pool, Duration::from_secs(5), ms(0));
    sleep(ms(100)).await;
    pool.resume();
    assert!(newcomer.await.unwrap().is_ok());
    drop(callers);
}

/// Callers arrive every 8 ms for 20 s and hold the only connection for 10 ms. Returns the longest wait of those that
/// arrived in the last five seconds, and the number of shed waiters.
async fn overload(shed_target: Option<Duration>) -> (Duration, u64) {
    let (pool, _) = pool(Config {
        shed_target,
        ..small(1)
    });
    let mut callers = Vec::new();
    for _ in 0..2500 {
        callers.push(caller(&pool, Duration::from_secs(60), ms(10)));
        sleep(ms(8)).await;
    }
    let mut longest = Duration::ZERO;
    for caller in callers.split_off(1875) {
        match caller.await.unwrap() {
            Ok(waited) => longest = longest.max(waited),
            Err(error) => assert_eq!(error.reason(), Reason::Overloaded),
        }
    }
    (longest, pool.stats().shed)
}

#[tokio::test(start_paused = true)]
async fn a_standing_queue_is_shed_until_the_wait_is_short() {
    let (unbounded, shed) = overload(None).await;
    assert!(unbounded > Duration::from_secs(4), "{unbounded:?}");
    assert_eq!(shed, 0);
    let (bounded, shed) = overload(Some(ms(20))).await;
    assert!(bounded < Duration::from_secs(1), "{bounded:?}");
    assert!((400..700).contains(&shed), "{shed} of 2500, of which 500 are too many");
}

#[tokio::test(start_paused = true)]
async fn a_burst_that_is_soon_worked_off_loses_no_one() {
    let (pool, _) = pool(Config {
        shed_target: Some(ms(20)),
        ..small(1)
    });
    for _ in 0..3 {
        let minute = Duration::from_secs(60);
        let burst: Vec<_> = (0..35).map(|_| caller(&pool, minute, ms(10))).collect();
        for caller in burst {
            caller.await.unwrap().unwrap();
        }
    }
    assert_eq!(pool.stats().shed, 0);
}
