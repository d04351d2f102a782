//! What a pool knows of each connection: from the list, from the connection in use, and in a hook.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use cenote_pool::{Config, ConnectionState, Decision, Hooks, Manager, Pool};
use tokio::time::sleep;

use crate::support::{pool, settle, small};

fn timed(max_size: u32) -> Config {
    Config {
        time_uses: true,
        ..small(max_size)
    }
}

#[tokio::test(start_paused = true)]
async fn a_guard_and_the_list_tell_the_same_age_idle_time_and_uses() {
    let (pool, _) = pool(timed(1));
    drop(pool.get().await.unwrap());
    sleep(Duration::from_secs(5)).await;
    let held = pool.get().await.unwrap();
    sleep(Duration::from_secs(2)).await;
    let info = held.info();
    assert_eq!((info.state, info.uses), (ConnectionState::InUse, 2));
    assert_eq!(info.idle, Duration::from_secs(5), "before this use");
    assert_eq!(info.age, Duration::from_secs(7));
    assert_eq!(info.holder.map(|holder| holder.held), Some(Duration::from_secs(2)));
    assert_eq!(pool.connections(9), [info]);
    drop(held);
    sleep(Duration::from_secs(3)).await;
    let [idle] = &pool.connections(9)[..] else {
        panic!("one")
    };
    assert_eq!((idle.state, idle.uses), (ConnectionState::Idle, 2));
    assert_eq!((idle.idle, idle.age), (Duration::from_secs(3), Duration::from_secs(10)));
}

#[tokio::test(start_paused = true)]
async fn an_inspection_interrupts_neither_the_age_nor_the_idle_time() {
    let (pool, _) = pool(timed(1));
    drop(pool.get().await.unwrap());
    for _ in 0..10 {
        sleep(Duration::from_secs(1)).await;
        pool.inspect_idle();
    }
    let [idle] = &pool.connections(9)[..] else {
        panic!("one")
    };
    assert_eq!(
        (idle.idle, idle.age),
        (Duration::from_secs(10), Duration::from_secs(10))
    );
}

#[tokio::test(start_paused = true)]
async fn a_connection_handed_over_was_not_idle() {
    let (pool, _) = pool(timed(1));
    let first = pool.get_owned().await.unwrap();
    sleep(Duration::from_secs(1)).await;
    let waiting = tokio::spawn({
        let pool = pool.clone();
        async move { pool.get().await.unwrap().info() }
    });
    settle().await;
    drop(first);
    let info = waiting.await.unwrap();
    assert_eq!((info.idle, info.uses), (Duration::ZERO, 2));
}

/// Its connections lead to a place.
struct Named;

impl Manager for Named {
    type Connection = &'static str;
    type Error = std::io::Error;

    async fn connect(&self) -> Result<&'static str, std::io::Error> {
        Ok("db1:5432")
    }

    fn peer(&self, connection: &&'static str) -> Option<Arc<str>> {
        Some((*connection).into())
    }
}

#[tokio::test(start_paused = true)]
async fn the_peer_is_what_the_manager_says_in_the_list_and_in_every_hook() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let note = |name: &'static str| {
        let seen = seen.clone();
        move |info: cenote_pool::ConnectionInfo| seen.lock().unwrap().push((name, info.peer, info.uses))
    };
    let (before, after, last) = (note("before"), note("after"), note("close"));
    let hooks = Hooks::<Named>::new()
        .before_acquire(move |_, info| {
            before(info);
            Box::pin(async { Ok(Decision::Keep) })
        })
        .after_release(move |_, info| {
            after(info);
            Box::pin(async { Ok(Decision::Keep) })
        })
        .on_close(move |_, info, _| {
            last(info);
            Box::pin(async {})
        });
    let pool = Pool::with_hooks(Named, timed(1), hooks).unwrap();
    for _ in 0..2 {
        let held = pool.get().await.unwrap();
        assert_eq!(held.info().peer.as_deref(), Some("db1:5432"));
        drop(held);
        settle().await;
    }
    assert_eq!(pool.connections(1)[0].peer.as_deref(), Some("db1:5432"));
    pool.close().await;
    let seen = std::mem::take(&mut *seen.lock().unwrap());
    let turns: Vec<_> = seen.iter().map(|(name, _, uses)| (*name, *uses)).collect();
    assert_eq!(
        turns,
        [("before", 1), ("after", 1), ("before", 2), ("after", 2), ("close", 2)]
    );
    assert!(seen.iter().all(|(_, peer, _)| peer.as_deref() == Some("db1:5432")));
}
