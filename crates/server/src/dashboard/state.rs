//! The state of the service in JSON: an object whose members are each written down by themselves, so that a change of one
//! sends only that one.
//!
//! Invariant: the size is bounded by constants, whatever callers send.

use serde::Serialize;

use super::{
    figures::Reading,
    records::{failures, slow_statements},
    slots::slots,
    verdicts::Verdict,
};
use crate::{
    app::App,
    limits::LimitStats,
    memory_watch::Level,
    store::{CacheMode, Queues, problem_of_cache},
};

/// The names of the members, in their order.
const MEMBERS: [&str; 13] = [
    "verdicts",
    "slots",
    "slots_more",
    "pool",
    "queues",
    "cache",
    "redis",
    "database",
    "memory",
    "limits",
    "instances",
    "errors",
    "statements",
];

/// The members that change at almost every look at a service under load, or in trouble.
const UNSTEADY: [&str; 8] = [
    "slots",
    "slots_more",
    "queues",
    "cache",
    "memory",
    "limits",
    "errors",
    "statements",
];

/// The members, each as JSON.
#[derive(Clone, Default, PartialEq)]
pub(super) struct State([Vec<u8>; MEMBERS.len()]);

#[derive(Serialize)]
struct Pool {
    min: u32,
    max: u32,
    overflow: u32,
    paused: Option<Paused>,
    breaker_open: bool,
    leaked: u32,
}

#[derive(Serialize)]
struct Paused {
    /// In milliseconds since 1970. Absent if the pause does not end by itself.
    until: Option<u64>,
}

#[derive(Serialize)]
struct Queue {
    name: &'static str,
    waiting: usize,
    running: u32,
    /// Requests in a statement since the start.
    batch: f64,
}

#[derive(Serialize)]
struct Cache {
    mode: &'static str,
    state: &'static str,
    problem: Option<String>,
    /// Kept in this process.
    keys: usize,
    bytes: u64,
    limit: u64,
}

/// Whether a server answers.
#[derive(Serialize)]
struct Server {
    up: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    host: Option<String>,
    problem: Option<String>,
}

#[derive(Serialize)]
struct Memory {
    used: u64,
    limit: u64,
    level: &'static str,
}

#[derive(Serialize)]
struct Limits {
    callers: usize,
    refused: u64,
    /// `None`: they are not to be shared.
    shared: Option<bool>,
}

impl State {
    /// All members as an object.
    pub(super) fn whole(&self) -> Vec<u8> {
        object(MEMBERS.iter().zip(&self.0))
    }

    /// A state whose members are 0, but for this one.
    #[cfg(test)]
    pub(super) fn with_member(name: &str, json: String) -> Self {
        let mut state = Self(std::array::from_fn(|_| b"0".to_vec()));
        let at = MEMBERS.iter().position(|member| *member == name);
        state.0[at.unwrap_or_else(|| panic!("no member {name}"))] = json.into_bytes();
        state
    }

    /// Takes the members that change at almost every look from `before`, so that they need not be sent.
    pub(super) fn keep_unsteady(&mut self, before: &Self) {
        for ((name, now), before) in MEMBERS.iter().zip(&mut self.0).zip(&before.0) {
            if UNSTEADY.contains(name) {
                now.clone_from(before);
            }
        }
    }

    /// The members that differ from `before`, as an object. `None` if none does.
    pub(super) fn changes(&self, before: &Self) -> Option<Vec<u8>> {
        let all = MEMBERS.iter().zip(&self.0).zip(&before.0);
        let mut changed = all
            .filter(|((_, now), before)| now != before)
            .map(|(member, _)| member)
            .peekable();
        changed.peek()?;
        Some(object(changed))
    }
}

fn object<'a>(members: impl Iterator<Item = (&'a &'static str, &'a Vec<u8>)>) -> Vec<u8> {
    let mut json = vec![b'{'];
    for (name, value) in members {
        if json.len() > 1 {
            json.push(b',');
        }
        json.push(b'"');
        json.extend_from_slice(name.as_bytes());
        json.extend_from_slice(b"\":");
        json.extend_from_slice(value);
    }
    json.push(b'}');
    json
}

/// What is in the state beside the figures.
pub(super) struct Beside<'a> {
    pub(super) app: &'a App,
    /// `CACHE_NEAR_BYTES`.
    pub(super) near_bytes: u64,
    /// `INSTANCES`.
    pub(super) instances: u32,
    pub(super) limits: &'a LimitStats,
    pub(super) verdicts: &'a [Verdict],
}

impl State {
    pub(super) fn of(reading: &Reading, beside: &Beside<'_>) -> Self {
        let stats = &reading.database.pool;
        let hidden = reading.existing().saturating_sub(reading.connections.len());
        // In the order of the names.
        Self([
            json(&beside.verdicts),
            json(&slots(&reading.connections, stats.overflow())),
            json(&hidden),
            json(&Pool {
                min: stats.min_size,
                max: stats.max_size,
                overflow: stats.max_overflow,
                paused: stats.paused.then(|| Paused {
                    until: beside.app.admin.pause_ends_at().map(|end| reading.unix_at(end)),
                }),
                breaker_open: stats.breaker_open,
                leaked: stats.leaked,
            }),
            json(&queues(&reading.queues)),
            json(&cache(reading, beside)),
            json(&redis(reading)),
            json(&Server {
                up: !stats.breaker_open && stats.connect_failures_in_a_row == 0,
                host: Some(hosts(beside.app)),
                problem: reading.database.last_connect_error.map(str::to_owned),
            }),
            json(&memory(reading)),
            json(&Limits {
                callers: beside.limits.buckets_in_use,
                refused: beside.limits.refused.iter().map(|(_, count)| count).sum(),
                shared: beside.limits.shared.as_ref().map(|shared| shared.problem.is_none()),
            }),
            json(&Some(beside.instances).filter(|instances| *instances > 1)),
            json(&failures(beside.app)),
            json(&slow_statements(beside.app)),
        ])
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Cannot fail: the structs here have text keys. Otherwise the member would be unknown.
    serde_json::to_vec(value).unwrap_or_else(|_| b"null".to_vec())
}

fn queues(queues: &Queues) -> [Queue; 3] {
    let named = [
        ("reads", queues.reads),
        ("writes", queues.writes),
        ("users", queues.users),
    ];
    named.map(|(name, stats)| Queue {
        name,
        waiting: stats.waiting,
        running: stats.running,
        batch: (stats.requests as f64 / stats.batches.max(1) as f64 * 10.0).round() / 10.0,
    })
}

fn cache(reading: &Reading, beside: &Beside<'_>) -> Cache {
    let mode = beside.app.cache_mode;
    let stats = reading.cache.as_ref();
    let problem = stats.and_then(problem_of_cache);
    Cache {
        mode: mode.as_str(),
        state: match (mode, &problem) {
            (CacheMode::Off, _) => "off",
            (_, Some(_)) => "degraded",
            (_, None) => "ok",
        },
        problem,
        keys: stats.map_or(0, |stats| stats.keys),
        bytes: stats.map_or(0, |stats| stats.bytes),
        limit: beside.near_bytes,
    }
}

fn redis(reading: &Reading) -> Option<Server> {
    let stats = reading.cache.as_ref().filter(|stats| stats.uses_redis)?;
    let problem = stats.redis_problem.as_ref();
    Some(Server {
        up: problem.is_none(),
        host: None,
        problem: problem.map(|problem| problem.without_address().to_string()),
    })
}

fn memory(reading: &Reading) -> Option<Memory> {
    let report = reading.memory.as_ref()?;
    Some(Memory {
        used: report.reading.used,
        limit: report.reading.limit,
        level: match report.level {
            Level::Normal => "normal",
            Level::Warning => "warning",
            Level::Critical => "critical",
        },
    })
}

/// The hosts in use.
fn hosts(app: &App) -> String {
    let hosts = app.pool.hosts().into_iter().filter(|host| !host.is_drained);
    hosts.map(|host| host.name).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unsteady_members_can_be_kept_while_the_others_change() {
        let before = State::default();
        let mut now = State(std::array::from_fn(|index| index.to_string().into_bytes()));
        now.keep_unsteady(&before);
        let changes: serde_json::Value = serde_json::from_slice(&now.changes(&before).unwrap()).unwrap();
        let changed = changes.as_object().unwrap();
        assert!(UNSTEADY.iter().all(|name| MEMBERS.contains(name)));
        assert_eq!(changed.len(), MEMBERS.len() - UNSTEADY.len());
        assert!(
            changed.contains_key("verdicts") && changed.contains_key("pool"),
            "{changes}"
        );
    }

    #[test]
    fn only_the_members_that_changed_are_written_down() {
        let before = State(std::array::from_fn(|_| b"0".to_vec()));
        assert_eq!(before.changes(&before), None);
        let mut now = before.clone();
        now.0[2] = b"7".to_vec();
        now.0[10] = b"[8]".to_vec();
        assert_eq!(now.changes(&before).unwrap(), br#"{"slots_more":7,"instances":[8]}"#);
        let whole: serde_json::Value = serde_json::from_slice(&now.whole()).unwrap();
        assert_eq!(whole.as_object().unwrap().len(), MEMBERS.len());
    }
}
