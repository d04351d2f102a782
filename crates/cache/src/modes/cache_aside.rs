//! The mode `ttl`: cache-aside as it is usually written, for comparison. It has no protocol: a fill may store a value that
//! a write has replaced meanwhile, and only the time to live removes it.

use std::{iter::zip, sync::Arc};

use crate::{
    clock,
    modes::redis_mode::RedisMode,
    origin::{Origin, load_each},
    protocol::time::BootTime,
    read::{DatedRead, Source},
    redis::{
        key_count::KeyCount,
        keyspace::{Filling, Found, Keyspace},
    },
    stats::{CacheEvent, DegradedReason, State},
    value::Value,
};

/// The epoch of all reads: this mode has only one.
pub(crate) const EPOCH: u64 = 0;

pub(crate) struct CacheAside {
    /// Of the modes with Redis this one uses the session alone, without epochs.
    pub(crate) redis: Arc<RedisMode>,
}

impl CacheAside {
    pub(crate) fn new(redis: Arc<RedisMode>) -> Self {
        Self { redis }
    }

    /// The value of a key if Redis has it.
    pub(crate) async fn get(&self, key: &str, asked: BootTime) -> Option<DatedRead> {
        match self.keyspace()?.get(key).await {
            Ok(Found::Known(value)) => Some(found(value, asked)),
            _ => None,
        }
    }

    /// As [`get`](Self::get), for several keys in one round trip.
    pub(crate) async fn get_each(&self, keys: &[&str], asked: BootTime) -> Vec<Option<DatedRead>> {
        if let Some(keyspace) = self.keyspace()
            && let Ok(cells) = keyspace.get_each(keys).await
        {
            let known = |cell| match cell {
                Found::Known(value) => Some(found(value, asked)),
                _ => None,
            };
            return cells.into_iter().map(known).collect();
        }
        keys.iter().map(|_| None).collect()
    }

    /// Loads the values of these keys and stores them, whatever else happened meanwhile.
    pub(crate) async fn load<O: Origin>(&self, origin: &O, keys: &[&str]) -> Result<Vec<DatedRead>, O::Error> {
        let asked = clock::now();
        let values = load_each(origin, keys).await?;
        let since = clock::now();
        let counters = &self.redis.counters;
        let ttl = origin.ttl().unwrap_or(self.redis.ttl);
        if let Some(keyspace) = self.keyspace() {
            let fillings: Vec<_> = zip(keys, &values)
                .map(|(key, value)| Filling {
                    key,
                    token: None,
                    value: value.as_ref(),
                    ttl: ttl.of(value.as_ref()),
                })
                .collect();
            if keyspace.set(&fillings).await.is_ok() {
                counters.add(CacheEvent::Fill, keys.len());
            }
        } else {
            counters.add(CacheEvent::Bypassed, keys.len());
        }
        let read = |value| {
            DatedRead::new(value, Source::Database, asked)
                .stored(EPOCH, since)
                .unbounded()
        };
        Ok(values.into_iter().map(read).collect())
    }

    /// Deletes keys. Returns whether Redis answered.
    pub(crate) async fn delete(&self, keys: &[&str]) -> bool {
        match self.keyspace() {
            Some(keyspace) => keyspace.invalidate(keys).await.is_ok(),
            None => false,
        }
    }

    pub(crate) async fn count_keys(&self) -> Option<KeyCount> {
        match self.keyspace() {
            Some(keyspace) => keyspace.count(&self.redis.key_counter).await,
            None => Some(KeyCount::exact(0)),
        }
    }

    pub(crate) fn state(&self) -> State {
        match self.redis.session.current() {
            Some(_) => State::Ok,
            None => State::Degraded(DegradedReason::Unreachable),
        }
    }

    fn keyspace(&self) -> Option<Keyspace> {
        let session = self.redis.session.current()?;
        Some(Keyspace::new(
            session,
            &self.redis.session_config.prefix,
            &self.redis.name,
            None,
        ))
    }
}

fn found(value: Option<Value>, asked: BootTime) -> DatedRead {
    DatedRead::new(value, Source::Redis, asked).unbounded()
}
