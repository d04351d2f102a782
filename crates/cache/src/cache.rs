//! The cache in front of a database. Invariant: a read is answered only with what its mode promises, whoever else reads,
//! writes or is dropped meanwhile.

use std::{iter::zip, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use tokio::{
    runtime::Handle,
    task::AbortHandle,
    time::{Instant, timeout},
};

use crate::{
    clock,
    config::{Config, ConfigError, MIN_STALENESS, Mode, Redis, check_name},
    disagreement::Disagreement,
    fenced::{Coherence, Fenced, NotFenced},
    flight::{Flights, Role},
    ids::Ids,
    keeper,
    keepers::Keepers,
    key_count::{KeyCount, KeyCounter},
    links::Links,
    local::Local,
    moment::Moment,
    near::Staleness,
    near_cache::{NearCache, Ttl},
    origin::Origin,
    plain::Plain,
    poller,
    read::{Answer, Read, Source},
    redis_check::plan,
    redis_reports::RedisReports,
    shared::Shared,
    stats::{Counters, Event, Stats},
    tier::Tier,
    tracking::Tracking,
    views::Views,
};

/// A handle to a cache, and the way on which it loads what is not there. Cloning it gives the same once more;
/// [`with_origin`](Self::with_origin) gives one with a way of its own.
///
/// A handle may be used from any runtime, and several handles from several at once.
pub struct Cache<O: Origin> {
    origin: Arc<O>,
    inner: Arc<Inner<O::Error>>,
}

/// A look-up that takes longer is waited for no more by those who want the same.
const LONGEST_FLIGHT: Duration = Duration::from_secs(10);

/// What all handles share.
struct Inner<E> {
    tier: Tier,
    flights: Flights<E>,
    counters: Arc<Counters>,
    stale_on_error: bool,
    /// In the modes with Redis.
    keepers: Option<Keepers>,
}

impl<O: Origin> Cache<O> {
    /// A cache with these settings. In modes with Redis it connects and follows the epoch, which it asks this origin
    /// for, in tasks on this runtime; if that ends, or nobody runs it any more, on that of a caller. They end with the
    /// last handle. Until Redis may be used, reads are answered by the
    /// database, and writes wait.
    ///
    /// # Errors
    /// [`ConfigError`] for settings that cannot be used.
    ///
    /// # Panics
    /// Outside a tokio runtime, in modes with Redis.
    pub fn new(origin: O, config: Config) -> Result<Self, ConfigError> {
        check_name(&config.name)?;
        let origin = Arc::new(origin);
        let counters = Arc::new(Counters::new());
        let mut keepers = None;
        let tier = match &config.mode {
            Mode::Off => Tier::Off,
            Mode::Local => Tier::Local {
                local: Arc::new(Local {
                    near: NearCache::new(config.near_bytes, ttl(&config)),
                    counters: counters.clone(),
                }),
                fence: config.timing.fence(),
            },
            Mode::Ttl(redis) => {
                let shared = shared(&config, redis, None, &counters)?;
                let kept = shared.clone();
                keepers = Some(Keepers::start(Box::new(move || {
                    vec![spawn(keeper::keep(kept.clone(), None))]
                })));
                Tier::Plain(Plain(shared))
            }
            Mode::Strong(redis) => {
                let shared = shared(&config, redis, None, &counters)?;
                keepers = Some(followers(&shared, &origin, None));
                Tier::Shared(shared)
            }
            Mode::Bounded { redis, max_staleness } => {
                let bound = *max_staleness;
                let staleness = Staleness::new(bound, Duration::ZERO)
                    .filter(|_| bound >= MIN_STALENESS)
                    .ok_or(ConfigError::Staleness(bound))?;
                let near = NearCache::new(config.near_bytes, ttl(&config));
                let tracking = Tracking::new(near, staleness, &redis.prefix, &config.name);
                let shared = shared(&config, redis, Some(tracking), &counters)?;
                keepers = Some(followers(&shared, &origin, Some(bound)));
                Tier::Shared(shared)
            }
        };
        let inner = Arc::new(Inner {
            tier,
            flights: Flights::new(),
            counters,
            stale_on_error: config.stale_on_error,
            keepers,
        });
        Ok(Self { origin, inner })
    }

    /// A handle to the same cache that loads through another way to the same database, such as the connections of
    /// another core. Whoever waits for the same key waits for one load, whichever handle it came through.
    #[must_use]
    pub fn with_origin<P: Origin<Error = O::Error>>(&self, origin: P) -> Cache<P> {
        Cache {
            origin: Arc::new(origin),
            inner: self.inner.clone(),
        }
    }

    /// The value of a key if it is in this process and may be answered with: neither waits nor allocates. `None` says
    /// nothing about the row; [`read`](Self::read) it then.
    #[must_use]
    pub fn near(&self, key: &str) -> Option<Read> {
        self.inner.hit(key, clock::now())
    }

    /// The value of a key.
    ///
    /// # Errors
    /// The database's, if it had to be asked; never one of Redis.
    ///
    /// # Cancel safety
    /// Dropping the future harms nobody who waits for the same key.
    pub async fn read(&self, key: &str) -> Result<Read, O::Error> {
        let started = clock::now();
        if let Some(read) = self.inner.hit(key, started) {
            return Ok(read);
        }
        if let Some(answer) = self.inner.tier.glance(key, started).await {
            return Ok(self.inner.counted(answer));
        }
        let keys = [key];
        let looked_up = self.inner.look_up(&*self.origin, &keys, started);
        let mut reads = Box::pin(looked_up).await?;
        match reads.pop() {
            Some(read) => Ok(read),
            None => unreachable!("a look-up answers for each of its keys"),
        }
    }

    /// The values of several keys, in their order, with as few round trips as one key takes. They need not belong to
    /// the same moment.
    ///
    /// # Errors
    /// The database's, if it had to be asked for one of them.
    ///
    /// # Cancel safety
    /// As for [`read`](Self::read).
    pub async fn read_many(&self, keys: &[&str]) -> Result<Vec<Read>, O::Error> {
        let started = clock::now();
        let hits = keys.iter().map(|key| self.inner.hit(key, started));
        let mut reads: Vec<_> = hits.collect();
        let missing = still_missing(keys, &reads);
        if !missing.is_empty() {
            let glanced = self.inner.tier.glance_each(&missing, started).await;
            let glanced = glanced
                .into_iter()
                .map(|known| known.map(|answer| self.inner.counted(answer)));
            put_in(&mut reads, glanced);
        }
        let missing = still_missing(keys, &reads);
        if !missing.is_empty() {
            let looked_up = self.inner.look_up(&*self.origin, &missing, started);
            let found = Box::pin(looked_up).await?;
            put_in(&mut reads, found.into_iter().map(Some));
        }
        Ok(reads.into_iter().flatten().collect())
    }

    /// Announces a write of these keys. Commit it, [release](Fenced::release) the keys, and then acknowledge.
    ///
    /// # Errors
    /// [`NotFenced`] if that was not possible within the configured patience. Nothing may be written then.
    ///
    /// # Cancel safety
    /// After a drop the keys may be fenced until the fence falls: their reads go to the database.
    pub async fn fence(&self, keys: &[&str]) -> Result<Fenced, NotFenced> {
        if self.inner.tier.epoch(clock::now()).is_none() {
            self.inner.look_after_keepers();
        }
        self.inner.tier.fence(keys).await
    }

    /// As [`fence`](Self::fence), for one who holds what others need, such as a connection to the database: without the
    /// patience. It takes one round trip to Redis, and if that does not answer, [its timeout](crate::config::Redis::timeout).
    ///
    /// # Errors
    /// [`NotFenced`] if it could not be done at once. Wait until [nothing is in the way](Self::unobstructed) then.
    ///
    /// # Cancel safety
    /// As for [`fence`](Self::fence).
    pub async fn fence_now(&self, keys: &[&str]) -> Result<Fenced, NotFenced> {
        self.inner.tier.fence_now(keys).await
    }

    /// Returns when [`fence_now`](Self::fence_now) can be expected to succeed, as far as is known here: at once, and
    /// without a question to anybody, while all is well.
    ///
    /// # Errors
    /// [`NotFenced`] if that is not so by the deadline.
    ///
    /// # Cancel safety
    /// Nothing is changed.
    pub async fn unobstructed(&self, deadline: Instant) -> Result<(), NotFenced> {
        if self.inner.tier.epoch(clock::now()).is_none() {
            self.inner.look_after_keepers();
        }
        self.inner.tier.unobstructed(deadline).await
    }

    /// Drops what is cached for keys that were changed by somebody who does not fence them, as a change feed tells. To be
    /// called after the change has committed.
    ///
    /// Once this is [`Settled`](Coherence::Settled), no read that begins finds what was there before the change: in
    /// `bounded`, near caches of other instances learn of it as of any write, so for them the bound still counts. What
    /// is being loaded meanwhile is not stored. If it could not be done at once, that is
    /// [`Pending`](Coherence::Pending): call it again, or [`distrust`](Self::distrust) everything.
    ///
    /// # Cancel safety
    /// After a drop some may still be cached.
    pub async fn invalidate(&self, keys: &[&str]) -> Coherence {
        self.inner.tier.invalidate(keys).await
    }

    /// Gives up everything that has been cached until now, because changes may have been missed: when a change feed was
    /// interrupted, once it listens again.
    ///
    /// In `local` that is done when this returns. In `strong` and `bounded` the epoch moves on, for all instances: no read
    /// that begins a lease (2 s by [default](crate::epoch::Timing)) after this has returned is answered with what was
    /// cached before it was called. Writes wait meanwhile, and Redis is used again about two leases later. In `ttl`
    /// nothing happens: what is cached there ends by its time.
    ///
    /// # Errors
    /// The database's, if the epoch could not be moved on. Then nothing is promised: call it again.
    ///
    /// # Cancel safety
    /// After a drop it may have been done or not.
    pub async fn distrust(&self) -> Result<(), O::Error> {
        self.inner.tier.distrust(&*self.origin).await
    }

    /// The number of keys that reads may be answered from: those in this process in `local`, those in Redis in modes with
    /// Redis, absent ones and those being written or loaded among them. `None` if Redis does not tell.
    ///
    /// Redis is asked at most once a second, with at most 40 short commands within 50 ms, so with much else in the
    /// same database the count is an estimate at first and may be some seconds old later. Right after a resize of its table Redis may
    /// count some twice.
    ///
    /// # Cancel safety
    /// Nothing goes on after a drop.
    pub async fn count_keys(&self) -> Option<KeyCount> {
        self.inner.tier.count_keys().await
    }

    /// What has happened, and how the cache stands.
    #[must_use]
    pub fn stats(&self) -> Stats {
        let count = |event| self.inner.counters.get(event);
        let (keys, bytes) = self.inner.tier.near_size();
        Stats {
            near_hits: count(Event::NearHit),
            shared_hits: count(Event::SharedHit),
            misses: count(Event::Miss),
            joined: count(Event::Joined),
            bypassed: count(Event::Bypassed),
            stale: count(Event::Stale),
            fills: count(Event::Fill),
            fills_rejected: count(Event::FillRejected),
            seals: count(Event::Seal),
            fences: count(Event::Fence),
            pending: count(Event::Pending),
            redis_errors: count(Event::RedisError),
            keys,
            bytes,
            epoch: match &self.inner.tier {
                Tier::Shared(_) => self.inner.tier.epoch(clock::now()),
                _ => None,
            },
            state: self.inner.tier.state(),
            redis_problem: self.inner.tier.redis_problem(),
        }
    }
}

impl<O: Origin> Clone for Cache<O> {
    fn clone(&self) -> Self {
        Self {
            origin: self.origin.clone(),
            inner: self.inner.clone(),
        }
    }
}

impl<E: Clone> Inner<E> {
    fn hit(&self, key: &str, now: Moment) -> Option<Read> {
        let answer = self.tier.hit(key, now)?;
        Some(self.counted(answer))
    }

    async fn look_up<O: Origin<Error = E>>(&self, origin: &O, keys: &[&str], started: Moment) -> Result<Vec<Read>, E> {
        let answers = self.find(origin, keys, started).await;
        let mut reads = Vec::with_capacity(keys.len());
        for (key, answer) in zip(keys, answers) {
            reads.push(match answer {
                Ok(answer) => self.counted(answer),
                Err(error) if self.stale_on_error => match self.tier.outdated(key).await {
                    Some(answer) => self.counted(answer),
                    None => return Err(error),
                },
                Err(error) => return Err(error),
            });
        }
        Ok(reads)
    }

    /// The answer for each key, from whoever looks it up.
    async fn find<O: Origin<Error = E>>(&self, origin: &O, keys: &[&str], started: Moment) -> Vec<Result<Answer, E>> {
        if matches!(self.tier, Tier::Off) {
            return self.tier.load(origin, keys).await;
        }
        let epoch = self.tier.epoch(started);
        if epoch.is_none() {
            self.look_after_keepers();
        }
        let mut answers: Vec<Option<Result<Answer, E>>> = keys.iter().map(|_| None).collect();
        while answers.iter().any(Option::is_none) {
            let (mut leaders, mut followers) = (Vec::new(), Vec::new());
            for at in (0..keys.len()).filter(|at| answers[*at].is_none()) {
                match self.flights.enter(keys[at]) {
                    Role::Leads(leader) => leaders.push((at, leader)),
                    Role::Follows(follower) => followers.push((at, follower)),
                }
            }
            // Whoever led a moment ago may have left the answer near.
            let now = clock::now();
            leaders.retain(|(at, _)| {
                answers[*at] = self.tier.hit(keys[*at], now).map(Ok);
                answers[*at].is_none()
            });
            if !leaders.is_empty() {
                let led: Vec<_> = leaders.iter().map(|(at, _)| keys[*at]).collect();
                let landings = self.tier.load(origin, &led).await;
                for ((at, leader), landing) in zip(leaders, landings) {
                    leader.land(landing.clone());
                    answers[at] = Some(landing);
                }
            }
            for (at, mut follower) in followers {
                let landing = match timeout(LONGEST_FLIGHT, follower.landing()).await {
                    Ok(landing) => landing,
                    Err(_) => {
                        // Perhaps nobody runs the leader any more.
                        self.flights.give_up(keys[at], &follower);
                        None
                    }
                };
                match landing {
                    Some(Ok(answer)) if !answer.serves(started, epoch) => {}
                    Some(landing) => {
                        self.counters.count(Event::Joined);
                        answers[at] = Some(landing);
                    }
                    None => {}
                }
            }
        }
        answers.into_iter().flatten().collect()
    }

    fn look_after_keepers(&self) {
        if let Some(keepers) = &self.keepers {
            keepers.look();
        }
    }

    fn counted(&self, answer: Answer) -> Read {
        self.counters.count(match answer.source {
            Source::Near => Event::NearHit,
            Source::Shared => Event::SharedHit,
            Source::Database => Event::Miss,
        });
        if answer.stale {
            self.counters.count(Event::Stale);
        }
        answer.into()
    }
}

/// The keys that have not been read.
fn still_missing<'a>(keys: &[&'a str], reads: &[Option<Read>]) -> Vec<&'a str> {
    zip(keys, reads)
        .filter(|(_, read)| read.is_none())
        .map(|(key, _)| *key)
        .collect()
}

/// Puts one answer for each into the places that have none.
fn put_in(reads: &mut [Option<Read>], answers: impl Iterator<Item = Option<Read>>) {
    for (read, answer) in zip(reads.iter_mut().filter(|read| read.is_none()), answers) {
        *read = answer;
    }
}

/// The tasks that keep a link to Redis and follow the epoch.
fn followers<O: Origin>(shared: &Arc<Shared>, origin: &Arc<O>, max_staleness: Option<Duration>) -> Keepers {
    let (shared, origin) = (shared.clone(), origin.clone());
    Keepers::start(Box::new(move || {
        vec![
            spawn(keeper::keep(shared.clone(), max_staleness)),
            spawn(poller::poll(shared.clone(), origin.clone())),
        ]
    }))
}

fn spawn(task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
    tokio::spawn(task).abort_handle()
}

fn ttl(config: &Config) -> Ttl {
    Ttl {
        present: config.ttl,
        absent: config.absent_ttl,
    }
}

fn shared(
    config: &Config,
    redis: &Redis,
    tracking: Option<Tracking>,
    counters: &Arc<Counters>,
) -> Result<Arc<Shared>, ConfigError> {
    if redis.prefix.is_empty() {
        return Err(ConfigError::Prefix);
    }
    let ids = Ids::new();
    Ok(Arc::new(Shared {
        views: Views::new(),
        links: Links::new(),
        row: ArcSwapOption::empty(),
        disagreement: Disagreement::new(config.timing.lease()),
        cells: ArcSwapOption::empty(),
        tracking: tracking.map(Arc::new),
        plan: plan(redis, &ids)?,
        reports: RedisReports::default(),
        key_counter: KeyCounter::default(),
        name: config.name.clone(),
        timing: config.timing,
        ttl: ttl(config),
        write_patience: config.write_patience,
        ids,
        counters: counters.clone(),
        runtime: Handle::current(),
    }))
}
