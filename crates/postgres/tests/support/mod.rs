//! A real server, a fresh database on it for each test, and a second session that sees what the pool does there.
//!
//! Invariant: a wait looks for what it waits for and has a bound; nothing is assumed to have happened after some time.

#![allow(unreachable_pub, reason = "the binaries of the tests share it")]
#![allow(clippy::unwrap_used, reason = "a panic is the failed assertion")]

pub mod connecting;
pub mod single;

use std::{
    fmt::Debug,
    future::poll_fn,
    pin::pin,
    str::FromStr,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    task::Poll,
    time::Duration,
};

use cenote_local::PostgresServer;
use cenote_postgres::{
    Config, Pool,
    tokio_postgres::{self, Client, NoTls, types::ToSql},
};
use cenote_testing::Proxy;
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep},
};

/// A bound against hanging: far more than anything takes, even on a slow machine that does other work.
pub const SOON: Duration = Duration::from_secs(60);

/// What a slow machine that does other work may add to a bound that the library promises.
pub const SLACK: Duration = Duration::from_secs(10);

/// Looks again and again until the condition holds; fails after [`SOON`].
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    until_ok(what, async || if holds().await { Ok(()) } else { Err("not yet") }).await;
}

/// Looks again and again until there is a result, and returns it; fails after [`SOON`] with the last error.
pub async fn until_ok<T, E: Debug>(what: &str, mut look: impl AsyncFnMut() -> Result<T, E>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        match look().await {
            Ok(found) => return found,
            Err(error) => assert!(Instant::now() < deadline, "never: {what}; {error:?}"),
        }
        // Between two looks the machine is left to what is waited for.
        sleep(Duration::from_millis(2)).await;
    }
}

/// Checks that something does not happen, which nothing else can show than to wait: five times as long as a batch waits
/// before it makes way for another, the longest pause after which something could happen here.
pub async fn never(what: &str, mut happens: impl AsyncFnMut() -> bool) {
    let end = Instant::now() + Duration::from_millis(100);
    while Instant::now() < end {
        assert!(!happens().await, "{what}");
        sleep(Duration::from_millis(2)).await;
    }
}

/// A database that no other test uses.
pub struct Database {
    url: String,
}

/// A fresh database on the server that the tests of a binary share.
pub async fn database() -> Database {
    static SERVER: OnceCell<PostgresServer> = OnceCell::const_new();
    // As many tests as the machine has cores run at the same time, each with a few connections.
    let server = SERVER.get_or_init(|| server_with("500")).await;
    database_on(server).await
}

/// A server for a test that stops, kills, freezes or configures it.
pub async fn server() -> PostgresServer {
    server_with("100").await
}

async fn server_with(max_connections: &str) -> PostgresServer {
    let builder = PostgresServer::temporary().setting("max_connections", max_connections);
    builder.start().await.unwrap()
}

/// A proxy in front of the server of a database, and the same database through the proxy.
pub async fn through_proxy(database: &Database) -> (Proxy, Database) {
    let server = tokio_postgres::Config::from_str(&database.url).unwrap();
    let proxy = Proxy::to(([127, 0, 0, 1], server.get_ports()[0])).await;
    let proxy = proxy.unwrap();
    let database = Database {
        url: proxy.url(&database.url),
    };
    (proxy, database)
}

/// A fresh database on this server.
pub async fn database_on(server: &PostgresServer) -> Database {
    static CREATED: AtomicU32 = AtomicU32::new(0);
    let name = format!("test_{}", CREATED.fetch_add(1, Relaxed));
    server.create_database(&name).await.unwrap();
    Database {
        url: server.url_for(&name),
    }
}

impl Database {
    /// A pool of at most `max_size` connections, opened when needed, that does nothing because of time alone.
    pub fn config(&self, max_size: u32) -> Config {
        let mut config = Config::from_url(&self.url).unwrap();
        config.pool = cenote_pool::Config {
            min_size: Some(0),
            max_size,
            max_lifetime: None,
            idle_timeout: None,
            check_after: None,
            // On a busy machine a cancel may take long; no connection is to be closed for that.
            clean_timeout: Duration::from_secs(10),
            ..cenote_pool::Config::default()
        };
        config.command_timeout = Some(Duration::from_secs(20));
        config
    }

    pub fn pool(&self, max_size: u32) -> Pool {
        Pool::new(self.config(max_size)).unwrap()
    }

    /// A second session.
    pub async fn watcher(&self) -> Watcher {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await.unwrap();
        tokio::spawn(connection);
        Watcher(client)
    }
}

/// A session that is not the pool's, through the driver itself.
pub struct Watcher(Client);

impl Watcher {
    pub async fn run(&self, statements: &str) {
        self.0.batch_execute(statements).await.unwrap();
    }

    /// The number that a query returns.
    pub async fn number(&self, sql: &str, parameters: &[&(dyn ToSql + Sync)]) -> i64 {
        let row = self.0.query_one(sql, parameters).await.unwrap();
        row.get(0)
    }

    pub async fn rows_of(&self, table: &str) -> i64 {
        let sql = format!("SELECT count(*) FROM {table}");
        self.number(&sql, &[]).await
    }

    /// `state` and `query` of a session; `None` when there is no such session.
    pub async fn activity(&self, process_id: u32) -> Option<(String, String)> {
        let row = self.of(process_id, "coalesce(state, ''), query").await?;
        Some((row.get(0), row.get(1)))
    }

    async fn of(&self, process_id: u32, columns: &str) -> Option<tokio_postgres::Row> {
        let sql = format!("SELECT {columns} FROM pg_stat_activity WHERE pid = $1");
        let id = process_id.cast_signed();
        self.0.query_opt(&sql, &[&id]).await.unwrap()
    }

    /// The number of other sessions of this database whose state matches this pattern of LIKE.
    pub async fn sessions(&self, state: &str) -> i64 {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND pid <> pg_backend_pid() AND backend_type = 'client backend' \
                   AND coalesce(state, '') LIKE $1";
        self.number(sql, &[&state]).await
    }

    /// Waits until the session executes a statement with this in its text, and sleeps or waits for a lock in it. A
    /// session that still parses the statement is active too, but nothing has been executed yet.
    pub async fn sees_running(&self, process_id: u32, text: &str) {
        let columns = "coalesce(state, ''), query, coalesce(wait_event_type, '')";
        until_ok("runs", async || {
            let row = self.of(process_id, columns).await;
            let seen: Option<[String; 3]> = row.map(|row| [row.get(0), row.get(1), row.get(2)]);
            let runs = seen.as_ref().is_some_and(|[state, query, waits_for]| {
                state == "active" && query.contains(text) && ["Timeout", "Lock"].contains(&waits_for.as_str())
            });
            runs.then_some(()).ok_or(seen)
        })
        .await;
    }

    /// Waits until the session is idle, outside a transaction.
    pub async fn sees_idle(&self, process_id: u32) {
        self.sees(process_id, "idle").await;
    }

    /// Waits until the session is in this state.
    pub async fn sees(&self, process_id: u32, expected: &str) {
        self.waits(expected, process_id, |activity| {
            activity.is_some_and(|(state, _)| state == expected)
        })
        .await;
    }

    /// Waits until the session has more rows than the connection takes.
    pub async fn sees_stuck(&self, process_id: u32) {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 \
                   AND wait_event = 'ClientWrite'";
        let id = process_id.cast_signed();
        // A session that is read waits for its client too, but not at ten looks in a row.
        let mut looks = 0;
        until("the session is stuck", async || {
            let is_stuck = self.number(sql, &[&id]).await == 1;
            looks = if is_stuck { looks + 1 } else { 0 };
            looks == 10
        })
        .await;
    }

    /// Waits until there is no such session.
    pub async fn sees_gone(&self, process_id: u32) {
        self.waits("is gone", process_id, |activity| activity.is_none()).await;
    }

    async fn waits(&self, what: &str, process_id: u32, holds: impl Fn(Option<(String, String)>) -> bool) {
        until_ok(what, async || {
            let activity = self.activity(process_id).await;
            holds(activity.clone()).then_some(()).ok_or(activity)
        })
        .await;
    }

    /// Ends a session from outside.
    pub async fn terminate(&self, process_id: u32) {
        assert!(self.try_terminate(process_id).await);
    }

    /// Ends a session that may have ended already; returns whether it was there.
    pub async fn try_terminate(&self, process_id: u32) -> bool {
        let id = process_id.cast_signed();
        let sql = "SELECT pg_terminate_backend($1)";
        self.0.query_one(sql, &[&id]).await.unwrap().get(0)
    }
}

/// A caller who gives up: polls a future whenever it is woken, at most `polls` times, and drops it. With 1, 2, 3 … it
/// is dropped at each of its awaits in turn.
pub async fn give_up_after<F: Future>(polls: u32, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// How often to repeat what fails only now and then. For a longer run, set the environment variable to a higher number.
pub fn rounds(variable: &str, usually: u32) -> u32 {
    match std::env::var(variable) {
        Ok(number) => number.parse().unwrap(),
        Err(_) => usually,
    }
}
