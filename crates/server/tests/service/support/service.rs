//! The running service.
//!
//! Invariant: it is ready when a test gets it, unless the test asks for one that is not.

use std::{net::SocketAddr, ops::Deref, time::Duration};

use cenote_local::PostgresServer;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

use super::{Answer, Connection, Database, Ended, Launch, Process, eventually, exposition::Scrape, shared_server};

/// A service on any free port, and its database.
pub(crate) struct Service {
    process: Process,
    pub(crate) address: SocketAddr,
    pub(crate) database: Database,
}

impl Deref for Service {
    type Target = Process;
    fn deref(&self) -> &Process {
        &self.process
    }
}

impl Service {
    /// A ready service on a fresh database of the shared server.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        Self::start_on(shared_server().await, settings).await
    }

    /// A ready service on a fresh database of this server.
    pub(crate) async fn start_on(server: &PostgresServer, settings: &[(&str, &str)]) -> Self {
        let database = Database::create_on(server).await;
        Self::start_with(&database, settings).await
    }

    /// A ready service on this database.
    pub(crate) async fn start_with(database: &Database, settings: &[(&str, &str)]) -> Self {
        let service = Self::launch_with(database, settings).await;
        service.is_ready().await;
        service
    }

    /// A service that listens, ready or not.
    pub(crate) async fn launch_with(database: &Database, settings: &[(&str, &str)]) -> Self {
        let launch = Launch::new(&["serve"])
            .env("DATABASE_URL", &database.url)
            .env("PORT", "0")
            .envs(settings);
        Self::over(launch.spawn(), database).await
    }

    /// The service that runs in this process.
    pub(crate) async fn over(process: Process, database: &Database) -> Self {
        let listening = process.logged("listening").await;
        Self {
            address: listening["address"].as_str().unwrap().parse().unwrap(),
            process,
            database: database.clone(),
        }
    }

    pub(crate) async fn is_ready(&self) {
        eventually("the service is ready", async || {
            (self.get("/health/ready").await.status == 200).then_some(())
        })
        .await;
    }

    pub(crate) async fn connect(&self) -> Connection {
        Connection::open(self.address).await.unwrap()
    }

    /// One request on a new connection.
    pub(crate) async fn ask(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl AsRef<[u8]>,
    ) -> Answer {
        let mut connection = self.connect().await;
        let answer = connection.ask(method, path, headers, body).await;
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], "").await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.ask("DELETE", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.connect().await.post(path, body).await.unwrap()
    }

    /// Writes a value and returns its version.
    #[track_caller]
    pub(crate) fn write(&self, key: &str, value: &str) -> impl Future<Output = i64> {
        let body = json!({ "key": key, "value": value });
        async move {
            let written = self.post("/write", &body).await.json(200);
            assert_eq!((&written["status"], &written["key"]), (&json!("ok"), &body["key"]));
            written["version"].as_i64().unwrap()
        }
    }

    /// `GET /read/{key}`, with each byte of the key encoded.
    pub(crate) async fn read(&self, key: &str) -> Answer {
        self.get(&format!("/read/{}", encoded(key))).await
    }

    /// Its metrics, in the format of Prometheus.
    pub(crate) async fn scrape(&self) -> Scrape {
        let answer = self.get("/metrics").await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        Scrape::prometheus(answer.text())
    }

    /// Asks it to stop and waits for its end.
    pub(crate) async fn stop(self, limit: Duration) -> Ended {
        self.signal("TERM");
        self.process.ended(limit).await
    }

    /// Waits for its end.
    pub(crate) async fn ended(self, limit: Duration) -> Ended {
        self.process.ended(limit).await
    }
}

/// Creates an API key by the command line.
pub(crate) async fn create_key(database: &Database, scopes: &str) -> String {
    let created = Launch::new(&["key", "create", "--name", "test", "--scope", scopes])
        .env("DATABASE_URL", &database.url)
        .run()
        .await;
    assert_eq!(created.code, Some(0), "{created:?}");
    created.output.trim().to_owned()
}

pub(crate) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}
