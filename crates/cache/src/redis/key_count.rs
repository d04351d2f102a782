//! Counts the cells in Redis. Invariant: a call takes a bounded time of Redis and of the caller, however much else the database
//! holds, and nothing is counted without a call.
//!
//! Redis has no count of the keys with a prefix. A call continues a `SCAN` where the last call stopped. Until a scan has ended,
//! the number is estimated from its part: keys come in the order of their hashes, so all parts are alike.

use std::time::Duration;

use redis::FromRedisValue;
use tokio::sync::Mutex;

use crate::{
    clock,
    protocol::{keyspace_proof::Identity, time::BootTime},
    redis::{connection::Connection, problem::RedisProblem, session::Session},
};

/// The most steps of a call, and the keys that Redis visits in each: less than a millisecond of Redis.
const STEPS: usize = 40;
const KEYS: u64 = 1000;
/// A call takes no further step after this time.
const PATIENCE: Duration = Duration::from_millis(50);
/// A call that follows another within this time returns the same.
const INTERVAL: Duration = Duration::from_secs(1);

/// The number of keys in a cache.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeyCount {
    /// The number.
    pub keys: u64,
    /// How long ago the count began. It may miss later changes.
    pub age: Duration,
    /// Whether only a part was counted, and the rest estimated from it.
    pub is_estimate: bool,
}

impl KeyCount {
    /// An exact count of this moment.
    pub(crate) fn exact(keys: u64) -> Self {
        Self {
            keys,
            ..Self::default()
        }
    }
}

/// The count of a cache. Locked across the calls to Redis, so that concurrent callers share one count.
#[derive(Default)]
pub(crate) struct KeyCounter(Mutex<Progress>);

#[derive(Default)]
struct Progress {
    /// What is counted: the keys with this prefix in this run of Redis.
    of: Option<(Identity, String)>,
    scan: Scan,
    /// When the last call was.
    looked: Option<BootTime>,
    /// Its result, or that of the last scan that ended, and the time to which it belongs.
    counted: Option<(KeyCount, BootTime)>,
}

/// A scan in progress, over one server after the other.
#[derive(Default)]
struct Scan {
    began: Option<BootTime>,
    server: usize,
    cursor: u64,
    found: u64,
    seen: u64,
}

impl KeyCounter {
    /// Returns the number of keys with this prefix; `None` if Redis does not answer.
    ///
    /// # Cancel safety
    /// The next call continues after the last completed step.
    #[allow(
        clippy::significant_drop_tightening,
        reason = "one caller counts at a time, and the others take its result"
    )]
    pub(crate) async fn count(&self, session: &Session, prefix: &str) -> Option<KeyCount> {
        let mut progress = self.0.lock().await;
        let of = (session.identity(), prefix.to_owned());
        if progress.of.as_ref() != Some(&of) {
            *progress = Progress {
                of: Some(of),
                ..Progress::default()
            };
        }
        let now = clock::now();
        if progress.looked.is_none_or(|looked| now.since(looked) >= INTERVAL) {
            if let Err(problem) = progress
                .look(&mut session.controls(), &pattern(prefix), session.database())
                .await
            {
                tracing::debug!(%problem, "the keys in Redis cannot be counted");
            }
            progress.looked = Some(clock::now());
        }
        let (counted, at) = progress.counted?;
        let age = clock::now().since(at);
        Some(KeyCount { age, ..counted })
    }
}

impl Progress {
    /// Takes some steps, and estimates if no scan has ended yet.
    async fn look(&mut self, servers: &mut [Connection], pattern: &[u8], database: u32) -> Result<(), RedisProblem> {
        let started = clock::now();
        let began = *self.scan.began.get_or_insert(started);
        for _ in 0..STEPS {
            let scan = &mut self.scan;
            let Some(server) = servers.get_mut(scan.server) else {
                break;
            };
            let (cursor, found) = step(server, scan.cursor, pattern).await?;
            scan.cursor = cursor;
            scan.found += found;
            scan.seen += KEYS;
            if cursor == 0 {
                scan.server += 1;
            }
            if scan.server == servers.len() {
                let Scan { found, .. } = std::mem::take(scan);
                self.counted = Some((KeyCount::exact(found), began));
                return Ok(());
            }
            if clock::now().since(started) >= PATIENCE {
                break;
            }
        }
        if self.counted.is_none_or(|(counted, _)| counted.is_estimate) {
            let keys = self.scan.estimate(servers, database).await?;
            let is_estimate = true;
            let estimate = KeyCount {
                keys,
                is_estimate,
                ..KeyCount::default()
            };
            self.counted = Some((estimate, began));
        }
        Ok(())
    }
}

impl Scan {
    /// Estimates the whole from the part that was seen.
    async fn estimate(&self, servers: &mut [Connection], database: u32) -> Result<u64, RedisProblem> {
        let mut all = 0;
        for server in servers {
            let told: String = ask(server, redis::cmd("INFO").arg("keyspace")).await?;
            all += keys_of(&told, database);
        }
        let all = all.max(1);
        let part = self.seen.clamp(1, all);
        let keys = u128::from(self.found) * u128::from(all) / u128::from(part);
        Ok(u64::try_from(keys).unwrap_or(u64::MAX))
    }
}

/// Checks that keys may be counted.
pub(crate) async fn try_to_count(session: &Session, prefix: &str) -> Result<(), RedisProblem> {
    for mut server in session.controls() {
        step(&mut server, 0, &pattern(prefix)).await?;
    }
    Ok(())
}

/// Returns the next cursor, and the number of matching keys between the two.
async fn step(server: &mut Connection, cursor: u64, pattern: &[u8]) -> Result<(u64, u64), RedisProblem> {
    let mut scan = redis::cmd("SCAN");
    scan.arg(cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(KEYS);
    let (cursor, found): (String, Vec<redis::Value>) = ask(server, &scan).await?;
    let cursor = cursor.parse().unwrap_or(0);
    Ok((cursor, found.len() as u64))
}

async fn ask<T: FromRedisValue>(server: &mut Connection, command: &redis::Cmd) -> Result<T, RedisProblem> {
    Ok(command.query_async(&mut server.commands).await?)
}

/// The pattern that matches exactly the keys with this prefix.
fn pattern(prefix: &str) -> Vec<u8> {
    let mut pattern = Vec::with_capacity(prefix.len() + 1);
    for byte in prefix.bytes() {
        if b"*?[]\\".contains(&byte) {
            pattern.push(b'\\');
        }
        pattern.push(byte);
    }
    pattern.push(b'*');
    pattern
}

/// The number of keys of a database, from `INFO keyspace`.
fn keys_of(info: &str, database: u32) -> u64 {
    let name = format!("db{database}:keys=");
    let mut lines = info.lines().filter_map(|line| line.strip_prefix(&*name));
    let number = lines
        .next()
        .and_then(|rest| rest.split(',').next()?.trim().parse().ok());
    number.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_matched_literally() {
        assert_eq!(pattern("a*[b]?\\:1:"), b"a\\*\\[b\\]\\?\\\\:1:*");
    }

    #[test]
    fn the_key_count_of_a_database_is_read_from_its_line() {
        let info = "# Keyspace\r\ndb0:keys=1,expires=0\r\ndb10:keys=20,expires=1,avg_ttl=3\r\n";
        assert_eq!((keys_of(info, 0), keys_of(info, 1), keys_of(info, 10)), (1, 0, 20));
    }
}
