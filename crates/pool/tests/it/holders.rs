//! The holders of connections: leaks and nested waits.

use std::{collections::HashSet, time::Duration};

use cenote_pool::{Config, ConnectionState, Metrics, Pool};
use tokio::time::sleep;

use crate::support::{Scripted, log::Log, pool, queue_up, settle, small};

fn leaks(after: u64) -> Config {
    Config {
        leak_after: Some(Duration::from_secs(after)),
        ..small(3)
    }
}

#[tokio::test(start_paused = true)]
async fn every_holder_is_shown_with_its_source_line_its_task_and_its_time() {
    let (pool, _) = pool(small(3));
    let line = line!() + 1;
    let _held = pool.get().await.unwrap();
    let task = tokio::spawn({
        let pool = pool.clone();
        async move {
            let _held = pool.get().await.unwrap();
            sleep(Duration::from_secs(60)).await;
        }
    });
    sleep(Duration::from_secs(7)).await;
    let mut holders = pool.holders();
    holders.sort_by_key(|holder| holder.caller.line());
    let [here, there] = holders[..] else {
        panic!("{holders:?}");
    };
    assert!(here.caller.file().ends_with("holders.rs"));
    assert_eq!((here.caller.line(), here.task), (line, None));
    assert_eq!(there.task, Some(task.id()));
    let about_7 = Duration::from_secs(6)..=Duration::from_secs(8);
    assert!(about_7.contains(&here.held) && about_7.contains(&there.held));
    let connections = pool.connections(usize::MAX);
    let held = connections.iter().filter_map(|connection| connection.holder);
    assert_eq!(held.count(), 2, "{connections:?}");
    assert_eq!(pool.connections(1).len(), 1);
    task.abort();
    settle().await;
    assert_eq!(pool.holders().len(), 1);
    let mut states: Vec<_> = pool
        .connections(9)
        .iter()
        .map(|it| (it.state, it.holder.is_some()))
        .collect();
    states.sort_by_key(|(_, is_held)| *is_held);
    assert_eq!(states, [(ConnectionState::Idle, false), (ConnectionState::InUse, true)]);
}

#[tokio::test(start_paused = true)]
async fn a_connection_held_for_too_long_is_counted_and_warned_of_once() {
    let (log, _guard) = Log::start();
    let (pool, _) = pool(leaks(60));
    let line = line!() + 1;
    let held = pool.get().await.unwrap();
    sleep(Duration::from_secs(58)).await;
    assert_eq!(pool.stats().leaked, 0);
    sleep(Duration::from_secs(30)).await;
    assert_eq!(pool.stats().leaked, 1);
    let warned = log.lines(&["WARN", "leaked?", &format!("holders.rs:{line}")]);
    assert_eq!(warned.len(), 1, "{warned:?}");
    drop(held);
    assert_eq!(pool.stats().leaked, 0);

    let _held = pool.get().await.unwrap();
    sleep(Duration::from_secs(90)).await;
    assert_eq!(log.lines(&["leaked?"]).len(), 2, "the next one counts anew");
}

#[tokio::test(start_paused = true)]
async fn connections_used_in_turn_for_a_long_time_are_not_leaked() {
    let (log, _guard) = Log::start();
    let (pool, _) = pool(leaks(10));
    for _ in 0..20 {
        let _held = pool.get().await.unwrap();
        sleep(Duration::from_secs(5)).await;
        assert_eq!(pool.stats().leaked, 0);
    }
    assert!(log.lines(&["leaked?"]).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waits_for_a_connection_while_it_holds_one_is_warned_of() {
    let (log, _guard) = Log::start();
    let (pool, _) = pool(small(1));
    let first = line!() + 4;
    let nested = tokio::spawn({
        let pool = pool.clone();
        async move {
            let _held = pool.get().await.unwrap();
            pool.get().await.map(drop)
        }
    });
    let error = nested.await.unwrap().unwrap_err();
    assert!(error.to_string().contains("1 of 1 in use"), "{error}");
    assert_eq!(pool.stats().nested_waits, 1);
    let (holds, waits) = (first, first + 1);
    let places = [format!("rs:{holds}:"), format!("rs:{waits}:")];
    let warned = log.lines(&["WARN", "while it holds one", &places[0], &places[1]]);
    assert_eq!(warned.len(), 1, "{:?}", log.lines(&[]));
}

#[tokio::test(start_paused = true)]
async fn a_task_that_waits_for_what_another_holds_is_not_warned_of() {
    let (pool, _) = pool(small(1));
    let held = pool.get().await.unwrap();
    let waiting = [queue_up(&pool), queue_up(&pool)];
    settle().await;
    drop(held);
    for caller in waiting {
        caller.await.unwrap().unwrap();
    }
    assert_eq!(pool.stats().nested_waits, 0);
}

#[tokio::test(start_paused = true)]
async fn many_tasks_that_wait_while_they_hold_one_are_warned_of_once() {
    let (log, _guard) = Log::start();
    let (pool, _) = pool(small(8));
    let nested = async |pool: Pool<Scripted>| {
        let _held = pool.get().await.unwrap();
        settle().await;
        pool.get_within(Duration::from_millis(100)).await.map(drop)
    };
    let tasks: Vec<_> = (0..8).map(|_| tokio::spawn(nested(pool.clone()))).collect();
    for task in tasks {
        drop(task.await.unwrap());
    }
    assert_eq!(pool.stats().nested_waits, 1);
    assert_eq!(log.lines(&["while it holds one"]).len(), 1);
}

#[tokio::test]
async fn a_hundred_thousand_holders_add_no_series() {
    let (pool, _) = pool(small(3));
    let series = || {
        let mut series = HashSet::new();
        pool.stats().visit(&mut |sample| {
            let labels: Vec<_> = sample.labels.iter().map(|label| (*label).to_owned()).collect();
            series.insert((sample.metric.name, labels));
        });
        series
    };
    drop(pool.get().await.unwrap());
    let before = series();
    for _ in 0..1_000 {
        let hundred = (0..100).map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { drop(pool.get().await.unwrap()) })
        });
        for holder in hundred.collect::<Vec<_>>() {
            holder.await.unwrap();
        }
    }
    assert!(pool.stats().acquired > 100_000);
    assert_eq!(series(), before);
}
