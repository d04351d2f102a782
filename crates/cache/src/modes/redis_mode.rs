//! The modes with Redis, `strong` and `bounded`: their state, and reads that a cache answers. Invariant: an answer from a
//! cache was allowed by a view that was valid when the read began.

use std::{iter::zip, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use cenote_metrics::Histogram;
use tokio::runtime::Handle;

use crate::{
    clock,
    config::{Config, ConfigError, RedisConfig},
    modes::{disagreement::Disagreement, epoch_view::EpochView},
    near_cache::{NearCache, Permit},
    origin::Origin,
    protocol::{
        epoch::{EpochRow, Timing, View},
        time::BootTime,
    },
    read::{DatedRead, Source},
    redis::{
        check::session_config,
        current_session::CurrentSession,
        ids::Ids,
        key_count::{KeyCount, KeyCounter},
        keyspace::{Found, Keyspace},
        reports::RedisReports,
        session::{Session, SessionConfig},
        tracking::Tracking,
    },
    stats::{Counters, DegradedReason, State},
    ttl::Ttl,
    value::Value,
};

pub(crate) struct RedisMode {
    pub(crate) epoch_view: EpochView,
    pub(crate) session: CurrentSession,
    /// The newest row that was seen, acted on or not.
    pub(crate) row: ArcSwapOption<EpochRow>,
    pub(crate) disagreement: Disagreement,
    /// The keyspace of the newest view, kept so that a read need not build its prefix anew.
    pub(crate) keyspace: ArcSwapOption<Keyspace>,
    /// In the mode `bounded`.
    pub(crate) tracking: Option<Arc<Tracking>>,
    pub(crate) session_config: SessionConfig,
    pub(crate) reports: RedisReports,
    pub(crate) key_counter: KeyCounter,
    /// The name of the cache.
    pub(crate) name: String,
    pub(crate) timing: Timing,
    pub(crate) ttl: Ttl,
    /// Whether near values have room for their decoded form.
    keeps_decoded: bool,
    pub(crate) write_patience: Duration,
    pub(crate) ids: Ids,
    pub(crate) counters: Arc<Counters>,
    /// Where the cache was created: for work that goes on when a caller's runtime ends.
    pub(crate) runtime: Handle,
}

impl RedisMode {
    pub(crate) fn new(
        config: &Config,
        redis: &RedisConfig,
        tracking: Option<Tracking>,
        counters: &Arc<Counters>,
    ) -> Result<Arc<Self>, ConfigError> {
        if redis.prefix.is_empty() {
            return Err(ConfigError::Prefix);
        }
        let ids = Ids::new();
        Ok(Arc::new(Self {
            epoch_view: EpochView::new(),
            session: CurrentSession::new(),
            row: ArcSwapOption::empty(),
            disagreement: Disagreement::new(config.timing.lease()),
            keyspace: ArcSwapOption::empty(),
            tracking: tracking.map(Arc::new),
            session_config: session_config(redis, &ids)?,
            reports: RedisReports::default(),
            key_counter: KeyCounter::default(),
            name: config.name.clone(),
            timing: config.timing,
            ttl: config.kept_for(),
            keeps_decoded: config.keeps_decoded,
            write_patience: config.write_patience,
            ids,
            counters: counters.clone(),
            runtime: Handle::current(),
        }))
    }

    /// How long the answers of Redis took.
    pub(crate) fn redis_times(&self) -> Histogram {
        let servers = &self.session_config.servers;
        servers
            .first()
            .map_or_else(Histogram::default, |server| server.times().snapshot())
    }

    /// The value of a key if it is in this process and proven to be fresh enough.
    pub(crate) fn near_hit(&self, key: &str, now: BootTime) -> Option<DatedRead> {
        let tracking = self.tracking.as_ref()?;
        self.epoch_view.valid(now)?;
        // The age is asked for before the value: what is taken afterwards is at least as fresh.
        let age = tracking.age(now)?;
        let value = tracking.near.get(key, now)?;
        let mut read = DatedRead::new(value, Source::Near, now);
        read.read.age = Some(age);
        Some(read)
    }

    /// The value of a key if this process or Redis has it.
    pub(crate) async fn get(&self, key: &str, asked: BootTime) -> Option<DatedRead> {
        let permit = match &self.tracking {
            None => None,
            Some(tracking) => {
                if let Some(near) = self.near_hit(key, asked) {
                    return Some(near);
                }
                // Before the view and the session are looked at: whatever replaces them makes the permit void.
                tracking.near.permit(key, asked)
            }
        };
        let (_, keyspace) = self.usable(asked)?;
        match keyspace.get(key).await {
            Ok(Found::Known(value)) => Some(self.keep(key, permit, value, asked)),
            _ => None,
        }
    }

    /// The values of those keys that Redis has, in one round trip.
    pub(crate) async fn get_each(&self, keys: &[&str], asked: BootTime) -> Vec<Option<DatedRead>> {
        let permits = self.permits(keys, asked);
        if let Some((_, keyspace)) = self.usable(asked)
            && let Ok(cells) = keyspace.get_each(keys).await
        {
            let known = |((cell, key), permit): ((_, &&str), _)| match cell {
                Found::Known(value) => Some(self.keep(key, permit, value, asked)),
                _ => None,
            };
            return zip(zip(cells, keys), permits).map(known).collect();
        }
        keys.iter().map(|_| None).collect()
    }

    /// The value that was known before the database failed, whether or not its epoch may be acted on.
    pub(crate) async fn outdated(&self, key: &str) -> Option<DatedRead> {
        let asked = clock::now();
        let near = self.tracking.as_ref().and_then(|it| it.near.peek(key));
        if let Some(value) = near {
            return Some(DatedRead::new(value, Source::Near, asked).outdated());
        }
        let keyspace = self.keyspace(&self.epoch_view.newest()?)?;
        match keyspace.get(key).await.ok()? {
            Found::Known(value) => Some(DatedRead::new(value, Source::Redis, asked).outdated()),
            _ => None,
        }
    }

    /// The read of a value that was found in Redis. Keeps the value near if it was read through the tracked connection.
    pub(crate) fn keep(
        &self,
        key: &str,
        permit: Option<Permit>,
        mut value: Option<Value>,
        asked: BootTime,
    ) -> DatedRead {
        if let (Some(tracking), Some(permit)) = (&self.tracking, permit) {
            if let (Some(value), true) = (&mut value, self.keeps_decoded) {
                // Before the clone, so that what the reader decodes is kept.
                value.make_room();
            }
            tracking.near.fill(key, value.clone(), permit, asked);
        }
        DatedRead::new(value, Source::Redis, asked)
    }

    /// The permissions to keep these keys near. To be taken before the view and the session are looked at.
    pub(crate) fn permits(&self, keys: &[&str], now: BootTime) -> Vec<Option<Permit>> {
        let permit = |key: &&str| self.tracking.as_ref()?.near.permit(key, now);
        keys.iter().map(permit).collect()
    }

    /// Returns the valid view and its keyspace, if a Redis is trusted and reached.
    pub(crate) fn usable(&self, now: BootTime) -> Option<(View, Arc<Keyspace>)> {
        let view = self.epoch_view.valid(now)?;
        Some((view, self.keyspace(&view)?))
    }

    /// Whether the epoch of this view may still be acted on.
    pub(crate) fn acts_on(&self, view: &View, now: BootTime) -> bool {
        let valid = self.epoch_view.valid(now);
        valid.is_some_and(|valid| valid.epoch == view.epoch)
    }

    /// The keyspace of a view, if a session leads there.
    pub(crate) fn keyspace(&self, view: &View) -> Option<Arc<Keyspace>> {
        let nonce = view.keyspace?;
        if let Some(keyspace) = &*self.keyspace.load()
            && keyspace.serves(nonce)
        {
            return Some(keyspace.clone());
        }
        let session = self.session.to(nonce)?;
        let prefix = &self.session_config.prefix;
        let keyspace = Arc::new(Keyspace::new(session, prefix, &self.name, Some(nonce)));
        self.keyspace.store(Some(keyspace.clone()));
        Some(keyspace)
    }

    /// Uses a session for what is trusted, if it leads there. One that fails is cut.
    pub(crate) async fn adopt(&self, session: &Session) {
        let row = self.row.load_full();
        let Some((epoch, nonce)) = row.and_then(|row| Some((row.epoch, row.keyspace()?))) else {
            return;
        };
        if let Err(error) = session.adopt(epoch, nonce).await {
            tracing::debug!(%error, "Redis could not be asked for what is trusted");
            session.cut();
        }
    }

    /// Deletes what is cached for keys and not fenced. Returns whether no other instance can find it either.
    pub(crate) async fn invalidate(&self, keys: &[&str]) -> bool {
        let Some(view) = self.epoch_view.valid(clock::now()) else {
            return false;
        };
        let deleted = match (view.keyspace, self.keyspace(&view)) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(_), Some(keyspace)) => keyspace.invalidate(keys).await.is_ok(),
        };
        self.forget_near(keys);
        deleted
    }

    /// Moves the epoch on. A row that trusts no Redis needs no change: its own epoch caches nothing, and the epoch before
    /// it is already ending. So of many instances that do this at the same time, one moves it.
    pub(crate) async fn distrust<O: Origin>(&self, origin: &O) -> Result<(), O::Error> {
        let row = origin.epoch_row().await?;
        if row.keyspace().is_some() {
            origin.advance(row.without_redis()).await?;
        }
        self.epoch_view.notify();
        Ok(())
    }

    /// Drops what this instance keeps near.
    pub(crate) fn forget_near(&self, keys: &[&str]) {
        if let Some(tracking) = &self.tracking {
            keys.iter().for_each(|key| tracking.near.forget(key));
        }
    }

    pub(crate) fn near(&self) -> Option<&NearCache> {
        self.tracking.as_ref().map(|tracking| &tracking.near)
    }

    /// The number of keys that may be used; other keys in Redis do not count.
    pub(crate) async fn count_keys(&self) -> Option<KeyCount> {
        match self.usable(clock::now()) {
            Some((_, keyspace)) => keyspace.count(&self.key_counter).await,
            None => Some(KeyCount::exact(0)),
        }
    }

    pub(crate) fn state(&self, now: BootTime) -> State {
        State::Degraded(match self.epoch_view.valid(now) {
            None => DegradedReason::UnknownEpoch,
            Some(view) if self.keyspace(&view).is_some() => return State::Ok,
            Some(_) if self.disagreement.lasts(now) => DegradedReason::OtherKeyspace,
            Some(view) if view.keyspace.is_none() => DegradedReason::Untrusted,
            Some(_) => DegradedReason::Unreachable,
        })
    }
}
