//! The primary dies under load and its synchronous standby takes over: no acknowledged write is lost, writes go on, and
//! no caller gets a server that refuses writes.

use std::{
    collections::HashSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicI64, Ordering::Relaxed},
    },
    time::Duration,
};

use cenote_local::PostgresServer;
use cenote_postgres::{
    Config, Error, Pool,
    tokio_postgres::{self, NoTls, error::SqlState},
};
use cenote_testing::Replication;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::support::{self, SLACK, until, until_ok};

const CONNECTIONS: u32 = 8;
const WRITERS: usize = 12;
/// From the end of the promotion to the first write on the new primary.
const RECOVERY: Duration = Duration::from_secs(3);
/// The number of writes before the primary dies, and in each phase afterwards.
const LOAD: usize = 500;

/// A primary with a table, its synchronous standby, and a pool that knows both and asks for the one that takes writes.
struct Scene {
    primary: PostgresServer,
    standby: PostgresServer,
    pool: Pool,
}

async fn scene() -> Scene {
    let primary = support::server().await;
    ask(&primary, "CREATE TABLE entry (id bigint PRIMARY KEY)").await;
    let standby = primary.replica().synchronous().start().await.unwrap();
    let both = format!(":{},127.0.0.1:{}/", primary.port(), standby.port());
    let url = primary.url().replace(&format!(":{}/", primary.port()), &both);
    let mut config = Config::from_url(&format!("{url}?target_session_attrs=read-write")).unwrap();
    config.pool.max_size = CONNECTIONS;
    // Long enough that a busy machine does not look like an outage.
    config.pool.acquire_timeout = Duration::from_secs(5);
    config.command_timeout = Some(Duration::from_secs(5));
    let pool = Pool::new(config).unwrap();
    Scene { primary, standby, pool }
}

/// Runs a statement through the driver itself and returns the first column of its rows.
async fn ask(server: &PostgresServer, sql: &str) -> Vec<i64> {
    let (client, connection) = tokio_postgres::connect(&server.url(), NoTls).await.unwrap();
    tokio::spawn(connection);
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

/// Everything the writers saw, in the order in which they saw it.
#[derive(Default)]
struct Record {
    next: AtomicI64,
    over: AtomicBool,
    acknowledged: Mutex<Vec<(i64, Instant)>>,
    errors: Mutex<Vec<(Error, Instant)>>,
}

impl Record {
    fn writes(&self) -> usize {
        self.acknowledged.lock().unwrap().len()
    }

    /// Waits until a load of writes has been acknowledged from now on.
    async fn sees_load(&self) {
        let wanted = self.writes() + LOAD;
        until_ok("writes are acknowledged", async || {
            let errors = self.errors.lock().unwrap().len();
            if self.writes() >= wanted { Ok(()) } else { Err(errors) }
        })
        .await;
    }

    /// Waits for a load of writes, while callers may still fail who had waited too long, and for another without
    /// errors.
    async fn sees_only_writes(&self) {
        self.sees_load().await;
        let recovered = Instant::now();
        self.sees_load().await;
        assert_eq!(self.errors_after(recovered, |_| true), 0, "writes do not flow");
    }

    async fn stop(&self, writers: Vec<JoinHandle<()>>) {
        self.over.store(true, Relaxed);
        for writer in writers {
            writer.await.unwrap();
        }
    }

    fn first_write_after(&self, moment: Instant) -> Option<Instant> {
        let acknowledged = self.acknowledged.lock().unwrap();
        acknowledged
            .iter()
            .map(|(_, when)| *when)
            .filter(|when| *when > moment)
            .min()
    }

    /// The number of errors after this moment for which `counts` holds.
    fn errors_after(&self, moment: Instant, counts: impl Fn(&Error) -> bool) -> usize {
        let errors = self.errors.lock().unwrap();
        let counted = |(error, when): &&(Error, Instant)| *when > moment && counts(error);
        errors.iter().filter(counted).count()
    }
}

async fn write(pool: &Pool, id: i64) -> Result<u64, Error> {
    let connection = pool.get().await?;
    let insert = "INSERT INTO entry VALUES ($1)";
    connection.execute(insert, &[&id]).await
}

/// Tasks that write rows, each row once; a write that failed is not repeated.
fn start_writers(pool: &Pool, record: &Arc<Record>) -> Vec<JoinHandle<()>> {
    let writers = (0..WRITERS).map(|_| {
        let (pool, record) = (pool.clone(), record.clone());
        tokio::spawn(async move {
            while !record.over.load(Relaxed) {
                let id = record.next.fetch_add(1, Relaxed);
                let result = write(&pool, id).await;
                let now = Instant::now();
                match result {
                    Ok(_) => record.acknowledged.lock().unwrap().push((id, now)),
                    Err(error) => {
                        record.errors.lock().unwrap().push((error, now));
                        // A failing writer leaves the processor to the others.
                        sleep(Duration::from_millis(5)).await;
                    }
                }
            }
        })
    });
    writers.collect()
}

fn is_read_only(error: &Error) -> bool {
    error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION)
}

/// The number of acknowledged writes that this server does not have.
async fn lost_on(server: &PostgresServer, record: &Record) -> usize {
    let there: HashSet<i64> = ask(server, "SELECT id FROM entry").await.into_iter().collect();
    let acknowledged = record.acknowledged.lock().unwrap();
    let lost = |(id, _): &&(i64, Instant)| !there.contains(id);
    acknowledged.iter().filter(lost).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_primary_costs_no_acknowledged_write_and_writes_go_on_at_its_standby() {
    let scene = scene().await;
    let record = Arc::new(Record::default());
    let writers = start_writers(&scene.pool, &record);
    record.sees_load().await;

    let failures = || scene.pool.stats().pool.connect_failures;
    let before = failures();
    let killed = Instant::now();
    scene.primary.kill().await.unwrap();
    // Twice: the first connect may have begun before the kill.
    until("the pool finds nothing that takes writes", async || {
        failures() >= before + 2
    })
    .await;
    scene.standby.promote().await.unwrap();
    let promoted = Instant::now();
    record.sees_only_writes().await;
    record.stop(writers).await;

    let recovered = record.first_write_after(promoted).unwrap();
    println!(
        "{} writes acknowledged; promoted {:?} after the kill, first write {:?} after that; {} errors",
        record.writes(),
        promoted - killed,
        recovered - promoted,
        record.errors_after(killed, |_| true),
    );
    assert_eq!(lost_on(&scene.standby, &record).await, 0, "writes lost");
    assert!(recovered - promoted < RECOVERY + SLACK, "{:?}", recovered - promoted);
    assert_eq!(record.errors_after(killed, is_read_only), 0);
    scene.pool.close().await;
}

/// The old primary lives on and answers queries, but takes no more writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_was_made_read_only_is_left_for_its_successor() {
    let scene = scene().await;
    let record = Arc::new(Record::default());
    let writers = start_writers(&scene.pool, &record);
    record.sees_load().await;

    // The moment before the change: all sessions may meet it, and be closed, before this test goes on.
    let demoted = Instant::now();
    // Existing sessions follow at their next transaction.
    for change in [
        "ALTER SYSTEM SET default_transaction_read_only = on",
        "ALTER SYSTEM SET synchronous_standby_names = ''",
        "SELECT count(*) FROM pg_reload_conf()",
    ] {
        ask(&scene.primary, change).await;
    }
    until("the old primary refuses writes", async || {
        record.errors_after(demoted, is_read_only) > 0
    })
    .await;
    let opened = scene.pool.stats().pool.connects;
    scene.standby.promote().await.unwrap();
    let promoted = Instant::now();
    record.sees_only_writes().await;
    record.stop(writers).await;

    let recovered = record.first_write_after(promoted).unwrap();
    let refused = record.errors_after(demoted, is_read_only);
    println!(
        "{refused} writes refused, first write {:?} after the promotion",
        recovered - promoted
    );
    let took = recovered - promoted;
    assert!(took < RECOVERY + SLACK, "{took:?}");
    // Each connection to the old primary was refused at most once.
    assert!(refused as u64 <= opened, "{refused} refused of {opened}");
    assert_eq!(ask(&scene.primary, "SELECT 1::bigint").await, [1]);
    scene.pool.close().await;
}
