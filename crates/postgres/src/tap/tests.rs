//! Verdicts against a real server, and what giving a connection back makes of
//! them.
//!
//! Invariant checked: a quiet verdict agrees with what the server says of itself.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{CancelToken, Client};

use super::testing::{Server, server, within};
use super::{Dirt, Link, TransactionStatus, Verdict, cancel};
use crate::connect::socket::Socket;

const CLEAN: Verdict = Verdict::Quiet {
    transaction: TransactionStatus::Idle,
    dirt: Dirt::NONE,
};

fn quiet(transaction: TransactionStatus, dirt: Dirt) -> Verdict {
    Verdict::Quiet { transaction, dirt }
}

/// Polls a future as often as asked and drops it: a caller who gave up.
async fn poll_times<F: Future>(future: F, times: u32) -> Option<F::Output> {
    let mut future = pin!(future);
    for time in 0..times {
        if time > 0 {
            tokio::task::yield_now().await;
        }
        if let Poll::Ready(output) = poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx))).await {
            return Some(output);
        }
    }
    None
}

async fn cancel_on(server: &Server, token: &CancelToken) {
    cancel(token, Socket::Tcp(server.tcp().await), within(2_000))
        .await
        .unwrap();
}

/// What to do with a connection that comes back. True if it may be used again.
async fn give_back(server: &Server, client: &Client, link: &Link) -> bool {
    for _ in 0..4 {
        match link.poll_inline() {
            Verdict::Busy | Verdict::Unfinished { .. } => {}
            verdict => return clean_up(client, link, verdict).await,
        }
        let verdict = link.wait_quiet(within(2)).await;
        if verdict.is_cancellable() {
            cancel_on(server, &client.cancel_token()).await;
            link.wait_quiet(within(200)).await;
        } else if let Verdict::Unfinished { .. } = verdict {
            return false;
        }
    }
    false
}

async fn clean_up(client: &Client, link: &Link, verdict: Verdict) -> bool {
    let Verdict::Quiet { transaction, dirt } = verdict else {
        return false;
    };
    if verdict == CLEAN {
        return true;
    }
    if dirt.contains(Dirt::STATEMENTS) {
        return false;
    }
    let rollback = if transaction == TransactionStatus::Idle {
        "select 1"
    } else {
        "rollback"
    };
    let reset = "; close all; unlisten *; reset session authorization; reset all";
    let statements = format!("{rollback}{}", if dirt.is_none() { "" } else { reset });
    let done = client.batch_execute(&statements).await.is_ok();
    let Verdict::Quiet {
        transaction: TransactionStatus::Idle,
        dirt,
    } = link.settle(within(100)).await
    else {
        return false;
    };
    link.clear_dirt(dirt);
    done && link.verdict() == CLEAN
}

async fn state_of(watcher: &Client, link: &Link) -> Option<String> {
    let id = i32::try_from(link.process_id()).unwrap();
    let rows = watcher
        .query(
            "select coalesce(state, '') from pg_stat_activity where pid = $1",
            &[&id],
        )
        .await
        .unwrap();
    rows.first().map(|row| row.get(0))
}

#[tokio::test]
async fn after_a_query_it_is_clean_on_any_stream() {
    let server = server().await;
    for (client, link) in [server.connect().await, server.connect_unix().await] {
        assert_eq!(link.verdict(), CLEAN);
        assert_eq!(client.query_one("select 1", &[]).await.unwrap().get::<_, i32>(0), 1);
        // The statement was dropped and closes itself.
        assert_eq!(link.wait_quiet(within(1_000)).await, CLEAN);
        assert!(client.batch_execute("select nonsense").await.is_err());
        assert_eq!(link.wait_quiet(within(1_000)).await, CLEAN);
        assert_eq!(link.take_error().unwrap().as_str(), SqlState::UNDEFINED_COLUMN.code());
        assert_eq!(link.take_error(), None);
    }
}

#[tokio::test]
async fn a_request_in_the_channel_is_seen_at_once() {
    let server = server().await;
    let (client, link) = server.connect().await;
    assert!(poll_times(client.batch_execute("begin"), 1).await.is_none());
    assert_eq!(link.verdict(), Verdict::Busy);
    assert!(matches!(link.poll_inline(), Verdict::Unfinished { owed: true, .. }));
    let open = quiet(TransactionStatus::Open, Dirt::NONE);
    assert_eq!(link.wait_quiet(within(1_000)).await, open);
    assert!(give_back(server, &client, &link).await);
}

#[tokio::test]
async fn a_dropped_query_is_cancelled_and_then_quiet() {
    let server = server().await;
    let (client, link) = server.connect().await;
    assert!(
        poll_times(client.batch_execute("select pg_sleep(60)"), 1)
            .await
            .is_none()
    );
    let verdict = link.wait_quiet(within(20)).await;
    assert!(verdict.is_cancellable(), "{verdict:?}");
    cancel_on(server, &client.cancel_token()).await;
    assert_eq!(link.wait_quiet(within(1_000)).await, CLEAN);
    assert_eq!(link.take_error().unwrap().as_str(), SqlState::QUERY_CANCELED.code());
}

#[tokio::test]
async fn a_held_row_stream_is_not_quiet() {
    let server = server().await;
    let (client, link) = server.connect().await;
    let many = "select repeat('x', 1000) from generate_series(1, 3000)";
    let stream = client.query_raw(many, Vec::<i32>::new()).await.unwrap();
    let verdict = link.wait_quiet(within(50)).await;
    assert!(
        matches!(verdict, Verdict::Unfinished { drained: false, .. }),
        "{verdict:?}"
    );
    drop(stream);
    assert_eq!(link.wait_quiet(within(1_000)).await, CLEAN);
}

#[tokio::test]
async fn transactions_left_behind_show() {
    let server = server().await;
    let (mut client, link) = server.connect().await;
    client.batch_execute("begin; select 1").await.unwrap();
    assert_eq!(
        link.settle(within(1_000)).await,
        quiet(TransactionStatus::Open, Dirt::NONE)
    );
    client.batch_execute("select 1/0").await.unwrap_err();
    let failed = quiet(TransactionStatus::Failed, Dirt::NONE);
    assert_eq!(link.wait_quiet(within(1_000)).await, failed);
    assert!(give_back(server, &client, &link).await);

    // A dropped transaction rolls back by itself, but nobody waits for it.
    let transaction = client.transaction().await.unwrap();
    transaction.batch_execute("select 1").await.unwrap();
    drop(transaction);
    assert_eq!(link.verdict(), Verdict::Busy);
    assert_eq!(link.wait_quiet(within(1_000)).await, CLEAN);
}

#[tokio::test]
async fn dirt_shows_and_is_forgotten_once_cleaned() {
    let server = server().await;
    let (client, link) = server.connect().await;
    let cases = [
        ("set statement_timeout = 5000", Dirt::CLAIMED),
        ("listen gossip", Dirt::SESSION),
        ("select set_config('TimeZone', 'CET', false)", Dirt::SESSION),
        ("prepare p as select 1", Dirt::STATEMENTS),
    ];
    for (statement, dirt) in cases {
        client.batch_execute(statement).await.unwrap();
        let verdict = link.settle(within(1_000)).await;
        assert_eq!(verdict, quiet(TransactionStatus::Idle, dirt), "{statement}");
        link.clear_dirt(dirt);
        assert_eq!(link.verdict(), CLEAN);
    }
    client.batch_execute("set work_mem = '1MB'").await.unwrap();
    assert!(give_back(server, &client, &link).await);
    assert_eq!(link.verdict(), CLEAN);
}

#[tokio::test]
async fn a_copy_in_held_or_dropped_is_never_taken_for_quiet() {
    let server = server().await;
    let (client, link) = server.connect().await;
    client.batch_execute("create temp table t (a int)").await.unwrap();
    link.settle(within(1_000)).await;
    link.clear_dirt(Dirt::SESSION);

    let mut sink = pin!(client.copy_in::<_, Bytes>("copy t from stdin").await.unwrap());
    sink.send(Bytes::from_static(b"1\n")).await.unwrap();
    let verdict = link.wait_quiet(within(20)).await;
    assert!(
        matches!(verdict, Verdict::Unfinished { copy_in: true, .. }),
        "{verdict:?}"
    );
    assert_eq!(sink.finish().await.unwrap(), 1);
    assert_eq!(link.wait_quiet(within(1_000)).await, CLEAN);

    let copy = client.prepare("copy t from stdin").await.unwrap();
    for times in 1..6 {
        drop(poll_times(client.copy_in::<_, Bytes>(&copy), times).await);
        let verdict = link.wait_quiet(within(1_000)).await;
        assert_eq!(verdict, quiet(TransactionStatus::Idle, Dirt::UNPROVEN));
        assert!(give_back(server, &client, &link).await);
    }
}

#[tokio::test]
async fn a_refused_copy_in_breaks_the_connection_rather_than_shift_answers() {
    let server = server().await;
    // Refused before the server says it takes the data, and after.
    for refused in ["copy pg_class from stdin", "copy v from stdin"] {
        let (client, link) = server.connect().await;
        client
            .batch_execute("create temp view v as select 1 as a")
            .await
            .unwrap();
        let copy = client.prepare(refused).await.unwrap();
        if refused.contains("pg_class") {
            client.batch_execute("set role pg_monitor").await.unwrap();
        }
        drop(client.copy_in::<_, Bytes>(&copy).await);
        assert!(!give_back(server, &client, &link).await, "{refused}");
        assert!(client.query("select 1", &[]).await.is_err());
        tokio::time::timeout(Duration::from_secs(5), link.closed())
            .await
            .unwrap();
        assert!(link.end_reason().is_some());
    }
}

#[tokio::test]
async fn a_held_copy_out_is_not_quiet() {
    let server = server().await;
    let (client, link) = server.connect().await;
    let many = "copy (select repeat('x', 1000) from generate_series(1, 3000)) to stdout";
    let mut stream = Box::pin(client.copy_out(many).await.unwrap());
    assert!(stream.next().await.is_some());
    let verdict = link.wait_quiet(within(50)).await;
    assert!(
        matches!(verdict, Verdict::Unfinished { drained: false, .. }),
        "{verdict:?}"
    );
    drop(stream);
    assert_eq!(link.wait_quiet(within(1_000)).await, CLEAN);
}

#[tokio::test]
async fn a_terminated_backend_breaks_it_and_says_why() {
    let server = server().await;
    let (watcher, _watching) = server.connect().await;
    let (_client, link) = server.connect().await;
    let id = i32::try_from(link.process_id()).unwrap();
    watcher
        .execute("select pg_terminate_backend($1)", &[&id])
        .await
        .unwrap();
    tokio::time::timeout(Duration::from_secs(5), link.closed())
        .await
        .unwrap();
    assert!(link.is_broken());
    assert_eq!(link.take_error().unwrap().as_str(), SqlState::ADMIN_SHUTDOWN.code());
    let reason = link.end_reason().unwrap();
    assert!(reason.contains("administrator command"), "{reason}");
}

#[tokio::test]
async fn closed_means_the_backend_has_exited() {
    let server = server().await;
    let (watcher, _watching) = server.connect().await;
    for _ in 0..20 {
        let (client, link) = server.connect().await;
        drop(client);
        link.closed().await;
        assert_eq!(state_of(&watcher, &link).await, None);
    }
    let (client, link) = server.connect().await;
    link.abort();
    assert_eq!(link.verdict(), Verdict::Broken);
    link.closed().await;
    assert!(client.batch_execute("select 1").await.is_err());
}

#[tokio::test]
async fn a_cancel_never_hits_the_next_statement() {
    let server = server().await;
    let (client, link) = server.connect().await;
    let token = client.cancel_token();
    for round in 0..200 {
        // Ends about when the cancel arrives.
        let seconds = f64::from(round % 10) * 0.0005;
        let sleep = format!("select pg_sleep({seconds})");
        let _gave_up = poll_times(client.batch_execute(&sleep), 1).await;
        link.poll_inline();
        cancel_on(server, &token).await;
        let verdict = link.wait_quiet(within(2_000)).await;
        assert_eq!(verdict, CLEAN);
        let next = client.batch_execute("select pg_sleep(0.001)").await;
        assert!(next.is_ok(), "round {round}: {next:?}");
    }
}

/// Something a caller may do with a connection before giving it back.
async fn misbehave(client: &mut Client, link: &Link, kept: &mut Vec<Pin<Box<dyn std::any::Any>>>) {
    let times = fastrand::u32(0..5);
    let many = "select repeat('x', 500) from generate_series(1, 2000)";
    match fastrand::u32(0..14) {
        0 => drop(poll_times(client.batch_execute("begin"), times).await),
        1 => drop(poll_times(client.batch_execute("begin; select pg_sleep(0.01)"), times).await),
        2 => drop(poll_times(client.batch_execute("select pg_sleep(30)"), times).await),
        3 => drop(poll_times(client.query(many, &[]), times).await),
        4 => drop(client.batch_execute("begin; select 1/0").await),
        5 => drop(client.batch_execute("set statement_timeout = 1234").await),
        6 => drop(client.transaction().await.map(drop)),
        7 => drop(poll_times(client.transaction(), times).await),
        8 => {
            let copy = client.copy_in::<_, Bytes>("copy tap_fuzz from stdin");
            drop(poll_times(copy, times).await);
        }
        9 => {
            if let Ok(sink) = client.copy_in::<_, Bytes>("copy tap_fuzz from stdin").await {
                let mut sink = Box::pin(sink);
                let _ = sink.send(Bytes::from_static(b"not a number\n")).await;
                match fastrand::u32(0..3) {
                    0 => drop(sink.as_mut().finish().await),
                    1 => drop(sink),
                    _ => kept.push(sink),
                }
            }
        }
        10 => {
            if let Ok(stream) = client.query_raw(many, Vec::<i32>::new()).await {
                let mut stream = Box::pin(stream);
                let _row = stream.next().await;
                if fastrand::bool() {
                    kept.push(stream);
                }
            }
        }
        11 => {
            let copy = "copy (select generate_series(1, 100000)) to stdout";
            if let Ok(stream) = client.copy_out(copy).await
                && fastrand::bool()
            {
                kept.push(Box::pin(stream));
            }
        }
        12 => drop(client.copy_in::<_, Bytes>("copy tap_fuzz_view from stdin").await),
        _ => drop(poll_times(client.query_one("select 1", &[]), times).await),
    }
    if fastrand::u32(0..8) == 0 {
        link.poll_inline();
    }
}

/// The number of rounds: `CENOTE_TAP_FUZZ_ROUNDS`, or some hundreds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_caller_can_make_an_unclean_connection_look_clean() {
    let rounds = std::env::var("CENOTE_TAP_FUZZ_ROUNDS")
        .ok()
        .and_then(|it| it.parse().ok());
    let server = server().await;
    let (watcher, _watching) = server.connect().await;
    let schema = "create table if not exists tap_fuzz (a int);
        create or replace view tap_fuzz_view as select 1 as a";
    watcher.batch_execute(schema).await.unwrap();
    let seed = fastrand::u64(..);
    fastrand::seed(seed);
    let (mut reused, mut destroyed) = (0, 0);
    let (mut client, mut link) = server.connect().await;
    for round in 0..rounds.unwrap_or(400) {
        let mut kept = Vec::new();
        for _ in 0..fastrand::u32(1..3) {
            let lease = misbehave(&mut client, &link, &mut kept);
            let _late = tokio::time::timeout(Duration::from_millis(15), lease).await;
        }
        if fastrand::bool() {
            kept.clear();
        }
        if !give_back(server, &client, &link).await {
            destroyed += 1;
            link.abort();
            (client, link) = server.connect().await;
            continue;
        }
        reused += 1;
        let state = state_of(&watcher, &link).await;
        assert_eq!(state.as_deref(), Some("idle"), "seed {seed}, round {round}");
        assert_eq!(link.verdict(), CLEAN, "seed {seed}, round {round}");
        // The next user gets an answer, and it is the one to this question.
        let question = "select $1::int4, current_setting('statement_timeout')";
        let parameters: [&(dyn ToSql + Sync); 1] = [&round];
        let next = client.query_one(question, &parameters);
        let row = tokio::time::timeout(Duration::from_secs(5), next).await;
        let row = row.expect("the next query hangs").expect("the next query fails");
        assert_eq!((row.get(0), row.get(1)), (round, "0"), "seed {seed}");
    }
    assert!(reused > destroyed, "reused {reused}, destroyed {destroyed}");
}
