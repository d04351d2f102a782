//! The public handle. Invariant: a read is answered only with what its mode promises, whatever other reads and writes do
//! and whichever futures are dropped meanwhile.

use std::{iter::zip, sync::Arc};

use tokio::time::Instant;

use crate::{
    cache_core::CacheCore,
    clock,
    config::{Config, ConfigError, check_name},
    fenced::{Fenced, Hold},
    modes::{
        ActiveMode,
        redis_writes::{self, RedisFence},
    },
    origin::Origin,
    read::{DatedRead, Read},
    redis::key_count::KeyCount,
    stats::Stats,
    write_outcome::{Coherence, NotFenced},
};

/// A handle to a cache, with an origin through which it loads. A clone shares the cache and the origin;
/// [`with_origin`](Self::with_origin) shares the cache alone.
///
/// A handle may be used from any runtime, and several handles from several runtimes at once.
pub struct Cache<O: Origin> {
    origin: Arc<O>,
    core: Arc<CacheCore<O::Error>>,
}

impl<O: Origin> Cache<O> {
    /// Creates a cache with these settings.
    ///
    /// In modes with Redis it starts tasks on the current runtime that connect to Redis and follow the epoch through this
    /// origin. If that runtime ends or stalls, they continue on a caller's. They end with the last handle. Until Redis may
    /// be used, the database answers reads, and writes wait.
    ///
    /// # Errors
    /// [`ConfigError`] for settings that cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime, in modes with Redis.
    pub fn new(origin: O, config: Config) -> Result<Self, ConfigError> {
        check_name(&config.name)?;
        let origin = Arc::new(origin);
        let core = Arc::new(CacheCore::start(&origin, &config)?);
        Ok(Self { origin, core })
    }

    /// A handle to the same cache that loads through another origin for the same database, such as the connections of
    /// another core. Reads of the same key share one load, whichever handle they come through.
    #[must_use]
    pub fn with_origin<P: Origin<Error = O::Error>>(&self, origin: P) -> Cache<P> {
        Cache {
            origin: Arc::new(origin),
            core: self.core.clone(),
        }
    }

    /// The value of a key if it is in this process and may be used. Neither waits nor allocates. `None` says nothing about
    /// the row; [`read`](Self::read) it then.
    #[must_use]
    pub fn near(&self, key: &str) -> Option<Read> {
        let found = self.core.near_hit(key, clock::now())?;
        self.core.counters.add_read(&found.read);
        Some(found.read)
    }

    /// The value of a key.
    ///
    /// # Errors
    /// The database's, if it had to be asked; never one of Redis.
    ///
    /// # Cancel safety
    /// Dropping the future does not disturb other reads of the same key.
    pub async fn read(&self, key: &str) -> Result<Read, O::Error> {
        let started = clock::now();
        let found = match &self.core.mode {
            ActiveMode::Off => None,
            ActiveMode::Local(local) => local.get(key, started),
            ActiveMode::Redis(redis) => redis.get(key, started).await,
            ActiveMode::CacheAside(aside) => aside.get(key, started).await,
        };
        if let Some(found) = found {
            self.core.counters.add_read(&found.read);
            return Ok(found.read);
        }
        let keys = [key];
        // Boxed, so that a hit does not move the much larger state of a look-up.
        let mut reads = Box::pin(self.core.look_up(&*self.origin, &keys, started)).await?;
        match reads.pop() {
            Some(read) => Ok(read),
            None => unreachable!("a look-up answers for each of its keys"),
        }
    }

    /// The values of several keys, in their order, in as few round trips as one key takes. They may stem from different
    /// points in time.
    ///
    /// # Errors
    /// The database's, if it had to be asked for one of them.
    ///
    /// # Cancel safety
    /// As for [`read`](Self::read).
    pub async fn read_many(&self, keys: &[&str]) -> Result<Vec<Read>, O::Error> {
        let started = clock::now();
        let counted = |found: DatedRead| {
            self.core.counters.add_read(&found.read);
            found.read
        };
        let near = keys.iter().map(|key| self.core.near_hit(key, started).map(counted));
        let mut reads: Vec<_> = near.collect();
        let missing = still_missing(keys, &reads);
        if !missing.is_empty() {
            let found = match &self.core.mode {
                ActiveMode::Off | ActiveMode::Local(_) => Vec::new(),
                ActiveMode::Redis(redis) => redis.get_each(&missing, started).await,
                ActiveMode::CacheAside(aside) => aside.get_each(&missing, started).await,
            };
            put_in(&mut reads, found.into_iter().map(|found| found.map(counted)));
        }
        let missing = still_missing(keys, &reads);
        if !missing.is_empty() {
            let found = Box::pin(self.core.look_up(&*self.origin, &missing, started)).await?;
            put_in(&mut reads, found.into_iter().map(Some));
        }
        Ok(reads.into_iter().flatten().collect())
    }

    /// Announces a write of these keys. Then commit it, [release](Fenced::release) the keys, and acknowledge.
    ///
    /// # Errors
    /// [`NotFenced`] if that was not possible within [`Config::write_patience`]. Nothing may be written then.
    ///
    /// # Cancel safety
    /// After a drop the keys may be fenced until the fence expires: their reads go to the database.
    pub async fn fence(&self, keys: &[&str]) -> Result<Fenced, NotFenced> {
        match &self.core.mode {
            ActiveMode::Redis(redis) => {
                self.check_epoch();
                let fence = RedisFence::set(redis, keys).await?;
                Ok(Fenced::new(keys, Hold::Redis(fence)))
            }
            _ => self.fence_now(keys).await,
        }
    }

    /// Like [`fence`](Self::fence), but without waiting: for a caller that holds a resource, such as a connection to the
    /// database. Takes one round trip to Redis, at most [its timeout](crate::RedisConfig::timeout).
    ///
    /// # Errors
    /// [`NotFenced`] if it was not possible at once. Then wait for [`unobstructed`](Self::unobstructed) and try again.
    ///
    /// # Cancel safety
    /// As for [`fence`](Self::fence).
    pub async fn fence_now(&self, keys: &[&str]) -> Result<Fenced, NotFenced> {
        let hold = match &self.core.mode {
            ActiveMode::Off => Hold::Nothing,
            ActiveMode::Local(local) => Hold::Local(local.clone(), local.fence(keys)),
            ActiveMode::Redis(redis) => Hold::Redis(RedisFence::set_now(redis, keys).await?),
            ActiveMode::CacheAside(aside) => Hold::CacheAside(aside.clone()),
        };
        Ok(Fenced::new(keys, hold))
    }

    /// Waits until [`fence_now`](Self::fence_now) can be expected to succeed. Returns at once and without I/O while
    /// nothing is known to prevent it.
    ///
    /// # Errors
    /// [`NotFenced`] if that is not so by the deadline.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn unobstructed(&self, deadline: Instant) -> Result<(), NotFenced> {
        match &self.core.mode {
            ActiveMode::Redis(redis) => {
                self.check_epoch();
                redis_writes::unobstructed(redis, deadline).await
            }
            ActiveMode::Off | ActiveMode::Local(_) | ActiveMode::CacheAside(_) => Ok(()),
        }
    }

    /// Drops what is cached for keys that someone changed without fencing them, as a change feed reports. Call it after
    /// the change has committed.
    ///
    /// Once this is [`Settled`](Coherence::Settled), no read that begins finds the values from before the change; in
    /// `bounded`, other instances may still find them near within the bound. Values that are being loaded meanwhile are
    /// not stored. If it could not be done at once, this is [`Pending`](Coherence::Pending): call it again, or
    /// [`distrust`](Self::distrust) everything.
    ///
    /// # Cancel safety
    /// After a drop some keys may still be cached.
    pub async fn invalidate(&self, keys: &[&str]) -> Coherence {
        let is_done = match &self.core.mode {
            ActiveMode::Off => true,
            ActiveMode::Local(local) => {
                keys.iter().for_each(|key| local.near.forget(key));
                true
            }
            ActiveMode::Redis(redis) => redis.invalidate(keys).await,
            ActiveMode::CacheAside(aside) => aside.delete(keys).await,
        };
        if is_done {
            Coherence::Settled
        } else {
            Coherence::Pending
        }
    }

    /// Drops everything that is cached, because changes may have been missed. Call it when a change feed listens again
    /// after an interruption.
    ///
    /// In `local` this is done when it returns. In `strong` and `bounded` it advances the epoch for all instances: no read
    /// that begins a lease (2 s by [default](crate::Timing)) after this returned finds what was cached before the call.
    /// Writes wait meanwhile, and Redis is used again about two leases later. In `ttl` nothing happens: what is cached
    /// there expires by itself.
    ///
    /// # Errors
    /// The database's, if the epoch could not be advanced. Then nothing is promised: call it again.
    ///
    /// # Cancel safety
    /// After a drop it may or may not be done.
    pub async fn distrust(&self) -> Result<(), O::Error> {
        match &self.core.mode {
            ActiveMode::Off | ActiveMode::CacheAside(_) => Ok(()),
            ActiveMode::Local(local) => {
                local.near.clear();
                Ok(())
            }
            ActiveMode::Redis(redis) => redis.distrust(&*self.origin).await,
        }
    }

    /// The number of keys that reads may be answered from: in `local` those in this process, in modes with Redis those
    /// there, including absent rows and keys that are being written or loaded. `None` if Redis does not answer.
    ///
    /// Redis is asked at most once a second, with at most 40 short commands within 50 ms. If the same database holds much
    /// else, the count is therefore an estimate at first, and may be some seconds old later. Right after Redis resizes its
    /// table, it may count some keys twice.
    ///
    /// # Cancel safety
    /// Nothing continues after a drop.
    pub async fn count_keys(&self) -> Option<KeyCount> {
        match &self.core.mode {
            ActiveMode::Off => Some(KeyCount::exact(0)),
            ActiveMode::Local(local) => Some(KeyCount::exact(local.near.len() as u64)),
            ActiveMode::Redis(redis) => redis.count_keys().await,
            ActiveMode::CacheAside(aside) => aside.count_keys().await,
        }
    }

    /// Returns the counts of what the cache has done, and its state.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let now = clock::now();
        let mut stats = self.core.counters.totals();
        let near = match &self.core.mode {
            ActiveMode::Off => None,
            ActiveMode::Local(local) => Some(&local.near),
            ActiveMode::Redis(redis) => {
                stats.epoch = redis.epoch_view.valid(now).map(|view| view.epoch);
                stats.state = redis.state(now);
                stats.uses_redis = true;
                stats.redis_problem = redis.reports.problem();
                stats.redis_times = redis.redis_times();
                redis.near()
            }
            ActiveMode::CacheAside(aside) => {
                stats.state = aside.state();
                stats.uses_redis = true;
                stats.redis_problem = aside.redis.reports.problem();
                stats.redis_times = aside.redis.redis_times();
                None
            }
        };
        if let Some(near) = near {
            (stats.keys, stats.bytes, stats.evictions) = (near.len(), near.bytes(), near.evictions());
        }
        stats
    }

    /// Changes the bound on the values kept in this process, [`Config::near_bytes`], of all handles. If it is lower, values
    /// are evicted before this returns. In modes that keep none, nothing happens.
    pub fn set_near_bytes(&self, bytes: u64) {
        let near = match &self.core.mode {
            ActiveMode::Local(local) => Some(&local.near),
            ActiveMode::Redis(redis) => redis.near(),
            ActiveMode::Off | ActiveMode::CacheAside(_) => None,
        };
        if let Some(near) = near {
            near.resize(bytes);
        }
    }

    /// Restarts the tasks if no epoch is known and their runtime has ended.
    fn check_epoch(&self) {
        if let ActiveMode::Redis(redis) = &self.core.mode
            && redis.epoch_view.valid(clock::now()).is_none()
        {
            self.core.check_tasks();
        }
    }
}

impl<O: Origin> Clone for Cache<O> {
    fn clone(&self) -> Self {
        Self {
            origin: self.origin.clone(),
            core: self.core.clone(),
        }
    }
}

/// The keys without a read.
fn still_missing<'a>(keys: &[&'a str], reads: &[Option<Read>]) -> Vec<&'a str> {
    zip(keys, reads)
        .filter(|(_, read)| read.is_none())
        .map(|(key, _)| *key)
        .collect()
}

/// Fills the places without a read, in their order.
fn put_in(reads: &mut [Option<Read>], found: impl Iterator<Item = Option<Read>>) {
    for (read, found) in zip(reads.iter_mut().filter(|read| read.is_none()), found) {
        *read = found;
    }
}
