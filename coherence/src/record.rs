//! A client's records of its requests. Invariant: a write counts as done only if it was acknowledged, and is left out
//! only if the answer says that it had no effect.

use std::{collections::BTreeMap, sync::Arc};

use crate::history::{Kind, Operation};
use cenote_cache::{clock, protocol::time::BootTime};
use serde::Deserialize;

use crate::{client::Answer, keyspace::digest};

/// The problems that, by the service's documentation, mean that a write had no effect.
const REFUSALS: [&str; 10] = [
    "cache-unreachable",
    "pool-timeout",
    "pool-overloaded",
    "database-unavailable",
    "database-exhausted",
    "conflict-retries-exhausted",
    "read-only",
    "schema-not-ready",
    "shutting-down",
    "too-many-connections",
];
/// The problems after which a write may have had an effect.
const UNKNOWN: [&str; 2] = ["outcome-unknown", "command-timeout"];

/// An operation, and whether it was answered from a cache.
#[derive(Debug, Clone)]
pub(crate) struct Record {
    pub(crate) operation: Operation,
    pub(crate) is_hit: bool,
}

/// A slow request, or one without an answer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Slow {
    pub(crate) instance: usize,
    pub(crate) invoked: BootTime,
    /// When it was answered, or when the client gave up.
    pub(crate) ended: BootTime,
    pub(crate) is_answered: bool,
}

/// The number of requests with an outcome other than plain success.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tally {
    /// Problems, by type.
    pub(crate) problems: BTreeMap<String, u64>,
    /// Answers that say that Redis did not get the write in time.
    pub(crate) pending: u64,
    /// Writes of unknown outcome.
    pub(crate) unknown: u64,
    /// Answers that a service must never give.
    pub(crate) nonsense: Vec<String>,
}

/// All records of a client.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) records: Vec<Record>,
    pub(crate) slow: Vec<Slow>,
    pub(crate) tally: Tally,
}

/// A request in flight.
pub(crate) struct Asked {
    pub(crate) instance: usize,
    pub(crate) invoked: BootTime,
}

impl Notes {
    /// A read was answered.
    pub(crate) fn read(&mut self, asked: &Asked, key: &Arc<str>, answer: &Answer) {
        #[derive(Deserialize)]
        struct Entry<'a> {
            value: &'a str,
            version: i64,
        }
        let found = match answer.status {
            200 => match serde_json::from_slice::<Entry<'_>>(&answer.body) {
                Ok(entry) => Some((entry.version, digest(entry.value))),
                Err(error) => return self.nonsense(format!("a read: {error}")),
            },
            404 => None,
            _ => return self.problem(answer),
        };
        self.found(asked, key, found, answer.is_hit());
    }

    /// A read of several keys was answered.
    pub(crate) fn read_many(&mut self, asked: &Asked, keys: &[Arc<str>], answer: &Answer) {
        #[derive(Deserialize)]
        struct Entry<'a> {
            value: &'a str,
            version: i64,
            from_cache: bool,
        }
        #[derive(Deserialize)]
        struct Many<'a> {
            #[serde(borrow)]
            found: BTreeMap<&'a str, Entry<'a>>,
        }
        if answer.status != 200 {
            return self.problem(answer);
        }
        match serde_json::from_slice::<Many<'_>>(&answer.body) {
            Err(error) => self.nonsense(format!("a read of many: {error}")),
            Ok(many) => {
                for key in keys {
                    let entry = many.found.get(&**key);
                    let found = entry.map(|entry| (entry.version, digest(entry.value)));
                    let is_hit = entry.is_some_and(|entry| entry.from_cache);
                    self.found(asked, key, found, is_hit);
                }
            }
        }
    }

    /// A write of this value, or a delete, was answered.
    pub(crate) fn written(&mut self, asked: &Asked, key: &Arc<str>, value: Option<&str>, answer: &Answer) {
        #[derive(Deserialize)]
        struct Written {
            version: i64,
        }
        let version = || {
            let body = serde_json::from_slice::<Written>(&answer.body);
            body.ok().map(|body| body.version)
        };
        let digest = value.map(digest);
        match (answer.status, value) {
            (200, Some(_)) => match version() {
                Some(version) => self.write(asked, key, digest, Some(version), true),
                None => self.nonsense("a write that tells no version".to_owned()),
            },
            (204, None) => match answer.version() {
                Some(version) => self.write(asked, key, digest, Some(version), true),
                None => self.nonsense("a delete that tells no version".to_owned()),
            },
            (202, _) => {
                self.tally.pending += 1;
                self.write(asked, key, digest, version(), false);
            }
            // The service looked the key up, and there was nothing to delete.
            (404, None) => self.found(asked, key, None, false),
            _ => {
                let problem = answer.problem();
                let is_refused = problem.is_some_and(|it| REFUSALS.contains(&&*it));
                self.problem(answer);
                if !is_refused {
                    self.lost(asked, key, value);
                }
            }
        }
    }

    /// A write got no answer, or the answer says that its outcome is unknown.
    pub(crate) fn lost(&mut self, asked: &Asked, key: &Arc<str>, value: Option<&str>) {
        self.tally.unknown += 1;
        self.write(asked, key, value.map(digest), None, false);
    }

    fn found(&mut self, asked: &Asked, key: &Arc<str>, found: Option<(i64, u64)>, is_hit: bool) {
        self.note(asked, key, Kind::Read(found), true, is_hit);
    }

    fn write(&mut self, asked: &Asked, key: &Arc<str>, digest: Option<u64>, version: Option<i64>, is_settled: bool) {
        self.note(asked, key, Kind::Write { version, digest }, is_settled, false);
    }

    fn note(&mut self, asked: &Asked, key: &Arc<str>, kind: Kind, is_settled: bool, is_hit: bool) {
        let operation = Operation {
            key: key.clone(),
            instance: asked.instance,
            invoked: asked.invoked,
            returned: is_settled.then(clock::now),
            kind,
        };
        self.records.push(Record { operation, is_hit });
    }

    fn problem(&mut self, answer: &Answer) {
        match answer.problem() {
            Some(slug) if REFUSALS.contains(&&*slug) || UNKNOWN.contains(&&*slug) => {
                *self.tally.problems.entry(slug).or_default() += 1;
            }
            slug => self.nonsense(format!("{} {slug:?}", answer.status)),
        }
    }

    fn nonsense(&mut self, what: String) {
        self.tally.nonsense.push(what);
    }

    /// Adds the records of another client.
    pub(crate) fn absorb(&mut self, other: Self) {
        self.records.extend(other.records);
        self.slow.extend(other.slow);
        for (slug, count) in other.tally.problems {
            *self.tally.problems.entry(slug).or_default() += count;
        }
        self.tally.pending += other.tally.pending;
        self.tally.unknown += other.tally.unknown;
        self.tally.nonsense.extend(other.tally.nonsense);
    }
}
