//! The modes with Redis: reads that no cache answers. Invariant: a value from the database was stored under a lease, or
//! what is older than it was removed before it is returned.

use std::{iter::zip, time::Duration};

use tokio::time::sleep;

use crate::{
    clock,
    modes::redis_mode::RedisMode,
    near_cache::Permit,
    origin::{Origin, load_each},
    protocol::{cell::Token, epoch::View},
    read::{DatedRead, Source},
    redis::{
        keyspace::{Filling, Found, Keyspace},
        session::Broken,
    },
    stats::CacheEvent,
    ttl::Ttl,
    value::Value,
};

/// How long a read waits for another instance's load before it asks the database itself: a look-up takes a few
/// milliseconds, so by then the other instance is gone or slow.
const LEASE_PATIENCE: Duration = Duration::from_millis(50);
/// The first pause between two looks; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(2);

/// How far the look-up of one key is.
enum Step {
    Done(DatedRead),
    /// Another instance loads it.
    Wait,
    /// To be loaded; with a token, this instance holds the lease.
    Load(Option<Token>),
}

/// The position of a key among those asked for, and the token under which it is stored.
type ToLoad = (usize, Option<Token>);

impl RedisMode {
    /// Takes leases in Redis, loads what is missing from the database, and stores it.
    pub(crate) async fn load<O: Origin>(&self, origin: &O, keys: &[&str]) -> Vec<Result<DatedRead, O::Error>> {
        let asked = clock::now();
        let permits = self.permits(keys, asked);
        let Some((view, keyspace)) = self.usable(asked) else {
            return self.bypass(origin, keys).await;
        };
        let tokens: Vec<_> = keys.iter().map(|_| self.ids.token()).collect();
        let lasts = self.timing.deadline();
        let Ok(found) = keyspace.lease(keys, &tokens, lasts).await else {
            return self.bypass(origin, keys).await;
        };
        let mut steps: Vec<_> = zip(found, &tokens)
            .enumerate()
            .map(|(at, (found, token))| match found {
                Found::Known(value) => Step::Done(self.keep(keys[at], permits[at], value, asked)),
                Found::Leased(holder) if holder == *token => Step::Load(Some(*token)),
                Found::Leased(_) => Step::Wait,
                Found::Fenced | Found::Nothing => Step::Load(None),
            })
            .collect();
        let mut answers: Vec<Option<Result<DatedRead, O::Error>>> = keys.iter().map(|_| None).collect();
        self.load_missing(origin, &view, &keyspace, keys, &steps, &mut answers)
            .await;
        if steps.iter().any(|step| matches!(step, Step::Wait)) {
            self.wait_for_others(&view, &keyspace, keys, &permits, &mut steps).await;
            self.load_missing(origin, &view, &keyspace, keys, &steps, &mut answers)
                .await;
        }
        zip(answers, steps)
            .filter_map(|(answer, step)| match step {
                Step::Done(answer) => Some(Ok(answer)),
                _ => answer,
            })
            .collect()
    }

    /// Polls for the values that other instances load. What they do not deliver in time is loaded here.
    async fn wait_for_others(
        &self,
        view: &View,
        keyspace: &Keyspace,
        keys: &[&str],
        permits: &[Option<Permit>],
        steps: &mut [Step],
    ) {
        let start = clock::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let waiting: Vec<_> = (0..steps.len()).filter(|at| matches!(steps[*at], Step::Wait)).collect();
            if waiting.is_empty() {
                return;
            }
            sleep(pause).await;
            pause *= 2;
            let asked = clock::now();
            let is_last = asked.since(start) >= LEASE_PATIENCE;
            let wanted: Vec<_> = waiting.iter().map(|at| keys[*at]).collect();
            // A read that joins this one meanwhile may have begun in a later epoch, so this one must not be used then.
            let found = if self.acts_on(view, asked) {
                keyspace.get_each(&wanted).await
            } else {
                Err(Broken)
            };
            let found = found.unwrap_or_else(|Broken| wanted.iter().map(|_| Found::Nothing).collect());
            for (at, found) in zip(waiting, found) {
                steps[at] = match found {
                    Found::Known(value) => Step::Done(self.keep(keys[at], permits[at], value, asked)),
                    Found::Leased(_) if !is_last => Step::Wait,
                    _ => Step::Load(None),
                };
            }
        }
    }

    /// Loads from the database what is to be loaded and has not been yet, and stores it.
    async fn load_missing<O: Origin>(
        &self,
        origin: &O,
        view: &View,
        keyspace: &Keyspace,
        keys: &[&str],
        steps: &[Step],
        answers: &mut [Option<Result<DatedRead, O::Error>>],
    ) {
        let missing: Vec<ToLoad> = zip(steps, &*answers)
            .enumerate()
            .filter_map(|(at, pair)| match pair {
                (Step::Load(token), None) => Some((at, *token)),
                _ => None,
            })
            .collect();
        if missing.is_empty() {
            return;
        }
        let wanted: Vec<_> = missing.iter().map(|(at, _)| keys[*at]).collect();
        let asked = clock::now();
        match load_each(origin, &wanted).await {
            Err(error) => {
                for (at, _) in missing {
                    answers[at] = Some(Err(error.clone()));
                }
            }
            Ok(values) => {
                let since = clock::now();
                let ttl = origin.ttl().unwrap_or(self.ttl);
                let stored = self.store(keyspace, ttl, &wanted, &missing, &values).await;
                for (((at, _), value), stored) in missing.iter().zip(values).zip(stored) {
                    let answer = DatedRead::new(value, Source::Database, asked);
                    answers[*at] = Some(Ok(if stored {
                        answer.stored(view.epoch, since)
                    } else {
                        answer
                    }));
                }
            }
        }
    }

    /// Stores what was loaded under a lease and seals the rest. Returns which values were stored.
    async fn store(
        &self,
        keyspace: &Keyspace,
        ttl: Ttl,
        keys: &[&str],
        loaded: &[ToLoad],
        values: &[Option<Value>],
    ) -> Vec<bool> {
        let fillings: Vec<_> = zip(keys, zip(loaded, values))
            .map(|(key, ((_, token), value))| Filling {
                key,
                token: *token,
                value: value.as_ref(),
                ttl: ttl.of(value.as_ref()),
            })
            .collect();
        // If a seal does not arrive, Redis is lost to this instance, and the epoch ends: then no instance finds what the
        // seal would have removed.
        let stored = keyspace.fill(&fillings).await;
        let stored = stored.unwrap_or_else(|Broken| keys.iter().map(|_| false).collect());
        for ((_, token), stored) in zip(loaded, &stored) {
            self.counters.add(
                match (token, stored) {
                    (None, _) => CacheEvent::Seal,
                    (Some(_), true) => CacheEvent::Fill,
                    (Some(_), false) => CacheEvent::FillRejected,
                },
                1,
            );
        }
        stored
    }

    /// Loads from the database alone.
    async fn bypass<O: Origin>(&self, origin: &O, keys: &[&str]) -> Vec<Result<DatedRead, O::Error>> {
        self.counters.add(CacheEvent::Bypassed, keys.len());
        let asked = clock::now();
        match load_each(origin, keys).await {
            Err(error) => keys.iter().map(|_| Err(error.clone())).collect(),
            Ok(values) => values
                .into_iter()
                .map(|value| Ok(DatedRead::new(value, Source::Database, asked)))
                .collect(),
        }
    }
}
