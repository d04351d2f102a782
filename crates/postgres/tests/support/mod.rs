//! A real server, a database of one's own on it, and a second session that sees what the pool
//! cannot be asked about itself.

#![allow(dead_code, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(clippy::unwrap_used, reason = "a panic is the failed assertion")]

pub mod connecting;
pub mod single;

use std::{
    future::poll_fn,
    pin::pin,
    str::FromStr,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    task::Poll,
    time::Duration,
};

use cenote_local::{PostgresServer, Proxy};
use cenote_postgres::{
    Config, Pool,
    tokio_postgres::{self, Client, NoTls, types::ToSql},
};
use tokio::{
    sync::OnceCell,
    time::{Instant, sleep},
};

/// Long enough for anything that is going to happen at all on a busy machine.
pub const SOON: Duration = Duration::from_secs(10);

/// A database of one's own.
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

/// A proxy before the server of a database, and the database by way of it.
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
    /// At most so many connections, opened when needed, and nothing that happens by time alone.
    pub fn config(&self, max_size: u32) -> Config {
        let mut config = Config::from_url(&self.url).unwrap();
        config.pool = cenote_pool::Config {
            min_size: Some(0),
            max_size,
            max_lifetime: None,
            idle_timeout: None,
            check_after: None,
            // On a busy machine it may take long to cancel what is left; a connection is to be lost for a reason.
            clean_timeout: SOON,
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

/// A session beside the pool's, through the bare driver.
pub struct Watcher(Client);

impl Watcher {
    pub async fn run(&self, statements: &str) {
        self.0.batch_execute(statements).await.unwrap();
    }

    /// The one number that a query answers.
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

    /// How many other sessions of this database are in a state that is LIKE this.
    pub async fn sessions(&self, state: &str) -> i64 {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() \
                   AND pid <> pg_backend_pid() AND backend_type = 'client backend' \
                   AND coalesce(state, '') LIKE $1";
        self.number(sql, &[&state]).await
    }

    /// Waits until the session runs a statement with this in its text.
    pub async fn sees_running(&self, process_id: u32, text: &str) {
        self.waits("runs", process_id, |activity| {
            activity.is_some_and(|(state, query)| state == "active" && query.contains(text))
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

    /// Waits until the session has rows that nobody takes off it.
    pub async fn sees_stuck(&self, process_id: u32) {
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 \
                   AND wait_event = 'ClientWrite'";
        let id = process_id.cast_signed();
        let deadline = Instant::now() + SOON;
        let mut looks = 0;
        while looks < 10 {
            let stuck = self.number(sql, &[&id]).await == 1;
            looks = if stuck { looks + 1 } else { 0 };
            assert!(Instant::now() < deadline, "someone reads on");
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Waits until there is no such session.
    pub async fn sees_gone(&self, process_id: u32) {
        self.waits("is gone", process_id, |activity| activity.is_none()).await;
    }

    async fn waits(&self, what: &str, process_id: u32, holds: impl Fn(Option<(String, String)>) -> bool) {
        let deadline = Instant::now() + SOON;
        loop {
            let activity = self.activity(process_id).await;
            if holds(activity.clone()) {
                return;
            }
            assert!(Instant::now() < deadline, "never {what}: {activity:?}");
            sleep(Duration::from_millis(2)).await;
        }
    }

    /// Ends a session from outside.
    pub async fn terminate(&self, process_id: u32) {
        assert!(self.try_terminate(process_id).await);
    }

    /// The same for one that may be gone already; says whether it was there.
    pub async fn try_terminate(&self, process_id: u32) -> bool {
        let id = process_id.cast_signed();
        let sql = "SELECT pg_terminate_backend($1)";
        self.0.query_one(sql, &[&id]).await.unwrap().get(0)
    }
}

/// Polls a future whenever it is woken, but so many times at most, and drops it: a caller who gave
/// up. With 1, 2, 3 … it is dropped at each of its awaits in turn.
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

/// How often to repeat what only fails now and then; for a long run set the variable higher.
pub fn rounds(variable: &str, usually: u32) -> u32 {
    match std::env::var(variable) {
        Ok(number) => number.parse().unwrap(),
        Err(_) => usually,
    }
}
