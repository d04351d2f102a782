//! The conditions `If-Match` and `If-None-Match`.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};
use tokio_postgres::NoTls;

use crate::support::{Answer, Connection, Database, Service, encoded, eventually, redis, server};

const JSON: (&str, &str) = ("content-type", "application/json");

impl Service {
    async fn write_if(&self, key: &str, value: &str, headers: &[(&str, &str)]) -> Answer {
        let headers = [&[JSON], headers].concat();
        let body = json!({"key": key, "value": value}).to_string();
        self.ask("POST", "/write", &headers, body).await
    }

    async fn delete_if(&self, key: &str, headers: &[(&str, &str)]) -> Answer {
        let path = format!("/read/{}", encoded(key));
        self.ask("DELETE", &path, headers, "").await
    }

    async fn holds(&self, key: &str, value: &str, version: i64) {
        let read = self.read(key).await.json(200);
        assert_eq!((&read["value"], &read["version"]), (&json!(value), &json!(version)));
    }
}

#[tokio::test]
async fn a_delete_with_the_entity_tag_of_another_version_deletes_nothing() {
    let service = Service::start(&[]).await;
    service.write("key", "one").await;
    service.write("key", "two").await;
    for tags in ["\"1\"", "W/\"2\"", "\"1\", \"3\"", "\"x\""] {
        let refused = service.delete_if("key", &[("if-match", tags)]).await;
        refused.problem(412, "precondition-failed");
        assert_eq!(refused.headers["etag"], "\"2\"", "{tags}");
    }
    for headers in [
        &[("if-none-match", "*")][..],
        &[("if-none-match", "W/\"2\"")],
        &[("if-match", "\"2\""), ("if-none-match", "\"2\"")],
    ] {
        let refused = service.delete_if("key", headers).await;
        refused.problem(412, "precondition-failed");
    }
    service.holds("key", "two", 2).await;
    let deleted = service
        .delete_if("key", &[("if-match", "\"1\""), ("if-match", "\"2\"")])
        .await;
    assert_eq!(deleted.status, 204);
    assert_eq!(deleted.headers["etag"], "\"3\"");
    service.read("key").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_write_with_if_match_replaces_only_that_version() {
    let service = Service::start(&[]).await;
    service.write("key", "one").await;
    let written = service.write_if("key", "two", &[("if-match", "\"1\"")]).await;
    assert_eq!(written.json(200)["version"], 2);
    let lost = service.write_if("key", "lost", &[("if-match", "\"1\"")]).await;
    lost.problem(412, "precondition-failed");
    assert_eq!(lost.headers["etag"], "\"2\"");
    service.holds("key", "two", 2).await;
    let any = service.write_if("key", "three", &[("if-match", "*")]).await;
    assert_eq!(any.json(200)["version"], 3);
    let other = service
        .write_if("key", "four", &[("if-none-match", "\"1\", W/\"2\"")])
        .await;
    assert_eq!(other.json(200)["version"], 4);
}

#[tokio::test]
async fn a_write_with_if_none_match_of_anything_only_creates() {
    let service = Service::start(&[]).await;
    let create = [("if-none-match", "*")];
    let created = service.write_if("key", "one", &create).await;
    assert_eq!(created.json(200)["version"], 1);
    let again = service.write_if("key", "again", &create).await;
    again.problem(412, "precondition-failed");
    assert_eq!(again.headers["etag"], "\"1\"");
    service.holds("key", "one", 1).await;
    assert_eq!(service.delete("/read/key").await.status, 204);
    let anew = service.write_if("key", "anew", &create).await;
    assert_eq!(anew.json(200)["version"], 3, "a deleted key is absent");
    service.holds("key", "anew", 3).await;
}

#[tokio::test]
async fn if_match_for_a_key_without_a_value_is_412_and_makes_no_version() {
    let service = Service::start(&[]).await;
    service.write("deleted", "value").await;
    assert_eq!(service.delete("/read/deleted").await.status, 204);
    for key in ["never", "deleted"] {
        for tags in ["*", "\"1\"", "\"2\"", "\"0\""] {
            let headers = [("if-match", tags)];
            for refused in [
                service.write_if(key, "value", &headers).await,
                service.delete_if(key, &headers).await,
            ] {
                refused.problem(412, "precondition-failed");
                assert!(!refused.headers.contains_key("etag"));
            }
        }
        // The condition holds for an absent key, so the delete finds nothing.
        let absent = service.delete_if(key, &[("if-none-match", "\"1\"")]).await;
        absent.problem(404, "not-found");
        service.read(key).await.problem(404, "not-found");
    }
    let session = service.database.session().await;
    assert_eq!(session.number("SELECT count(*) FROM kv").await, 1);
}

#[tokio::test]
async fn a_read_with_if_match_is_412_unless_it_is_that_version_and_if_none_match_comes_second() {
    let service = Service::start(&[]).await;
    service.write("key", "one").await;
    for method in ["GET", "HEAD"] {
        let ask = async |headers: &[(&str, &str)]| {
            let answer = service.ask(method, "/read/key", headers, "").await;
            assert_eq!(answer.headers["etag"], "\"1\"");
            answer.status
        };
        assert_eq!(ask(&[("if-match", "\"1\"")]).await, 200);
        assert_eq!(ask(&[("if-match", "*")]).await, 200);
        assert_eq!(ask(&[("if-match", "\"2\"")]).await, 412);
        assert_eq!(ask(&[("if-match", "W/\"1\"")]).await, 412);
        assert_eq!(ask(&[("if-match", "\"1\""), ("if-none-match", "\"1\"")]).await, 304);
        assert_eq!(ask(&[("if-match", "\"2\""), ("if-none-match", "\"1\"")]).await, 412);
        let absent = service.ask(method, "/read/absent", &[("if-match", "*")], "").await;
        assert_eq!(absent.status, 404);
    }
}

#[tokio::test]
async fn a_condition_that_cannot_be_understood_is_400_and_names_the_header() {
    let service = Service::start(&[]).await;
    service.write("key", "one").await;
    for (header, name) in [("if-match", "If-Match"), ("if-none-match", "If-None-Match")] {
        for value in ["", "1", "\"1", "*, \"1\"", "w/\"1\"", "\"1\" \"2\""] {
            let headers = [(header, value)];
            for refused in [
                service.write_if("key", "two", &headers).await,
                service.delete_if("key", &headers).await,
                service.ask("GET", "/read/key", &headers, "").await,
            ] {
                let problem = refused.problem(400, "bad-request");
                assert!(problem["detail"].as_str().unwrap().contains(name), "{problem}");
            }
        }
    }
    service.holds("key", "one", 1).await;
}

#[tokio::test]
async fn a_user_is_not_added_under_a_condition_because_users_have_no_versions() {
    let service = Service::start(&[]).await;
    let body = json!({"name": "Ada", "email": "ada@example.org"}).to_string();
    for header in [("if-match", "*"), ("if-match", "\"1\""), ("if-none-match", "*")] {
        let refused = service.ask("POST", "/users/", &[JSON, header], &body).await;
        refused.problem(412, "precondition-failed");
    }
    assert_eq!(service.get("/users/").await.json(200), json!([]));
}

/// Adds 1 to a counter by compare-and-set, until it succeeds.
async fn add_one(connection: &mut Connection, key: &str) {
    let path = format!("/read/{}", encoded(key));
    loop {
        let read = connection.ask("GET", &path, &[], "").await.unwrap();
        let (value, header) = match read.status {
            404 => (0, ("if-none-match", "*".to_owned())),
            _ => {
                let value: u64 = read.json(200)["value"].as_str().unwrap().parse().unwrap();
                (value, ("if-match", read.headers["etag"].clone()))
            }
        };
        let body = json!({"key": key, "value": (value + 1).to_string()}).to_string();
        let headers = [JSON, (header.0, &*header.1)];
        let written = connection.ask("POST", "/write", &headers, body).await.unwrap();
        match written.status {
            200 => return,
            _ => written.problem(412, "precondition-failed"),
        };
    }
}

#[tokio::test]
async fn a_hundred_concurrent_increments_by_compare_and_set_from_two_instances_sum_exactly() {
    let redis = redis().await;
    let url = redis.url();
    let settings = [("REDIS_URL", &*url)];
    let one = Service::start(&settings).await;
    let two = Service::start_with(&one.database, &settings).await;
    let clients = (0..20).map(|n| {
        let address = if n % 2 == 0 { one.address } else { two.address };
        tokio::spawn(async move {
            let mut connection = Connection::open(address).await.unwrap();
            for _ in 0..5 {
                add_one(&mut connection, "counter").await;
            }
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
    for service in [&one, &two] {
        service.holds("counter", "100", 100).await;
    }
}

#[tokio::test]
async fn of_fifty_clients_that_create_one_key_at_once_one_succeeds_also_beside_unconditional_writes() {
    let service = Arc::new(Service::start(&[("DB_POOL_MAX_SIZE", "8")]).await);
    for round in 0..5 {
        let clients = (0..50).map(|n| {
            let service = service.clone();
            tokio::spawn(async move {
                // Unconditional writes share the statements.
                service.write(&format!("other/{round}/{n}"), "value").await;
                let key = format!("one/{round}");
                service
                    .write_if(&key, &n.to_string(), &[("if-none-match", "*")])
                    .await
                    .status
            })
        });
        let mut statuses = Vec::new();
        for client in clients.collect::<Vec<_>>() {
            statuses.push(client.await.unwrap());
        }
        statuses.sort_unstable();
        assert_eq!(statuses[0], 200);
        assert!(statuses[1..].iter().all(|status| *status == 412), "{statuses:?}");
    }
}

/// One request and its answer.
#[derive(Debug, Clone)]
struct Event {
    /// The moments of the request and the answer, in the order of all such moments.
    asked: u64,
    answered: u64,
    key: String,
    action: Action,
    outcome: Outcome,
}

#[derive(Debug, Clone)]
enum Action {
    Write { value: String, only_if: Option<i64> },
    Delete { only_if: Option<i64> },
    Read,
}

/// What was answered. The version 0 stands for a key without a value.
#[derive(Debug, Clone, PartialEq)]
enum Outcome {
    Made(i64),
    Refused(i64),
    Found(i64, String),
    Unknown,
}

fn tag_version(answer: &Answer) -> i64 {
    let tag = answer.headers.get("etag");
    tag.map_or(0, |tag| tag.trim_matches('"').parse().unwrap())
}

/// A client of one instance, which writes, deletes and reads a few keys, with and without conditions.
async fn client(
    address: std::net::SocketAddr,
    seed: u64,
    steps: usize,
    clock: Arc<std::sync::atomic::AtomicU64>,
    history: History,
) {
    use std::sync::atomic::Ordering::SeqCst;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut known: BTreeMap<String, i64> = BTreeMap::new();
    let mut connection = None;
    for step in 0..steps {
        let key = format!("key {}", random.u8(..3));
        let only_if = random.bool().then(|| known.get(&key).copied().unwrap_or(0));
        let action = match random.u8(..10) {
            0..5 => Action::Write {
                value: format!("{seed}/{step}"),
                only_if,
            },
            // A condition that the key is absent makes sense only for writes.
            5..7 => Action::Delete {
                only_if: only_if.filter(|version| *version > 0),
            },
            _ => Action::Read,
        };
        if connection.is_none() {
            connection = Connection::open(address).await.ok();
        }
        let Some(open) = &mut connection else {
            continue;
        };
        let asked = clock.fetch_add(1, SeqCst);
        let answer = ask(open, &key, &action).await;
        let answered = clock.fetch_add(1, SeqCst);
        let outcome = match answer {
            Ok(answer) => match (answer.status, &action) {
                (200, Action::Read) => {
                    let read = answer.json(200);
                    let value = read["value"].as_str().unwrap().to_owned();
                    Outcome::Found(read["version"].as_i64().unwrap(), value)
                }
                (404, Action::Read) => Outcome::Found(0, String::new()),
                (200, _) => Outcome::Made(answer.json(200)["version"].as_i64().unwrap()),
                (204, _) => Outcome::Made(tag_version(&answer)),
                (404, Action::Delete { .. }) => Outcome::Refused(0),
                (412, _) => Outcome::Refused(tag_version(&answer)),
                (202 | 503 | 504, _) => Outcome::Unknown,
                _ => panic!("{action:?}: {} {}", answer.status, answer.text()),
            },
            Err(_) => {
                connection = None;
                Outcome::Unknown
            }
        };
        match &outcome {
            Outcome::Made(version) => {
                let is_there = matches!(action, Action::Write { .. });
                known.insert(key.clone(), if is_there { *version } else { 0 });
            }
            Outcome::Refused(version) | Outcome::Found(version, _) => {
                known.insert(key.clone(), *version);
            }
            Outcome::Unknown => {}
        }
        history.lock().unwrap().push(Event {
            asked,
            answered,
            key,
            action,
            outcome,
        });
    }
}

async fn ask(connection: &mut Connection, key: &str, action: &Action) -> std::io::Result<Answer> {
    let path = format!("/read/{}", encoded(key));
    let condition = |only_if: &Option<i64>| {
        only_if.map(|version| match version {
            0 => ("if-none-match", "*".to_owned()),
            version => ("if-match", format!("\"{version}\"")),
        })
    };
    let with = |condition: &Option<(&'static str, String)>| {
        let condition = condition.clone();
        condition.into_iter().collect::<Vec<_>>()
    };
    match action {
        Action::Write { value, only_if } => {
            let condition = with(&condition(only_if));
            let mut headers = vec![JSON];
            headers.extend(condition.iter().map(|(name, value)| (*name, &**value)));
            let body = json!({"key": key, "value": value}).to_string();
            connection.ask("POST", "/write", &headers, body).await
        }
        Action::Delete { only_if } => {
            let condition = with(&condition(only_if));
            let headers: Vec<_> = condition.iter().map(|(name, value)| (*name, &**value)).collect();
            connection.ask("DELETE", &path, &headers, "").await
        }
        Action::Read => connection.ask("GET", &path, &[], "").await,
    }
}

/// Checks that one order of the events agrees with every answer. The versions give that order: a change comes at its
/// version, and an answer that names a version comes right after it.
fn check(history: &[Event]) {
    let mut keys: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in history {
        keys.entry(&event.key).or_default().push(event);
    }
    for events in keys.values() {
        // For each version, its value and the event that made it.
        let mut made: BTreeMap<i64, (Option<&str>, &Event)> = BTreeMap::new();
        for event in events {
            if let Outcome::Made(version) = event.outcome {
                let (value, only_if) = match &event.action {
                    Action::Write { value, only_if } => (Some(&**value), only_if),
                    Action::Delete { only_if } => (None, only_if),
                    Action::Read => unreachable!("a read makes nothing"),
                };
                if let Some(other) = made.insert(version, (value, event)) {
                    panic!("one version was given twice: {event:?}, {other:?}");
                }
                // A condition on a version held only if the change made the next version.
                if let Some(expected) = only_if
                    && *expected > 0
                {
                    assert_eq!(version, expected + 1, "{event:?}");
                }
            }
        }
        for event in events {
            // A write on condition that the key is absent follows no version, or a delete.
            if let Outcome::Made(version) = event.outcome
                && let Action::Write { only_if: Some(0), .. } = event.action
                && let Some((value, before)) = made.get(&(version - 1))
            {
                assert_eq!(*value, None, "{event:?} after {before:?}");
            }
            // A read returns the value that was written with its version.
            if let Outcome::Found(version, value) = &event.outcome
                && let Some((written, maker)) = made.get(version)
            {
                assert_eq!(*written, Some(&**value), "{event:?}, {maker:?}");
                assert!(maker.asked < event.answered, "{event:?}, {maker:?}");
            }
        }
        // No answer names an older version than that of a change that was answered before the request.
        for event in events {
            let seen = match event.outcome {
                Outcome::Made(version) => version - 1,
                Outcome::Refused(0) | Outcome::Found(0, _) | Outcome::Unknown => continue,
                Outcome::Refused(version) | Outcome::Found(version, _) => version,
            };
            let mut earlier = made.iter().filter(|(_, (_, maker))| maker.answered < event.asked);
            if let Some((newest, (_, maker))) = earlier.next_back() {
                assert!(seen >= *newest, "{event:?} misses {maker:?}");
            }
        }
        // No key is reported absent that was written and not deleted since.
        for event in events {
            let is_absent = matches!(event.outcome, Outcome::Refused(0) | Outcome::Found(0, _));
            if !is_absent {
                continue;
            }
            let mut earlier = made.iter().filter(|(_, (_, maker))| maker.answered < event.asked);
            let Some((newest, (Some(_), maker))) = earlier.next_back() else {
                continue;
            };
            let deletes = events.iter().any(|other| {
                let may_delete = matches!(other.action, Action::Delete { .. });
                let later = match other.outcome {
                    Outcome::Made(version) => version > *newest,
                    Outcome::Unknown => true,
                    _ => false,
                };
                may_delete && later && other.asked < event.answered
            });
            assert!(deletes, "{event:?} misses {maker:?}");
        }
    }
}

/// All requests that have been answered so far.
type History = Arc<Mutex<Vec<Event>>>;

async fn histories(services: [&Service; 2], steps: usize, history: &History) {
    let seed = fastrand::u64(..1 << 32);
    println!("seed {seed}");
    let clock = Arc::default();
    let clients = (0..10).map(|n: u64| {
        let address = services[n as usize % 2].address;
        let seed = seed * 100 + n;
        tokio::spawn(client(address, seed, steps, Arc::clone(&clock), history.clone()))
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.unwrap();
    }
}

fn taken(history: &History) -> Vec<Event> {
    std::mem::take(&mut *history.lock().unwrap())
}

#[tokio::test]
async fn writes_and_deletes_with_and_without_conditions_from_two_instances_have_one_order() {
    let redis = redis().await;
    let url = redis.url();
    let settings = [("REDIS_URL", &*url)];
    let one = Service::start(&settings).await;
    let two = Service::start_with(&one.database, &settings).await;
    let history = History::default();
    histories([&one, &two], 60, &history).await;
    let history = taken(&history);
    check(&history);
    let refused = |event: &&Event| matches!(event.outcome, Outcome::Refused(1..));
    let made = |event: &&Event| matches!(event.outcome, Outcome::Made(_));
    assert!(history.iter().filter(refused).count() > 10, "conditions did fail");
    assert!(history.iter().filter(made).count() > 100, "changes were made");
}

#[tokio::test]
async fn no_conditional_write_is_acknowledged_falsely_while_postgresql_is_killed() {
    let server = server("100").await;
    let redis = redis().await;
    let url = redis.url();
    let settings = [("REDIS_URL", &*url), ("DB_POOL_TIMEOUT", "5")];
    let database = Database::create_on(&server).await;
    let one = Service::start_with(&database, &settings).await;
    let two = Service::start_with(&database, &settings).await;
    let history = History::default();
    let running = histories([&one, &two], 150, &history);
    // Of 1500 events in all, each server has a few hundred in its time.
    let killing = async {
        for kill in 1..=2 {
            eventually("clients are at work", async || {
                (history.lock().unwrap().len() >= kill * 300).then_some(())
            })
            .await;
            let before = history.lock().unwrap().len();
            server.kill().await.unwrap();
            let unknown = |event: &Event| event.outcome == Outcome::Unknown;
            eventually("somebody notices", async || {
                history.lock().unwrap()[before..].iter().any(unknown).then_some(())
            })
            .await;
            server.restart().await.unwrap();
        }
    };
    tokio::join!(running, killing);
    let history = taken(&history);
    check(&history);
    // The row in the database is of the last change that was acknowledged, or of one whose outcome is unknown.
    let (client, connection) = tokio_postgres::connect(&database.url, NoTls).await.unwrap();
    tokio::spawn(connection);
    for row in client.query("SELECT key, value, version FROM kv", &[]).await.unwrap() {
        let (key, value, version): (&str, Option<&str>, i64) = (row.get(0), row.get(1), row.get(2));
        for event in history.iter().filter(|event| event.key == key) {
            let Outcome::Made(made) = event.outcome else {
                continue;
            };
            assert!(made <= version, "lost: {event:?}, there is {version}");
            if made == version {
                let written = match &event.action {
                    Action::Write { value, .. } => Some(&**value),
                    _ => None,
                };
                assert_eq!(written, value, "{event:?}");
            }
        }
    }
    let _: Value = one.get("/pool-stats").await.json(200);
}
