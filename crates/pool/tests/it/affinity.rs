//! Connections live on the runtimes of the pool, and callers prefer those of their own runtime.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    thread,
    time::{Duration, Instant},
};

use cenote_pool::{Config, Manager, Pool};
use tokio::{
    runtime::{Builder, Handle},
    sync::oneshot,
};

/// A connection is the name of the thread on which it was opened.
struct Threads;

impl Manager for Threads {
    type Connection = String;
    type Error = Infallible;

    async fn connect(&self) -> Result<String, Infallible> {
        Ok(thread::current().name().unwrap().to_owned())
    }
}

/// Runtimes of one thread each. They end when this is dropped.
struct Runtimes(Vec<OwnRuntime>);

struct OwnRuntime {
    runtime: Handle,
    end: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Runtimes {
    fn start(names: &[&str]) -> Self {
        let start = |name: &&str| {
            let runtime = Builder::new_current_thread().enable_all().build().unwrap();
            let handle = runtime.handle().clone();
            let (end, ended) = oneshot::channel::<()>();
            let live = move || drop(runtime.block_on(ended));
            let thread = thread::Builder::new().name((*name).to_owned());
            OwnRuntime {
                runtime: handle,
                end,
                thread: thread.spawn(live).unwrap(),
            }
        };
        Self(names.iter().map(start).collect())
    }

    /// Two runtimes, and the handle of a warm pool for each.
    async fn two(min_size: u32, max_size: u32) -> (Self, [Pool<Threads>; 2]) {
        let runtimes = Self::start(&["a", "b"]);
        let pool = runtimes.pool(min_size, max_size);
        pool.warm_up().await.unwrap();
        let handles = Vec::from_iter(pool.per_runtime()).try_into();
        (runtimes, handles.ok().unwrap())
    }

    fn pool(&self, min_size: u32, max_size: u32) -> Pool<Threads> {
        let config = Config {
            min_size: Some(min_size),
            max_size,
            ..Config::default()
        };
        let runtimes = self.0.iter().map(|at| at.runtime.clone()).collect();
        Pool::on_runtimes(Threads, config, runtimes).unwrap()
    }
}

#[tokio::test]
async fn connections_are_opened_on_all_runtimes_in_equal_numbers() {
    let runtimes = Runtimes::start(&["a", "b", "c"]);
    let pool = runtimes.pool(6, 8);
    pool.warm_up().await.unwrap();
    let mut held = Vec::new();
    let mut count = BTreeMap::new();
    while let Some(one) = pool.try_get() {
        *count.entry(one.clone()).or_insert(0) += 1;
        held.push(one);
    }
    assert_eq!(Vec::from_iter(count.values()), [&2, &2, &2]);
    // A connection that ends is replaced on its runtime.
    let at = held.iter().position(|one| **one == "b").unwrap();
    let more = [pool.get().await.unwrap(), pool.get().await.unwrap()];
    assert_eq!(more.each_ref().map(|one| one.as_str()), ["a", "b"]);
    held.remove(at).discard();
    assert_eq!(*pool.get().await.unwrap(), "b");
}

#[tokio::test]
async fn a_caller_takes_a_connection_of_its_own_runtime_if_one_is_idle() {
    let (_runtimes, [a, b]) = Runtimes::two(2, 2).await;
    // The connection used last is on top of the stack.
    for (caller, own) in [(&a, "a"), (&a, "a"), (&b, "b"), (&b, "b"), (&a, "a")] {
        assert_eq!(*caller.try_get().unwrap(), own);
        assert_eq!(*caller.get().await.unwrap(), own);
    }
}

#[tokio::test]
async fn a_caller_takes_what_is_idle_elsewhere_rather_than_wait() {
    let (_runtimes, [a, b]) = Runtimes::two(2, 3).await;
    let own = a.get().await.unwrap();
    let other = a.get().await.unwrap();
    assert_eq!((own.as_str(), other.as_str()), ("a", "b"));
    assert_eq!(a.stats().size(), 2, "nothing was opened for it");
    drop(own);
    // And the other way round.
    assert_eq!(*b.try_get().unwrap(), "a");
}

/// Two busy callers that hold each other's connection would keep it for ever.
#[tokio::test]
async fn callers_with_each_others_connections_soon_have_their_own() {
    let (_runtimes, [a, b]) = Runtimes::two(2, 3).await;
    tokio::time::pause();
    let own = a.get().await.unwrap();
    let mut of_a = a.get().await.unwrap();
    drop(own);
    let mut of_b = b.get().await.unwrap();
    let swapped = |of_a: &str, of_b: &str| (of_a, of_b) == ("b", "a");
    assert!(swapped(&of_a, &of_b));
    let patience = Instant::now() + Duration::from_secs(30);
    while *of_a != "a" || *of_b != "b" {
        assert!(Instant::now() < patience, "{} and {}", *of_a, *of_b);
        drop(of_a);
        of_a = a.get().await.unwrap();
        drop(of_b);
        of_b = b.get().await.unwrap();
        // A round of the maintenance task comes after a second of use.
        tokio::time::advance(Duration::from_millis(1)).await;
    }
    assert_eq!(a.stats().size(), 3);
}

#[tokio::test]
async fn callers_that_seldom_miss_have_no_connection_opened_for_them() {
    let (_runtimes, [a, _b]) = Runtimes::two(2, 3).await;
    tokio::time::pause();
    let own = a.get().await.unwrap();
    for _ in 0..10 {
        assert_eq!(*a.get().await.unwrap(), "b");
    }
    // Past a round of the maintenance task, in which a connect would begin.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let stats = a.stats();
    assert_eq!((stats.size(), stats.connecting), (2, 0));
    drop(own);
}

#[tokio::test]
async fn the_work_of_a_runtime_that_has_ended_is_done_on_another() {
    let mut runtimes = Runtimes::start(&["a", "b"]);
    let pool = runtimes.pool(0, 2);
    let first = pool.get().await.unwrap();
    assert_eq!(*first, "a");
    let OwnRuntime { end, thread, .. } = runtimes.0.remove(1);
    drop(end);
    thread.join().unwrap();
    let second = pool.get().await.unwrap();
    assert_ne!(*second, "b");
    assert_eq!(pool.stats().connect_failures, 0);
}

#[tokio::test]
async fn a_pool_without_a_runtime_is_refused() {
    let refused = Pool::on_runtimes(Threads, Config::default(), Vec::new()).unwrap_err();
    assert!(refused.to_string().contains("runtime"), "{refused}");
}
