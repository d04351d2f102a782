//! Managers that only learn from the server whether a connection works.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::SeqCst},
    },
    time::Duration,
};

use cenote_pool::{Condition, Config, Manager, Pool, Retired};
use tokio::time::sleep;

use crate::support::{Refused, Server, in_background, pool, settle, small};

/// A manager ported from another pool: it can connect, and ask the server whether a connection works.
#[derive(Clone, Default)]
struct Ported(Arc<Far>);

#[derive(Default)]
struct Far {
    connects: AtomicU32,
    checks: AtomicU32,
}

/// True once the connection has been killed.
type Killed = Arc<AtomicBool>;

impl Manager for Ported {
    type Connection = Killed;
    type Error = Refused;

    async fn connect(&self) -> Result<Killed, Refused> {
        self.0.connects.fetch_add(1, SeqCst);
        Ok(Killed::default())
    }

    async fn check(&self, killed: &mut Killed) -> Result<(), Refused> {
        self.0.checks.fetch_add(1, SeqCst);
        match killed.load(SeqCst) {
            true => Err(Refused("it was killed")),
            false => Ok(()),
        }
    }
}

fn ported(config: Config) -> (Pool<Ported>, Arc<Far>) {
    let manager = Ported::default();
    let far = manager.0.clone();
    (Pool::new(manager, config).unwrap(), far)
}

#[tokio::test(start_paused = true)]
async fn a_manager_with_nothing_but_connect_and_check_never_hands_out_a_dead_connection() {
    let (pool, far) = ported(small(2));
    for _ in 0..20 {
        let held = pool.get().await.unwrap();
        assert!(!held.load(SeqCst), "handed out dead");
        held.store(true, SeqCst); // killed while it is in use, or idle
    }
    assert_eq!(far.connects.load(SeqCst), 20);
    assert_eq!(pool.stats().retired(Retired::Broken), 19);
}

#[tokio::test(start_paused = true)]
async fn a_dead_connection_that_is_handed_over_is_replaced_for_its_waiter() {
    let (pool, far) = ported(small(1));
    let held = pool.get().await.unwrap();
    let waiting = in_background(
        &pool,
        |pool| async move { pool.get_owned().await.unwrap().load(SeqCst) },
    );
    settle().await;
    assert_eq!(pool.stats().waiting, 1);
    held.store(true, SeqCst);
    drop(held);
    assert!(!waiting.await.unwrap());
    assert_eq!(far.connects.load(SeqCst), 2);
}

#[tokio::test(start_paused = true)]
async fn a_connection_opened_for_its_caller_is_not_asked_whether_it_works() {
    let (pool, far) = ported(small(1));
    drop(pool.get().await.unwrap());
    assert_eq!(far.checks.load(SeqCst), 0);
    drop(pool.get().await.unwrap());
    assert_eq!(far.checks.load(SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_check_is_trusted_for_as_long_as_the_configuration_says() {
    let (pool, far) = ported(Config {
        trust_check_for: Duration::from_secs(2),
        ..small(1)
    });
    drop(pool.get().await.unwrap());
    for (pause, checks) in [(1, 0), (2, 1), (1, 1), (1, 2)] {
        sleep(Duration::from_secs(pause)).await;
        drop(pool.get().await.unwrap());
        assert_eq!(far.checks.load(SeqCst), checks);
    }
}

/// `inspect` finds it clean, but its last user has doubts.
#[tokio::test(start_paused = true)]
async fn a_connection_marked_as_suspect_is_checked_before_anyone_has_it_again() {
    let (pool, server) = pool(small(1));
    drop(pool.get().await.unwrap());
    drop(pool.get().await.unwrap());
    assert_eq!(server.checks.load(SeqCst), 0, "clean ones are not");
    let mut held = pool.get().await.unwrap();
    held.mark_suspect();
    drop(held);
    let held = pool.get().await.unwrap();
    assert_eq!((server.checks.load(SeqCst), held.number), (1, 0));
    drop(held);
    drop(pool.get().await.unwrap());
    assert_eq!(server.checks.load(SeqCst), 1, "it was found to work");

    server.check_fails.store(true, SeqCst);
    let mut held = pool.get().await.unwrap();
    held.mark_suspect();
    drop(held);
    assert_eq!(pool.get().await.unwrap().number, 1, "a new one");
}

#[tokio::test(start_paused = true)]
async fn what_was_marked_as_suspect_stays_so_through_cleaning_and_sweeps() {
    let (pool, server) = pool(small(1));
    let mut held = pool.get().await.unwrap();
    held.condition = Condition::Dirty;
    held.mark_suspect();
    drop(held);
    settle().await;
    pool.inspect_idle();
    Server::shut_gate(&server.close_gate);
    drop(pool.get().await.unwrap());
    let count = |count: &AtomicU32| count.load(SeqCst);
    assert_eq!((count(&server.cleans), count(&server.checks)), (1, 1));
}
