//! No notification is lost without a [`Gap`](Event::Gap), whatever happens to the session, the server or the reader.

use std::{cell::Cell, collections::HashSet, pin::pin, time::Duration};

use cenote_postgres::{Error, Event, Listener, ListenerOptions};
use tokio::time::{Instant, sleep, timeout};

use crate::support::{Database, SLACK, SOON, Watcher, database, database_on, server, until};

/// The timeout is long, so that a busy server is not taken for a silent one.
const OPTIONS: ListenerOptions = ListenerOptions {
    buffer: 1000,
    check_every: Duration::from_millis(300),
    check_timeout: SOON,
};

const SESSIONS: &str = "FROM pg_stat_activity WHERE datname = current_database() \
                        AND application_name = 'cenote listener'";

async fn listener(database: &Database, channel: &str) -> Listener {
    listener_with(database, channel, OPTIONS).await
}

async fn listener_with(database: &Database, channel: &str, options: ListenerOptions) -> Listener {
    let config = database.config(1);
    let listener = Listener::connect_with(&config, options).await.unwrap();
    listener.listen(channel).await.unwrap();
    listener
}

async fn notify(watcher: &Watcher, channel: &str, payload: &str) {
    let sql = format!("SELECT pg_notify('{channel}', '{payload}')");
    watcher.run(&sql).await;
}

async fn next(listener: &mut Listener) -> Event {
    timeout(SOON, listener.recv()).await.unwrap()
}

/// The payload of the next event, which is a notification.
async fn heard(listener: &mut Listener) -> String {
    match next(listener).await {
        Event::Notification { payload, .. } => payload,
        Event::Gap => panic!("a gap"),
    }
}

/// The process of the only session that listens.
async fn process_id(watcher: &Watcher) -> u32 {
    let sql = format!("SELECT pid::bigint {SESSIONS}");
    u32::try_from(watcher.number(&sql, &[]).await).unwrap()
}

/// Checks that no event waits: a notification that is sent now is received next.
async fn assert_nothing_else(listener: &mut Listener, watcher: &Watcher, channel: &str) {
    notify(watcher, channel, "the end").await;
    assert_eq!(heard(listener).await, "the end");
}

#[tokio::test]
async fn notifications_are_received_in_order_and_complete() {
    let database = database().await;
    let watcher = database.watcher().await;
    let mut listener = listener(&database, "news").await;
    watcher.run("NOTIFY NEWS").await;
    for i in 0..100 {
        notify(&watcher, "news", &format!("number {i}")).await;
    }
    let event = next(&mut listener).await;
    let Event::Notification {
        channel,
        payload,
        process_id,
    } = event
    else {
        panic!("{event:?}");
    };
    assert_eq!((&*channel, &*payload), ("news", ""));
    let sql = "SELECT pg_backend_pid()::bigint";
    assert_eq!(i64::from(process_id), watcher.number(sql, &[]).await);
    for i in 0..100 {
        assert_eq!(heard(&mut listener).await, format!("number {i}"));
    }
}

#[tokio::test]
async fn a_channel_may_have_any_name() {
    let database = database().await;
    let watcher = database.watcher().await;
    let config = database.config(1);
    let mut listener = Listener::connect(&config).await.unwrap();
    let longest = "x".repeat(63);
    for name in ["Großer Kanal", "a\"; DROP TABLE x; --", "select", &longest] {
        listener.listen(name).await.unwrap();
        notify(&watcher, name, "hello").await;
        let Event::Notification { channel, .. } = next(&mut listener).await else {
            panic!("a gap");
        };
        assert_eq!(channel, name);
    }
    for name in ["", &"x".repeat(64)] {
        let error = listener.listen(name).await.unwrap_err();
        assert!(matches!(error, Error::ChannelName), "{error:?}");
    }
    let error = listener.listen("zero\0").await.unwrap_err();
    assert!(matches!(error, Error::NotSent(_)), "{error:?}");
    assert_nothing_else(&mut listener, &watcher, "select").await;
}

#[tokio::test]
async fn nothing_is_received_from_a_channel_after_unlisten() {
    let database = database().await;
    let watcher = database.watcher().await;
    let mut listener = listener(&database, "news").await;
    listener.listen("gossip").await.unwrap();
    listener.unlisten("gossip").await.unwrap();
    notify(&watcher, "gossip", "psst").await;
    assert_nothing_else(&mut listener, &watcher, "news").await;
    // A new session does not listen to it again.
    watcher.terminate(process_id(&watcher).await).await;
    assert_eq!(next(&mut listener).await, Event::Gap);
    notify(&watcher, "gossip", "psst").await;
    assert_nothing_else(&mut listener, &watcher, "news").await;
}

#[tokio::test]
async fn a_session_that_is_ended_is_replaced_and_gives_one_gap() {
    let database = database().await;
    let watcher = database.watcher().await;
    let mut listener = listener(&database, "news").await;
    for round in 0..5 {
        assert_nothing_else(&mut listener, &watcher, "news").await;
        watcher.terminate(process_id(&watcher).await).await;
        assert_eq!(next(&mut listener).await, Event::Gap, "round {round}");
        assert!(listener.is_connected());
    }
    assert_nothing_else(&mut listener, &watcher, "news").await;
}

#[tokio::test]
async fn a_server_that_comes_back_is_listened_to_again() {
    let server = server().await;
    let database = database_on(&server).await;
    let mut listener = listener(&database, "news").await;
    server.kill().await.unwrap();
    until("the loss is noticed", async || !listener.is_connected()).await;
    {
        // Begun while there is no server.
        let mut listening = pin!(listener.listen("more"));
        assert!(timeout(Duration::ZERO, &mut listening).await.is_err());
        let (listening, restarted) = tokio::join!(timeout(SOON, listening), server.restart());
        listening.unwrap().unwrap();
        restarted.unwrap();
    }
    assert_eq!(next(&mut listener).await, Event::Gap);
    let watcher = database.watcher().await;
    notify(&watcher, "more", "hello").await;
    assert_eq!(heard(&mut listener).await, "hello");
    assert_nothing_else(&mut listener, &watcher, "news").await;
}

#[tokio::test]
async fn a_server_that_falls_silent_is_noticed_within_the_bound() {
    let server = server().await;
    let database = database_on(&server).await;
    let options = ListenerOptions {
        check_timeout: Duration::from_millis(700),
        ..OPTIONS
    };
    let mut listener = listener_with(&database, "news", options).await;
    server.freeze().await.unwrap();
    let frozen = Instant::now();
    until("the silence is noticed", async || !listener.is_connected()).await;
    let (noticed, bound) = (frozen.elapsed(), options.check_every + options.check_timeout);
    assert!(noticed < bound + SLACK, "{noticed:?}");
    server.thaw().await.unwrap();
    assert_eq!(next(&mut listener).await, Event::Gap);
    let watcher = database.watcher().await;
    assert_nothing_else(&mut listener, &watcher, "news").await;
}

#[tokio::test]
async fn a_flood_that_is_not_read_gives_one_gap_after_the_notifications_that_were_kept() {
    let database = database().await;
    let watcher = database.watcher().await;
    let mut listener = listener(&database, "news").await;
    let flood = "SELECT pg_notify('news', i::text) FROM generate_series(1, 5000) i";
    watcher.run(flood).await;
    // Answered after the flood has arrived.
    listener.listen("other").await.unwrap();
    assert_eq!(heard(&mut listener).await, "1");
    // There is room for this one, but it must not be received before the gap.
    notify(&watcher, "news", "too late").await;
    listener.listen("another").await.unwrap();
    for i in 2..=OPTIONS.buffer {
        assert_eq!(heard(&mut listener).await, i.to_string());
    }
    assert_eq!(next(&mut listener).await, Event::Gap);
    assert_nothing_else(&mut listener, &watcher, "news").await;
}

/// A slow reader, floods, and a session that is ended several times: between two gaps nothing is missing.
#[tokio::test]
async fn nothing_is_lost_without_a_gap() {
    let database = database().await;
    let watcher = database.watcher().await;
    let mut listener = listener(&database, "news").await;
    let killer = database.watcher().await;
    let kills = Cell::new(0);
    const LAST: u32 = 20_000;
    let speaking = async {
        for i in (1..=LAST).step_by(100) {
            let hundred = format!(
                "SELECT pg_notify('news', i::text) FROM generate_series({i}, {}) i",
                i + 99
            );
            watcher.run(&hundred).await;
            if i % 4000 == 2001 {
                let there = format!("SELECT count(*) {SESSIONS}");
                until("the listener has a session", async || {
                    killer.number(&there, &[]).await > 0
                })
                .await;
                let sql = format!("SELECT count(pg_terminate_backend(pid)) {SESSIONS}");
                kills.set(kills.get() + killer.number(&sql, &[]).await);
            }
        }
        // Repeated until it is received, because the listener may have no session at that moment.
        loop {
            notify(&watcher, "news", "0").await;
            sleep(Duration::from_millis(20)).await;
        }
    };
    let hearing = async {
        let (mut heard, mut gaps, mut last, mut after_gap) = (HashSet::new(), 0, 0, false);
        loop {
            match listener.recv().await {
                Event::Gap => {
                    gaps += 1;
                    after_gap = true;
                }
                Event::Notification { payload, .. } => {
                    let number: u32 = payload.parse().unwrap();
                    if number == 0 {
                        break (heard, gaps);
                    }
                    assert!(heard.insert(number), "{number} was heard twice");
                    assert!(number > last, "{number} after {last}");
                    assert!(number == last + 1 || after_gap, "{last}, then {number}, and no gap");
                    (last, after_gap) = (number, false);
                    if number.is_multiple_of(500) {
                        // The reader is slow, so that its buffer overflows.
                        sleep(Duration::from_millis(20)).await;
                    }
                }
            }
        }
    };
    let (heard, gaps) = tokio::select! {
        heard = timeout(6 * SOON, hearing) => heard.unwrap(),
        () = speaking => unreachable!(),
    };
    let kills = kills.get();
    assert_eq!(kills, 5, "not every session was ended");
    assert!(gaps > 0 && !heard.is_empty(), "{gaps} gaps for {kills}");
}

#[tokio::test]
async fn a_dropped_listener_leaves_no_session() {
    let database = database().await;
    let watcher = database.watcher().await;
    let listener = listener(&database, "news").await;
    let process_id = process_id(&watcher).await;
    drop(listener);
    watcher.sees_gone(process_id).await;
}

#[tokio::test]
async fn a_listener_whose_first_connect_fails_is_an_error() {
    let server = server().await;
    let database = database_on(&server).await;
    server.kill().await.unwrap();
    let refused = Listener::connect(&database.config(1)).await.unwrap_err();
    assert!(refused.to_string().contains("cannot reach"), "{refused}");
}
