//! What all handles of a cache share, and the look-up of keys that no cache answers. Invariant: a key is looked up once at
//! a time, and its callers get an answer whatever becomes of the one that looks it up.

use std::{iter::zip, sync::Arc, time::Duration};

use tokio::time::timeout;

use crate::{
    clock,
    config::{Config, ConfigError},
    flight::{FlightRole, Flights},
    modes::{ActiveMode, background::BackgroundTasks, cache_aside, local},
    origin::{Origin, load_each},
    protocol::time::BootTime,
    read::{DatedRead, Read, Source},
    stats::{CacheEvent, Counters},
};

/// The longest that a read waits for another's look-up of the same key. Then it looks the key up itself.
const LONGEST_FLIGHT: Duration = Duration::from_secs(10);

pub(crate) struct CacheCore<E> {
    pub(crate) mode: ActiveMode,
    pub(crate) counters: Arc<Counters>,
    flights: Flights<E>,
    stale_on_error: bool,
    /// In modes with Redis.
    tasks: Option<BackgroundTasks>,
}

impl<E: Clone> CacheCore<E> {
    pub(crate) fn start<O: Origin<Error = E>>(origin: &Arc<O>, config: &Config) -> Result<Self, ConfigError> {
        let counters = Arc::new(Counters::default());
        let (mode, tasks) = ActiveMode::start(config, origin, &counters)?;
        Ok(Self {
            mode,
            counters,
            flights: Flights::new(),
            stale_on_error: config.stale_on_error,
            tasks,
        })
    }

    /// The value of a key if this process has it. Neither waits nor allocates.
    pub(crate) fn near_hit(&self, key: &str, now: BootTime) -> Option<DatedRead> {
        match &self.mode {
            ActiveMode::Local(local) => local.get(key, now),
            ActiveMode::Redis(redis) => redis.near_hit(key, now),
            ActiveMode::Off | ActiveMode::CacheAside(_) => None,
        }
    }

    /// The values of keys that no cache answered; after a failure of the database, outdated ones if that is configured.
    pub(crate) async fn look_up<O: Origin<Error = E>>(
        &self,
        origin: &O,
        keys: &[&str],
        started: BootTime,
    ) -> Result<Vec<Read>, E> {
        let found = self.find(origin, keys, started).await;
        let mut reads = Vec::with_capacity(keys.len());
        for (key, found) in zip(keys, found) {
            let found = match found {
                Ok(found) => found,
                Err(error) if self.stale_on_error => self.outdated(key).await.ok_or(error)?,
                Err(error) => return Err(error),
            };
            self.counters.add_read(&found.read);
            reads.push(found.read);
        }
        Ok(reads)
    }

    /// Finds each key: loads it, or joins another read that does.
    async fn find<O: Origin<Error = E>>(
        &self,
        origin: &O,
        keys: &[&str],
        started: BootTime,
    ) -> Vec<Result<DatedRead, E>> {
        // The epoch in which the read began.
        let epoch = match &self.mode {
            ActiveMode::Off => return self.load(origin, keys).await,
            ActiveMode::Local(_) => Some(local::EPOCH),
            ActiveMode::CacheAside(_) => Some(cache_aside::EPOCH),
            ActiveMode::Redis(redis) => redis.epoch_view.valid(started).map(|view| view.epoch),
        };
        if epoch.is_none() {
            self.check_tasks();
        }
        let mut found: Vec<Option<Result<DatedRead, E>>> = keys.iter().map(|_| None).collect();
        while found.iter().any(Option::is_none) {
            let (mut leaders, mut followers) = (Vec::new(), Vec::new());
            for at in (0..keys.len()).filter(|at| found[*at].is_none()) {
                match self.flights.enter(keys[at]) {
                    FlightRole::Leads(leader) => leaders.push((at, leader)),
                    FlightRole::Follows(follower) => followers.push((at, follower)),
                }
            }
            // The leader of a moment ago may have left the value near.
            let now = clock::now();
            leaders.retain(|(at, _)| {
                found[*at] = self.near_hit(keys[*at], now).map(Ok);
                found[*at].is_none()
            });
            // Before waiting for others: they may wait for a key that is led here.
            if !leaders.is_empty() {
                let led: Vec<_> = leaders.iter().map(|(at, _)| keys[*at]).collect();
                let landings = self.load(origin, &led).await;
                for ((at, leader), landing) in zip(leaders, landings) {
                    leader.land(landing.clone());
                    found[at] = Some(landing);
                }
            }
            for (at, mut follower) in followers {
                let landing = match timeout(LONGEST_FLIGHT, follower.landing()).await {
                    Ok(landing) => landing,
                    Err(_) => {
                        // The leader's runtime may no longer run.
                        self.flights.give_up(keys[at], &follower);
                        None
                    }
                };
                match landing {
                    Some(Ok(read)) if !read.serves(started, epoch) => {}
                    Some(landing) => {
                        self.counters.add(CacheEvent::Joined, 1);
                        found[at] = Some(landing);
                    }
                    None => {}
                }
            }
        }
        found.into_iter().flatten().collect()
    }

    /// Loads keys from the database, and keeps the values as the mode does.
    async fn load<O: Origin<Error = E>>(&self, origin: &O, keys: &[&str]) -> Vec<Result<DatedRead, E>> {
        let loaded = match &self.mode {
            ActiveMode::Redis(redis) => return redis.load(origin, keys).await,
            ActiveMode::Local(local) => local.load(origin, keys).await,
            ActiveMode::CacheAside(aside) => aside.load(origin, keys).await,
            ActiveMode::Off => {
                let asked = clock::now();
                let read = |value| DatedRead::new(value, Source::Database, asked);
                let values = load_each(origin, keys).await;
                values.map(|values| values.into_iter().map(read).collect())
            }
        };
        match loaded {
            Ok(reads) => reads.into_iter().map(Ok).collect(),
            Err(error) => keys.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// The value of a key that was known before the database failed.
    async fn outdated(&self, key: &str) -> Option<DatedRead> {
        match &self.mode {
            ActiveMode::Off | ActiveMode::CacheAside(_) => None,
            ActiveMode::Local(local) => local.outdated(key),
            ActiveMode::Redis(redis) => redis.outdated(key).await,
        }
    }

    /// Restarts the tasks if the runtime that they are on is gone.
    pub(crate) fn check_tasks(&self) {
        if let Some(tasks) = &self.tasks {
            tasks.check();
        }
    }
}
