//! COPY moves any amount of data in bounded memory, takes effect completely or not at all, and always leaves its
//! connection clean.

use std::time::Duration;

use bytes::Bytes;
use cenote_postgres::{Error, Pool};
use futures_util::{SinkExt, StreamExt, TryStreamExt, stream};
use tokio::time::timeout;

use crate::support::{
    self, SOON, database, give_up_after,
    single::{assert_as_new, one},
};

const IN: &str = "COPY entry FROM STDIN";

#[tokio::test]
async fn a_million_rows_go_in_and_come_out() {
    let (pool, process_id, watcher) = one().await;
    let connection = pool.get().await.unwrap();
    let mut copy = connection.copy_in(IN).await.unwrap();
    for thousand in 1000..2000 {
        let lines: String = (0..1000).map(|i| format!("{}\n", thousand * 1000 + i)).collect();
        copy.send(lines.into()).await.unwrap();
    }
    assert_eq!(copy.finish().await.unwrap(), 1_000_000);
    assert_eq!(watcher.rows_of("entry").await, 1_000_000);

    let out = "COPY (SELECT id FROM entry ORDER BY id) TO STDOUT";
    let copy = connection.copy_out(out).await.unwrap();
    let (mut next, mut rest) = (1_000_000, Vec::new());
    let mut copy = std::pin::pin!(copy);
    while let Some(bytes) = copy.try_next().await.unwrap() {
        rest.extend_from_slice(&bytes);
        while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = rest.drain(..=end).collect();
            let line = std::str::from_utf8(&line[..end]).unwrap();
            assert_eq!(line.parse::<i32>().unwrap(), next);
            next += 1;
        }
    }
    assert_eq!(next, 2_000_000);
    drop(connection);
    assert_as_new(&pool, process_id, &watcher).await;
    assert_eq!(pool.stats().pool.connects, 1);
}

#[tokio::test]
async fn a_copy_in_is_a_sink_for_a_stream() {
    let (pool, _, watcher) = one().await;
    let connection = pool.get().await.unwrap();
    let mut copy = connection.copy_in(IN).await.unwrap();
    let mut lines = stream::iter(1..=5).map(|i| Ok(Bytes::from(format!("{i}\n"))));
    copy.send_all(&mut lines).await.unwrap();
    assert_eq!(copy.finish().await.unwrap(), 5);
    let mut copy = connection.copy_in(IN).await.unwrap();
    SinkExt::send(&mut copy, Bytes::from_static(b"6\n")).await.unwrap();
    SinkExt::close(&mut copy).await.unwrap();
    assert_eq!(watcher.rows_of("entry").await, 6);
}

#[tokio::test]
async fn data_that_the_server_refuses_undoes_the_whole_copy_and_the_error_says_why() {
    let (pool, process_id, watcher) = one().await;
    for bad in ["not a number\n", "1\n"] {
        let connection = pool.get().await.unwrap();
        let mut copy = connection.copy_in(IN).await.unwrap();
        copy.send("1\n".into()).await.unwrap();
        copy.send(bad.into()).await.unwrap();
        let error = copy.finish().await.unwrap_err();
        assert!(matches!(error, Error::Database(_)), "{error:?}");
        assert!(!error.is_outcome_unknown());
        drop(connection);
        assert_eq!(watcher.rows_of("entry").await, 0);
    }
    assert_as_new(&pool, process_id, &watcher).await;
}

#[tokio::test]
async fn a_copy_in_dropped_half_way_is_undone_and_its_connection_clean() {
    let (pool, process_id, watcher) = one().await;
    let many: Bytes = (1..100_000).map(|i| format!("{i}\n")).collect::<String>().into();
    for (pieces, flush) in [(0, false), (1, false), (1, true), (20, true)] {
        let connection = pool.get().await.unwrap();
        let mut copy = connection.copy_in(IN).await.unwrap();
        for _ in 0..pieces {
            copy.send(many.clone()).await.unwrap();
        }
        if flush {
            copy.flush().await.unwrap();
        }
        drop(copy);
        drop(connection);
        assert_as_new(&pool, process_id, &watcher).await;
        watcher.run("TRUNCATE entry").await;
    }
    assert_eq!(pool.stats().pool.connects, 1);
}

/// In any case the next connection is clean, and the table has at most this one row.
#[tokio::test]
async fn a_copy_in_given_up_at_any_await_is_undone() {
    let (pool, _, watcher) = one().await;
    for polls in 0..40 {
        let connection = pool.get().await.unwrap();
        let copied = give_up_after(polls, async {
            let mut copy = connection.copy_in(IN).await?;
            copy.send("1\n".into()).await?;
            copy.flush().await?;
            copy.finish().await
        })
        .await;
        drop(connection);
        let connection = timeout(SOON, pool.get()).await.unwrap().unwrap();
        let row = connection.query_one("SELECT $1::int", &[&polls.cast_signed()]).await;
        assert_eq!(row.unwrap().get::<_, i32>(0), polls.cast_signed());
        if let Some(result) = copied {
            assert_eq!(result.unwrap(), 1);
            assert!(polls > 2, "never given up half-way");
            return;
        }
        let rows = watcher.rows_of("entry").await;
        assert!(rows <= 1, "{rows} rows after {polls} polls");
        watcher.run("TRUNCATE entry").await;
    }
    panic!("it never ends");
}

#[tokio::test]
async fn a_copy_out_dropped_half_way_is_cancelled_when_its_connection_is_given_back() {
    let (pool, process_id, watcher) = one().await;
    let connection = pool.get().await.unwrap();
    let endless = "COPY (SELECT repeat('x', 1000), pg_sleep(0.001) \
                   FROM generate_series(1, 100000)) TO STDOUT";
    let mut copy = connection.copy_out(endless).await.unwrap();
    copy.next().await.unwrap().unwrap();
    drop(copy);
    drop(connection);
    assert_as_new(&pool, process_id, &watcher).await;
    assert_eq!(pool.stats().pool.connects, 1);
}

#[tokio::test]
async fn a_refused_copy_says_why_and_costs_its_connection_only() {
    let (pool, _, watcher) = one().await;
    for refused in ["COPY nowhere FROM STDIN", "COPY nowhere TO STDOUT"] {
        let connection = pool.get().await.unwrap();
        let error = match refused.contains("FROM") {
            true => connection.copy_in(refused).await.unwrap_err(),
            false => connection.copy_out(refused).await.unwrap_err(),
        };
        assert_eq!(error.code().unwrap().code(), "42P01");
        assert!(!error.is_outcome_unknown());
        drop(connection);
        let connection = timeout(SOON, pool.get()).await.unwrap().unwrap();
        assert_as_new_on(&pool, connection, &watcher).await;
    }
}

async fn assert_as_new_on(pool: &Pool, connection: cenote_postgres::Pooled<'_>, watcher: &support::Watcher) {
    let process_id = connection.process_id();
    drop(connection);
    assert_as_new(pool, process_id, watcher).await;
    watcher.run("TRUNCATE entry").await;
}

#[tokio::test]
async fn a_sink_of_the_driver_held_past_the_return_costs_its_connection_and_nobody_elses() {
    let (pool, process_id, watcher) = one().await;
    let connection = pool.get().await.unwrap();
    let sink = connection.client().copy_in::<_, Bytes>(IN).await.unwrap();
    drop(connection);
    let connection = timeout(SOON, pool.get()).await.unwrap().unwrap();
    assert_ne!(connection.process_id(), process_id);
    assert_as_new_on(&pool, connection, &watcher).await;
    watcher.sees_gone(process_id).await;
    drop(sink);
}

/// Another session blocks the table, so the data piles up until the socket takes no more.
#[tokio::test]
async fn a_server_that_takes_no_data_means_a_timeout_and_is_told_to_stop() {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher.run("CREATE TABLE entry (id int PRIMARY KEY)").await;
    let mut config = database.config(1);
    config.command_timeout = Some(Duration::from_secs(1));
    let pool = Pool::new(config).unwrap();
    let connection = pool.get().await.unwrap();
    let process_id = connection.process_id();
    let mut copy = connection.copy_in(IN).await.unwrap();
    copy.send("1\n".into()).await.unwrap();
    copy.flush().await.unwrap();
    // The server waits for this row of the same key, which is not committed.
    let rival = database.watcher().await;
    rival.run("BEGIN; INSERT INTO entry VALUES (2)").await;
    let many: Bytes = (2..100_000).map(|i| format!("{i}\n")).collect::<String>().into();
    let error = loop {
        if let Err(error) = copy.send(many.clone()).await {
            break error;
        }
    };
    assert!(matches!(error, Error::Timeout(_)), "{error:?}");
    drop(copy);
    drop(connection);
    // The row is still blocked, and yet the session ends.
    watcher.sees_gone(process_id).await;
    rival.run("ROLLBACK").await;
    assert_as_new_on(&pool, pool.get().await.unwrap(), &watcher).await;
}

#[tokio::test]
async fn a_copy_is_part_of_its_transaction() {
    let (pool, process_id, watcher) = one().await;
    for commit in [false, true] {
        let transaction = pool.begin().await.unwrap();
        let mut copy = transaction.copy_in(IN).await.unwrap();
        copy.send("1\n2\n".into()).await.unwrap();
        assert_eq!(copy.finish().await.unwrap(), 2);
        match commit {
            true => transaction.commit().await.unwrap(),
            false => drop(transaction),
        }
        let rows = watcher.rows_of("entry").await;
        assert_eq!(rows, if commit { 2 } else { 0 });
    }
    assert_as_new(&pool, process_id, &watcher).await;
}
