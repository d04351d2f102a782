//! Records what clients of two instances are answered, and checks that one order of their requests explains every answer.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use serde_json::json;

use super::JSON;
use crate::support::{Answer, Connection, Service, encoded};

/// One request and its answer.
#[derive(Debug, Clone)]
pub(super) struct Event {
    /// The moments of the request and the answer, in the order of all such moments.
    pub(super) asked: u64,
    pub(super) answered: u64,
    pub(super) key: String,
    pub(super) action: Action,
    pub(super) outcome: Outcome,
}

#[derive(Debug, Clone)]
pub(super) enum Action {
    Write { value: String, only_if: Option<i64> },
    Delete { only_if: Option<i64> },
    Read,
}

/// What was answered. The version 0 stands for a key without a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Outcome {
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
async fn client(address: SocketAddr, seed: u64, steps: usize, clock: Arc<AtomicU64>, history: History) {
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

async fn ask(connection: &mut Connection, key: &str, action: &Action) -> io::Result<Answer> {
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
pub(super) fn check(history: &[Event]) {
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
pub(super) type History = Arc<Mutex<Vec<Event>>>;

/// Records what ten clients ask of two instances, and what they are answered.
pub(super) async fn record(services: [&Service; 2], steps: usize, history: &History) {
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

/// Takes the events that were recorded.
pub(super) fn taken(history: &History) -> Vec<Event> {
    std::mem::take(&mut *history.lock().unwrap())
}
