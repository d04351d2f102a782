//! A fresh database for each test, and a session that sees and does what the service cannot.
//!
//! Invariant: no two tests use one database.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use cenote_local::PostgresServer;
use tokio::sync::OnceCell;
use tokio_postgres::{Client, NoTls};

use super::eventually;

/// The server of all tests that do not break or configure it.
pub(crate) async fn shared_server() -> &'static PostgresServer {
    static SERVER: OnceCell<PostgresServer> = OnceCell::const_new();
    SERVER.get_or_init(|| server("300")).await
}

/// A server for a test that breaks or configures it.
pub(crate) async fn server(max_connections: &str) -> PostgresServer {
    let builder = PostgresServer::temporary().setting("max_connections", max_connections);
    builder.start().await.unwrap()
}

/// An empty database.
#[derive(Clone, Debug)]
pub(crate) struct Database {
    pub(crate) name: String,
    pub(crate) url: String,
}

impl Database {
    pub(crate) async fn create() -> Self {
        Self::create_on(shared_server().await).await
    }

    pub(crate) async fn create_on(server: &PostgresServer) -> Self {
        static CREATED: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", CREATED.fetch_add(1, Relaxed));
        server.create_database(&name).await.unwrap();
        let url = server.url_for(&name);
        Self { name, url }
    }

    /// A database on a server that outlives a crash, as `check` demands. The other servers are fast instead.
    pub(crate) async fn create_durable() -> Self {
        static SERVER: OnceCell<PostgresServer> = OnceCell::const_new();
        let server = async || {
            let builder = PostgresServer::temporary()
                .setting("fsync", "on")
                .setting("full_page_writes", "on");
            builder.start().await.unwrap()
        };
        Self::create_on(SERVER.get_or_init(server).await).await
    }

    /// A database created with these options, such as `ENCODING 'LATIN1'`.
    pub(crate) async fn create_with(options: &str) -> Self {
        let mut database = Self::create().await;
        let session = database.session().await;
        let plain = database.name.clone();
        database.name += "_odd";
        let create = format!("CREATE DATABASE {} TEMPLATE template0 {options}", database.name);
        session.run(&create).await;
        database.url = database
            .url
            .replace(&format!("/{plain}"), &format!("/{}", database.name));
        database
    }

    /// The parts of the URL: host, port, user, password.
    pub(crate) fn parts(&self) -> [&str; 4] {
        let (_, rest) = self.url.split_once("://").unwrap();
        let (credentials, rest) = rest.split_once('@').unwrap();
        let (user, password) = credentials.split_once(':').unwrap();
        let (address, _) = rest.split_once('/').unwrap();
        let (host, port) = address.split_once(':').unwrap();
        [host, port, user, password]
    }

    pub(crate) async fn session(&self) -> Session {
        let [hand, eye] = [self.client().await, self.client().await];
        Session { hand, eye }
    }

    async fn client(&self) -> Client {
        let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

/// A session that is not one of the service.
pub(crate) struct Session {
    hand: Client,
    /// A second session for queries: a transaction sees the other sessions as they were at its first look.
    eye: Client,
}

/// The sessions of the service in this database.
const SERVICE: &str = "FROM pg_stat_activity WHERE datname = current_database() \
                       AND application_name = 'cenote'";

impl Session {
    /// Runs statements; they may leave a transaction open.
    pub(crate) async fn run(&self, statements: &str) {
        self.hand.batch_execute(statements).await.unwrap();
    }

    /// Makes each statement that inserts into `kv` take this many seconds longer, by a trigger.
    pub(crate) async fn slow_writes_down(&self, seconds: f64) {
        self.run(&format!(
            "CREATE FUNCTION wait() RETURNS trigger LANGUAGE plpgsql AS \
             $$BEGIN PERFORM pg_sleep({seconds}); RETURN NEW; END$$; \
             CREATE TRIGGER wait BEFORE INSERT ON kv FOR EACH STATEMENT EXECUTE FUNCTION wait()"
        ))
        .await;
    }

    /// The number that a query returns.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.eye.query_one(sql, &[]).await.unwrap().get(0)
    }

    /// The number of sessions of the service.
    pub(crate) async fn sessions(&self) -> i64 {
        self.number(&format!("SELECT count(*) {SERVICE}")).await
    }

    /// Waits until `count` sessions of the service wait for a lock.
    ///
    /// A write first waits for 50 ms together with others, then alone. Only sessions that have waited for longer count.
    pub(crate) async fn sees_blocked(&self, count: i64) {
        let settled = match count {
            0 => "true",
            _ => "clock_timestamp() - query_start > interval '150 ms'",
        };
        let sql = format!("SELECT count(*) {SERVICE} AND wait_event_type = 'Lock' AND {settled}");
        eventually("a statement waits for a lock", async || {
            (self.number(&sql).await == count).then_some(())
        })
        .await;
    }

    /// Ends the sessions of the service for which the condition holds, as an administrator would, and waits for their
    /// end.
    pub(crate) async fn terminate(&self, condition: &str) -> usize {
        let sql = format!("SELECT pid {SERVICE} AND {condition}");
        let rows = self.eye.query(&sql, &[]).await.unwrap();
        assert!(!rows.is_empty(), "no session to end");
        for pid in rows.iter().map(|row| row.get::<_, i32>(0)) {
            let end = format!("SELECT pg_terminate_backend({pid})");
            self.eye.batch_execute(&end).await.unwrap();
            let there = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
            eventually("the session ends", async || {
                (self.number(&there).await == 0).then_some(())
            })
            .await;
        }
        rows.len()
    }
}
