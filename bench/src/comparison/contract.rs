//! Checks the answers of a service before it is measured, so that no service is fast because its answers are wrong.
//!
//! Invariant: a service that is measured has passed every check that its workloads depend on.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::{task::JoinSet, time::sleep};

use super::{
    connection::Connection,
    outcome::Outcome,
    services::{Cache, LIMIT},
    setup::{RunningService, Setup},
    workload,
};

/// How long a service may take until it uses its cache: it trusts a shared cache only some seconds after the start.
const CACHE_START: Duration = Duration::from_secs(15);
/// The number of clients that together read all keys.
const WARMERS: u32 = 32;
/// A key that no workload uses, with characters that must be encoded in a path.
const KEY: &str = "contract/ü ?";
const PATH: &str = "/read/contract/%C3%BC%20%3F";

/// Checks a service.
///
/// # Errors
///
/// An answer is wrong; the error has the request and the answer.
pub(super) async fn check(setup: &Setup, running: &RunningService) -> Outcome<()> {
    if running.service.name == LIMIT || running.service.answer != 200 {
        return Ok(());
    }
    let mut client = Client(Connection::open(&running.target).await?);
    client.get(PATH).await?.expect(404, &json!(null))?;
    let mut versions = Vec::new();
    for value in ["one", "two \"ü\" \\"] {
        let written = client.write(value).await?;
        written.expect(200, &json!({"status": "ok", "key": KEY}))?;
        versions.push(written.version()?);
        let read = client.get(PATH).await?;
        read.expect(200, &json!({"key": KEY, "value": value}))?;
        if read.version()? != written.version()? {
            return Err(read.wrong("the version of the write"));
        }
    }
    if versions[1] != versions[0] + 1 {
        return Err(format!("two writes got the versions {versions:?}").into());
    }
    let database = setup.connect(running.service.name).await?;
    let row = database
        .query_one("SELECT value FROM kv WHERE key = $1", &[&KEY])
        .await?;
    if row.get::<_, String>(0) != "two \"ü\" \\" {
        return Err("an acknowledged write is not in the database".into());
    }
    let first = json!({"id": 1, "name": "User 1", "email": "user1@example.org"});
    client.get("/users/1").await?.expect(200, &first)?;
    client.get("/users/999999999").await?.expect(404, &json!(null))?;
    cache(&mut client, running.service.cache != Cache::Off).await
}

/// Checks that reads are answered from the cache if the service has one, and not otherwise.
async fn cache(client: &mut Client, wanted: bool) -> Outcome<()> {
    let begun = Instant::now();
    loop {
        client.get(PATH).await?;
        let again = client.get(PATH).await?;
        match again.body["from_cache"].as_bool() {
            Some(found) if found == wanted => return Ok(()),
            Some(false) if begun.elapsed() < CACHE_START => sleep(Duration::from_millis(100)).await,
            _ => return Err(again.wrong(&format!("from_cache to be {wanted}"))),
        }
    }
}

/// Reads every key once, so that a cache holds them.
///
/// # Errors
///
/// An answer is not 200.
pub(super) async fn warm(running: &RunningService) -> Outcome<()> {
    if running.service.answer != 200 {
        return Ok(());
    }
    let mut clients = JoinSet::new();
    for first in 0..WARMERS {
        let target = running.target.clone();
        clients.spawn(async move {
            let mut connection = Connection::open(&target).await?;
            let mut request = Vec::new();
            for key in (first..workload::KEYS).step_by(WARMERS as usize) {
                request.clear();
                workload::read(key, &mut request);
                let status = connection.ask(&request).await?.status;
                if status != 200 {
                    return Err(format!("warming the cache: status {status}").into());
                }
            }
            Outcome::Ok(())
        });
    }
    while let Some(client) = clients.join_next().await {
        client??;
    }
    Ok(())
}

struct Client(Connection);

struct Answered {
    question: String,
    status: u16,
    /// Null if it is not JSON.
    body: Value,
}

impl Client {
    async fn get(&mut self, path: &str) -> Outcome<Answered> {
        let mut request = Vec::new();
        workload::get(format_args!("{path}"), &mut request);
        self.ask(format!("GET {path}"), &request).await
    }

    async fn write(&mut self, value: &str) -> Outcome<Answered> {
        let body = json!({"key": KEY, "value": value}).to_string();
        let mut request = Vec::new();
        workload::post("/write", &body, &mut request);
        self.ask(format!("POST /write {body}"), &request).await
    }

    async fn ask(&mut self, question: String, request: &[u8]) -> Outcome<Answered> {
        let (head, body) = self.0.ask_for_body(request).await?;
        Ok(Answered {
            question,
            status: head.status,
            body: serde_json::from_slice(body).unwrap_or_default(),
        })
    }
}

impl Answered {
    /// Checks that the status is this one and the body has these fields; it may have others.
    fn expect(&self, status: u16, fields: &Value) -> Outcome<()> {
        let fields = fields.as_object().into_iter().flatten();
        let mut other = fields.filter(|&(name, value)| self.body.get(name) != Some(value));
        match other.next() {
            None if self.status == status => Ok(()),
            None => Err(self.wrong(&format!("status {status}"))),
            Some((name, value)) => Err(self.wrong(&format!("{name} to be {value}"))),
        }
    }

    fn version(&self) -> Outcome<i64> {
        let version = self.body["version"].as_i64();
        version.ok_or_else(|| self.wrong("a version"))
    }

    fn wrong<E: From<String>>(&self, expected: &str) -> E {
        let Self { question, status, body } = self;
        format!("{question}: expected {expected}, got status {status}, {body}").into()
    }
}
