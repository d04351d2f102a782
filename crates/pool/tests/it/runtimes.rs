//! A pool whose runtime has ended or is not run serves callers on other runtimes.

use std::{
    sync::{Arc, LazyLock, atomic::Ordering::SeqCst},
    thread,
    time::{Duration, Instant},
};

use cenote_pool::{Config, Manager, Pool, Reason};
use tokio::runtime::{Builder, Runtime};

use crate::support::{Refused, Scripted, Server, in_background, pool, small};

/// Far longer than any wait here.
const LONG: Duration = Duration::from_secs(20);

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

fn config(max_size: u32) -> Config {
    Config {
        acquire_timeout: LONG,
        ..small(max_size)
    }
}

fn made_on(runtime: &Runtime, config: Config) -> (Pool<Scripted>, Arc<Server>) {
    runtime.block_on(async { pool(config) })
}

/// An unused pool, and one with an idle connection.
fn both(runtime: &Runtime, max_size: u32) -> [(Pool<Scripted>, Arc<Server>); 2] {
    [false, true].map(|used| {
        let (pool, server) = made_on(runtime, config(max_size));
        if used {
            runtime.block_on(async { drop(pool.get().await.unwrap()) });
        }
        (pool, server)
    })
}

#[test]
fn a_pool_made_on_a_runtime_that_has_ended_serves_callers_on_another() {
    let first = runtime();
    let pools = both(&first, 1);
    drop(first);
    for (pool, server) in pools {
        let started = Instant::now();
        runtime().block_on(async {
            for _ in 0..3 {
                drop(pool.get().await.unwrap());
            }
            pool.close().await;
        });
        assert_eq!(server.open.load(SeqCst), 0, "nothing is left");
        assert!(started.elapsed() < LONG / 4, "{:?}", started.elapsed());
    }
}

#[test]
fn a_pool_made_on_a_runtime_that_nobody_runs_serves_callers_on_another() {
    let first = runtime();
    for (pool, _) in both(&first, 1) {
        let started = Instant::now();
        runtime().block_on(async {
            let one = pool.get().await.unwrap();
            let waiting = in_background(&pool, |pool| async move { pool.get_owned().await.map(drop) });
            tokio::task::yield_now().await;
            drop(one);
            waiting.await.unwrap().unwrap();
            pool.close().await;
        });
        assert!(started.elapsed() < LONG / 2, "{:?}", started.elapsed());
    }
    drop(first);
}

/// The server does not answer, so no caller is served. Still none waits for ever.
#[test]
fn no_wait_outlasts_its_limit_whatever_became_of_the_pools_runtime() {
    for ends in [false, true] {
        let first = runtime();
        let (pool, server) = made_on(&first, config(1));
        Server::shut_gate(&server.connect_gate);
        let first = (!ends).then_some(first);
        let limit = Duration::from_millis(300);
        let error = runtime().block_on(pool.get_within(limit)).map(drop);
        let error = error.unwrap_err();
        assert!(matches!(error.reason(), Reason::Timeout { .. }), "{error}");
        drop(first);
    }
}

#[test]
fn a_connection_in_use_ends_with_its_runtime_and_its_slot_is_freed() {
    let first = runtime();
    let (pool, server) = made_on(&first, config(1));
    let held = first.block_on(pool.get_owned()).unwrap();
    drop(first);
    let number = held.number;
    drop(held);
    runtime().block_on(async {
        assert_ne!(pool.get().await.unwrap().number, number);
        assert_eq!(server.open.load(SeqCst), 1);
    });
}

#[test]
fn connections_released_outside_any_runtime_are_closed() {
    let first = runtime();
    let (pool, _) = made_on(&first, config(2));
    let held = first.block_on(async { [pool.get_owned().await, pool.get_owned().await] });
    let [dirty, discarded] = held.map(Result::unwrap);
    drop(first);
    let mut dirty = dirty;
    dirty.condition = cenote_pool::Condition::Dirty;
    drop(dirty);
    discarded.discard();
    assert_eq!((pool.stats().size(), pool.stats().closing), (0, 0));
    assert!(pool.try_get().is_none());
    runtime().block_on(async { drop(pool.get().await.unwrap()) });
}

/// Like a program whose tests share a pool.
#[test]
fn a_static_pool_serves_many_short_lived_runtimes_one_after_the_other_and_at_once() {
    static POOL: LazyLock<Pool<Scripted>> = LazyLock::new(|| {
        let make = || runtime().block_on(async { Pool::new(Scripted(Arc::default()), config(3)).unwrap() });
        // The runtime ends on this thread, because one cannot end on a thread that runs another.
        thread::spawn(make).join().unwrap()
    });
    let some_uses = || {
        runtime().block_on(async {
            for _ in 0..5 {
                drop(POOL.get().await.unwrap());
                tokio::task::yield_now().await;
            }
        });
    };
    for _ in 0..20 {
        some_uses();
    }
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..5).for_each(|_| some_uses()));
        }
    });
    runtime().block_on(async {
        let all = [POOL.get().await, POOL.get().await, POOL.get().await];
        assert!(all.iter().all(Result::is_ok), "no place is lost");
        drop(all);
        POOL.close().await;
    });
    assert_eq!(POOL.manager().0.open.load(SeqCst), 0);
}

#[test]
fn a_pool_can_be_dropped_closed_and_resized_on_another_runtime_or_on_none() {
    for how in 0..4 {
        let first = runtime();
        let (pool, server) = made_on(&first, config(2));
        first.block_on(async { drop(pool.get().await.unwrap()) });
        let first = (how % 2 == 0).then_some(first);
        match how {
            0 | 1 => drop(pool),
            _ => runtime().block_on(async {
                let limits = cenote_pool::Limits {
                    max_size: 1,
                    ..pool.limits()
                };
                pool.resize(limits).unwrap();
                pool.pause().await;
                pool.resume();
                pool.drain().await;
            }),
        }
        drop(first);
        assert_eq!(server.open.load(SeqCst), 0);
    }
}

#[test]
fn the_warm_minimum_is_opened_on_the_runtime_of_the_caller_that_waits_for_it() {
    let first = runtime();
    let warm = Config {
        min_size: Some(2),
        ..config(2)
    };
    let (pool, _) = made_on(&first, warm);
    drop(first);
    runtime().block_on(async {
        pool.warm_up_within(LONG).await.unwrap();
        assert_eq!(pool.stats().idle, 2);
    });
}

/// A manager whose connections have a task on the runtime that opened them.
struct Echo;

impl Manager for Echo {
    type Connection = tokio::sync::mpsc::UnboundedSender<tokio::sync::oneshot::Sender<()>>;
    type Error = Refused;

    async fn connect(&self) -> Result<Self::Connection, Refused> {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            while let Some(answer) = receiver.recv().await {
                let answer: tokio::sync::oneshot::Sender<()> = answer;
                let _gone = answer.send(());
            }
        });
        Ok(sender)
    }
}

#[test]
fn no_caller_gets_a_connection_whose_task_ended_with_its_runtime() {
    let first = runtime();
    let pool = first.block_on(async { Pool::new(Echo, config(2)).unwrap() });
    let ask = async || {
        let connection = pool.get().await.unwrap();
        let (answer, answered) = tokio::sync::oneshot::channel();
        connection.send(answer).unwrap();
        answered.await.unwrap();
    };
    first.block_on(ask());
    drop(first);
    for _ in 0..3 {
        runtime().block_on(ask());
    }
}
