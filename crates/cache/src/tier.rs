//! What stands between a read and the database, by mode. Invariant: every mode answers the same questions.

use std::sync::Arc;

use tokio::time::Instant;

use crate::{
    clock,
    fenced::{self, Coherence, Fenced, Hold, NotFenced},
    key_count::KeyCount,
    local::{self, Local},
    moment::{Moment, Term},
    origin::{Origin, load_each},
    plain::{self, Plain},
    problem::RedisProblem,
    read::{Answer, Source},
    shared::Shared,
    stats::{Event, Reason, State},
};

pub(crate) enum Tier {
    Off,
    Local {
        local: Arc<Local>,
        fence: std::time::Duration,
    },
    Shared(Arc<Shared>),
    Plain(Plain),
}

impl Tier {
    /// What is kept in this process. Neither waits nor allocates.
    pub(crate) fn hit(&self, key: &str, now: Moment) -> Option<Answer> {
        match self {
            Self::Local { local, .. } => local.hit(key, now),
            Self::Shared(shared) => shared.hit(key, now),
            Self::Off | Self::Plain(_) => None,
        }
    }

    /// What a read that begins now is allowed to act on.
    pub(crate) fn epoch(&self, now: Moment) -> Option<u64> {
        match self {
            Self::Off => None,
            Self::Local { .. } => Some(local::EPOCH),
            Self::Plain(_) => Some(plain::EPOCH),
            Self::Shared(shared) => shared.views.valid(now).map(|view| view.epoch),
        }
    }

    /// What Redis holds under a key, asked after `now`.
    pub(crate) async fn glance(&self, key: &str, now: Moment) -> Option<Answer> {
        match self {
            Self::Off | Self::Local { .. } => None,
            Self::Shared(shared) => shared.glance(key, now).await,
            Self::Plain(plain) => plain.glance(key, now).await,
        }
    }

    /// What Redis holds under several keys.
    pub(crate) async fn glance_each(&self, keys: &[&str], now: Moment) -> Vec<Option<Answer>> {
        match self {
            Self::Off | Self::Local { .. } => keys.iter().map(|_| None).collect(),
            Self::Shared(shared) => shared.glance_each(keys, now).await,
            Self::Plain(plain) => plain.glance_each(keys, now).await,
        }
    }

    /// Asks the database, and keeps what it answers.
    pub(crate) async fn load<O: Origin>(&self, origin: &O, keys: &[&str]) -> Vec<Result<Answer, O::Error>> {
        let loaded = match self {
            Self::Shared(shared) => return shared.load(origin, keys).await,
            Self::Local { local, .. } => local.load(origin, keys).await,
            Self::Plain(plain) => plain.load(origin, keys).await,
            Self::Off => {
                let asked = clock::now();
                let answer = |value| Answer::new(value, Source::Database, asked);
                let values = load_each(origin, keys).await;
                values.map(|values| values.into_iter().map(answer).collect())
            }
        };
        match loaded {
            Ok(answers) => answers.into_iter().map(Ok).collect(),
            Err(error) => keys.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    /// What was known before the database failed.
    pub(crate) async fn outdated(&self, key: &str) -> Option<Answer> {
        match self {
            Self::Off | Self::Plain(_) => None,
            Self::Local { local, .. } => {
                let value = local.near.peek(key)?;
                Some(Answer::new(value, Source::Near, clock::now()).outdated())
            }
            Self::Shared(shared) => shared.outdated(key).await,
        }
    }

    pub(crate) async fn fence(&self, keys: &[&str]) -> Result<Fenced, NotFenced> {
        match self {
            Self::Shared(shared) => Fenced::shared(shared, keys).await,
            tier => tier.fence_now(keys).await,
        }
    }

    /// Returns when there is nothing known to be in the way of a fence.
    pub(crate) async fn unobstructed(&self, deadline: Instant) -> Result<(), NotFenced> {
        match self {
            Self::Shared(shared) => fenced::unobstructed(shared, deadline).await,
            Self::Off | Self::Local { .. } | Self::Plain(_) => Ok(()),
        }
    }

    pub(crate) async fn fence_now(&self, keys: &[&str]) -> Result<Fenced, NotFenced> {
        let now = clock::now();
        let (hold, lasts) = match self {
            Self::Shared(shared) => return Fenced::shared_now(shared, keys).await,
            Self::Off => (Hold::Nothing, std::time::Duration::MAX),
            Self::Plain(Plain(shared)) => (Hold::Plain(shared.clone()), std::time::Duration::MAX),
            Self::Local { local, fence } => {
                for key in keys {
                    local.near.fence(key);
                }
                local.counters.add(Event::Fence, keys.len());
                (Hold::Local(local.clone()), *fence)
            }
        };
        Ok(Fenced::new(keys, hold, Term::new(now, lasts)))
    }

    /// Drops what changed behind the cache's back.
    pub(crate) async fn invalidate(&self, keys: &[&str]) -> Coherence {
        let told = match self {
            Self::Off => true,
            Self::Local { local, .. } => {
                keys.iter().for_each(|key| local.near.forget(key));
                true
            }
            Self::Plain(Plain(shared)) => match shared.plain_cells() {
                Some(cells) => cells.invalidate(keys).await.is_ok(),
                None => false,
            },
            Self::Shared(shared) => shared.invalidate(keys).await,
        };
        if told { Coherence::Settled } else { Coherence::Pending }
    }

    /// Gives up what has been cached until now.
    pub(crate) async fn distrust<O: Origin>(&self, origin: &O) -> Result<(), O::Error> {
        match self {
            Self::Off | Self::Plain(_) => {}
            Self::Local { local, .. } => local.near.clear(),
            Self::Shared(shared) => shared.distrust(origin).await?,
        }
        Ok(())
    }

    /// The number of keys in the cache that all instances share, or in that of this process where there is none.
    pub(crate) async fn count_keys(&self) -> Option<KeyCount> {
        match self {
            Self::Off | Self::Local { .. } => Some(KeyCount::exact(self.near_size().0 as u64)),
            Self::Plain(Plain(shared)) => match shared.plain_cells() {
                Some(cells) => cells.count(&shared.key_counter).await,
                None => Some(KeyCount::exact(0)),
            },
            // What is there and may not be used is not counted.
            Self::Shared(shared) => match shared.usable(clock::now()) {
                Some((_, cells)) => cells.count(&shared.key_counter).await,
                None => Some(KeyCount::exact(0)),
            },
        }
    }

    /// The number and the bytes of the values in this process.
    pub(crate) fn near_size(&self) -> (usize, u64) {
        let near = match self {
            Self::Local { local, .. } => Some(&local.near),
            Self::Shared(shared) => shared.tracking.as_ref().map(|it| &it.near),
            Self::Off | Self::Plain(_) => None,
        };
        near.map_or((0, 0), |near| (near.len(), near.bytes()))
    }

    /// Why there is no connection to Redis.
    pub(crate) fn redis_problem(&self) -> Option<RedisProblem> {
        match self {
            Self::Off | Self::Local { .. } => None,
            Self::Shared(shared) | Self::Plain(Plain(shared)) => shared.reports.problem(),
        }
    }

    pub(crate) fn state(&self) -> State {
        let reason = match self {
            Self::Off | Self::Local { .. } => None,
            Self::Plain(Plain(shared)) => shared.links.current().is_none().then_some(Reason::Unreachable),
            Self::Shared(shared) => match shared.views.valid(clock::now()) {
                None => Some(Reason::UnknownEpoch),
                Some(view) if shared.cells(&view).is_some() => None,
                Some(_) if shared.disagreement.lasts(clock::now()) => Some(Reason::OtherKeyspace),
                Some(view) if view.keyspace.is_none() => Some(Reason::Untrusted),
                Some(_) => Some(Reason::Unreachable),
            },
        };
        reason.map_or(State::Ok, State::Degraded)
    }
}
