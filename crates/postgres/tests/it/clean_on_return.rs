//! Nothing that one user of a connection leaves unfinished reaches the next, and the return of a clean connection sends
//! nothing to the server.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use cenote_postgres::{
    Pool, Retired,
    tokio_postgres::{self, config::Host},
};
use futures_util::StreamExt;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::support::{
    SOON, database, give_up_after,
    single::{assert_as_new, one, text},
};

#[tokio::test]
async fn a_dropped_transaction_is_rolled_back() {
    let (pool, process_id, watcher) = one().await;
    let mut connection = pool.get().await.unwrap();
    let transaction = connection.transaction().await.unwrap();
    let insert = "INSERT INTO entry VALUES (1)";
    transaction.execute(insert, &[]).await.unwrap();
    let (state, _) = watcher.activity(process_id).await.unwrap();
    assert_eq!(state, "idle in transaction");
    drop(transaction);
    drop(connection);
    assert_as_new(&pool, process_id, &watcher).await;
    assert_eq!(watcher.rows_of("entry").await, 1);
}

#[tokio::test]
async fn a_transaction_begun_by_hand_is_rolled_back() {
    let (pool, process_id, watcher) = one().await;
    let connection = pool.get().await.unwrap();
    connection
        .batch_execute("BEGIN; INSERT INTO entry VALUES (1)")
        .await
        .unwrap();
    drop(connection);
    assert_as_new(&pool, process_id, &watcher).await;
    assert_eq!(watcher.rows_of("entry").await, 1);
}

#[tokio::test]
async fn a_failed_transaction_is_rolled_back() {
    let (pool, process_id, watcher) = one().await;
    let connection = pool.get().await.unwrap();
    connection.batch_execute("BEGIN").await.unwrap();
    connection.query("SELECT 1 / 0", &[]).await.unwrap_err();
    // The error arrives before the server has changed the state.
    let aborted = "idle in transaction (aborted)";
    watcher.sees(process_id, aborted).await;
    drop(connection);
    assert_as_new(&pool, process_id, &watcher).await;
}

#[tokio::test]
async fn a_dropped_query_is_cancelled_on_the_server_and_its_connection_is_used_again() {
    let (pool, process_id, watcher) = one().await;
    let connection = pool.get().await.unwrap();
    tokio::select! {
        ended = connection.query("SELECT pg_sleep(60)", &[]) => panic!("{ended:?}"),
        () = watcher.sees_running(process_id, "pg_sleep") => {}
    }
    drop(connection);
    watcher.sees_idle(process_id).await;
    assert_as_new(&pool, process_id, &watcher).await;
    assert_eq!(pool.stats().pool.connects, 1);
}

#[tokio::test]
async fn a_begin_dropped_at_any_await_leaves_no_transaction() {
    let (pool, process_id, watcher) = one().await;
    for polls in 1.. {
        let mut connection = pool.get().await.unwrap();
        let begun = give_up_after(polls, connection.transaction()).await;
        let finished = begun.is_some();
        drop(begun);
        drop(connection);
        let connection = pool.get().await.unwrap();
        assert_eq!(connection.process_id(), process_id);
        let (state, _) = watcher.activity(process_id).await.unwrap();
        assert_eq!(state, "idle", "begin dropped after {polls} polls");
        if finished {
            break;
        }
    }
}

#[tokio::test]
async fn a_begin_by_hand_dropped_after_one_poll_leaves_no_transaction() {
    let (pool, process_id, watcher) = one().await;
    for _ in 0..20 {
        let connection = pool.get().await.unwrap();
        give_up_after(1, connection.batch_execute("BEGIN")).await;
        drop(connection);
        let connection = pool.get().await.unwrap();
        assert_eq!(connection.process_id(), process_id);
        let (state, _) = watcher.activity(process_id).await.unwrap();
        assert_eq!(state, "idle");
    }
}

#[tokio::test]
async fn a_row_stream_held_past_the_return_costs_its_connection_and_nobody_elses() {
    let database = database().await;
    let watcher = database.watcher().await;
    let pool = database.pool(2);
    let (held, other) = (pool.get().await.unwrap(), pool.get().await.unwrap());
    let (held_id, other_id) = (held.process_id(), other.process_id());
    let rows = "SELECT repeat('x', 1000) FROM generate_series(1, 100000)";
    let stream = held.client().query_raw(rows, [0i32; 0]).await.unwrap();
    let mut stream = Box::pin(stream);
    stream.next().await.unwrap().unwrap();
    // If it were cancelled earlier, the few rows until then would be delivered, and the connection would be clean.
    watcher.sees_stuck(held_id).await;
    drop((held, other));

    for _ in 0..10 {
        let connection = timeout(SOON, pool.get()).await.unwrap().unwrap();
        assert_eq!(connection.process_id(), other_id);
        assert_eq!(text(&connection, "SELECT 'fine'").await, "fine");
    }
    watcher.sees_gone(held_id).await;
    assert_eq!(pool.stats().pool.retired(Retired::Broken), 1);
    drop(stream);
    let both = (pool.get().await.unwrap(), pool.get().await.unwrap());
    assert_ne!(both.0.process_id(), both.1.process_id());
}

/// A proxy that counts the bytes that go to the server.
async fn counting_proxy(server: (String, u16)) -> (u16, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let sent = Arc::new(AtomicU64::new(0));
    let counter = sent.clone();
    tokio::spawn(async move {
        loop {
            let (client, _) = listener.accept().await.unwrap();
            let server = TcpStream::connect(&server).await.unwrap();
            let ((mut from_client, mut to_client), (mut from_server, mut to_server)) =
                (client.into_split(), server.into_split());
            let counter = counter.clone();
            tokio::spawn(async move {
                let mut bytes = [0; 4096];
                while let Ok(count @ 1..) = from_client.read(&mut bytes).await {
                    counter.fetch_add(count as u64, Relaxed);
                    to_server.write_all(&bytes[..count]).await.unwrap();
                }
            });
            tokio::spawn(async move { tokio::io::copy(&mut from_server, &mut to_client).await });
        }
    });
    (port, sent)
}

#[tokio::test]
async fn a_clean_return_sends_nothing() {
    let database = database().await;
    let watcher = database.watcher().await;
    watcher.run("CREATE TABLE entry (id int)").await;
    let mut config = database.config(1);
    let [Host::Tcp(host)] = config.server.get_hosts() else {
        panic!("{config:?}");
    };
    let server = (host.clone(), config.server.get_ports()[0]);
    let (port, sent) = counting_proxy(server).await;
    let direct = config.server.clone();
    config.server = tokio_postgres::Config::new();
    config.server.host("127.0.0.1").port(port);
    config.server.user(direct.get_user().unwrap());
    config.server.dbname(direct.get_dbname().unwrap());
    if let Some(password) = direct.get_password() {
        config.server.password(password);
    }
    let pool = Pool::new(config).unwrap();

    // All of this ends well and leaves nothing to clean.
    let mut connection = pool.get().await.unwrap();
    let work = "SELECT id FROM entry WHERE id > $1";
    connection.query(work, &[&0]).await.unwrap();
    connection.query("nonsense", &[]).await.unwrap_err();
    let transaction = connection.transaction().await.unwrap();
    let insert = "INSERT INTO entry SELECT generate_series(1, 10)";
    transaction.execute(insert, &[]).await.unwrap();
    transaction.commit().await.unwrap();
    let rows = connection.query_stream(work, &[&0]).await.unwrap();
    assert_eq!(rows.collect::<Vec<_>>().await.len(), 10);
    let copy = connection.copy_out("COPY entry TO STDOUT").await.unwrap();
    assert_eq!(copy.collect::<Vec<_>>().await.len(), 10);
    let mut copy = connection.copy_in("COPY entry FROM STDIN").await.unwrap();
    copy.send("11\n".into()).await.unwrap();
    assert_eq!(copy.finish().await.unwrap(), 1);
    let timed = connection.query("SELECT pg_advisory_xact_lock(7)", &[]);
    timed.await.unwrap();

    let before = sent.load(Relaxed);
    drop(connection);
    for _ in 0..100 {
        drop(pool.get().await.unwrap());
    }
    // If anything had been queued in the driver, it would be sent before this.
    let connection = pool.get().await.unwrap();
    connection.query(work, &[&0]).await.unwrap();
    let once = sent.load(Relaxed) - before;
    connection.query(work, &[&0]).await.unwrap();
    let twice = sent.load(Relaxed) - before;
    assert!(once > 0, "nothing is counted");
    assert_eq!(twice, 2 * once, "more was sent than the queries");
    assert_eq!(pool.stats().pool.cleaned, 0);
    assert_eq!(pool.stats().pool.connects, 1);
}

/// The answer is delivered by a poll that has not ended yet when its reader, outside the runtime's workers, returns the
/// connection. A poll whose thread the machine suspends for long is excused.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn beside_a_multi_thread_runtime_a_return_right_after_a_query_is_clean() {
    let pool = database().await.pool(1);
    for _ in 0..2_000 {
        let connection = pool.get().await.unwrap();
        connection.query_one("SELECT 1", &[]).await.unwrap();
    }
    let cleaned = pool.stats().pool.cleaned;
    assert!(cleaned <= 20, "{cleaned} of 2,000 returns");
}
