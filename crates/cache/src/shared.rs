//! The modes with Redis: reads. Invariant: what is answered from a cache was allowed by a view that was valid when the
//! read began, and what is answered from the database was stored under a lease, or has removed what is older.

use std::{iter::zip, sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use tokio::{runtime::Handle, time::sleep};

use crate::{
    cell::Token,
    cells::{Cells, Filling, Found},
    clock,
    disagreement::Disagreement,
    epoch::{Row, Timing, View},
    ids::Ids,
    key_count::KeyCounter,
    link::{Broken, Link, Plan},
    links::Links,
    moment::Moment,
    near_cache::{Permit, Ttl},
    origin::{Origin, Value, load_each},
    read::{Answer, Source},
    redis_reports::RedisReports,
    stats::{Counters, Event},
    tracking::Tracking,
    views::Views,
};

/// For how long a read waits for somebody else's load before it asks the database itself.
const LEASE_PATIENCE: Duration = Duration::from_millis(50);
/// The first of the pauses between two looks; each is twice the one before.
const LEASE_GLANCE: Duration = Duration::from_millis(2);

pub(crate) struct Shared {
    pub(crate) views: Views,
    pub(crate) links: Links,
    /// The newest row that was seen, acted on or not.
    pub(crate) row: ArcSwapOption<Row>,
    pub(crate) disagreement: Disagreement,
    /// Those of the newest view, so that a read need not name them anew.
    pub(crate) cells: ArcSwapOption<Cells>,
    /// In the mode `bounded`.
    pub(crate) tracking: Option<Arc<Tracking>>,
    pub(crate) plan: Plan,
    pub(crate) reports: RedisReports,
    pub(crate) key_counter: KeyCounter,
    /// The name of the cache.
    pub(crate) name: String,
    pub(crate) timing: Timing,
    pub(crate) ttl: Ttl,
    pub(crate) write_patience: Duration,
    pub(crate) ids: Ids,
    pub(crate) counters: Arc<Counters>,
    /// Where the cache was made, for what must go on when a caller's runtime ends.
    pub(crate) runtime: Handle,
}

/// What a look-up has come to for one key.
enum Step {
    Done(Answer),
    /// Somebody else loads it.
    Wait,
    Load(Option<Token>),
}

/// Where one of several keys stands among them, and with which token it is to be stored.
type ToLoad = (usize, Option<Token>);

impl Shared {
    /// What is near and proven to be fresh enough.
    pub(crate) fn hit(&self, key: &str, now: Moment) -> Option<Answer> {
        let tracking = self.tracking.as_ref()?;
        self.views.valid(now)?;
        let age = tracking.age(now)?;
        let value = tracking.near.get(key, now)?;
        let mut answer = Answer::new(value, Source::Near, now);
        answer.age = Some(age);
        Some(answer)
    }

    /// What may be acted on: the view, and the cells if a Redis is trusted and reached.
    pub(crate) fn usable(&self, now: Moment) -> Option<(View, Arc<Cells>)> {
        let view = self.views.valid(now)?;
        Some((view, self.cells(&view)?))
    }

    /// Whether the epoch of this view may still be acted on.
    pub(crate) fn acts_on(&self, view: &View, now: Moment) -> bool {
        let valid = self.views.valid(now);
        valid.is_some_and(|valid| valid.epoch == view.epoch)
    }

    /// The cells of a view's epoch.
    pub(crate) fn cells(&self, view: &View) -> Option<Arc<Cells>> {
        let keyspace = view.keyspace?;
        if let Some(cells) = &*self.cells.load()
            && cells.are_of(keyspace)
        {
            return Some(cells.clone());
        }
        let link = self.links.to(keyspace)?;
        let cells = Cells::new(link, &self.plan.prefix, &self.name, Some(keyspace));
        let cells = Arc::new(cells);
        self.cells.store(Some(cells.clone()));
        Some(cells)
    }

    /// The cells of the plain cache-aside, which knows no epochs.
    pub(crate) fn plain_cells(&self) -> Option<Cells> {
        let link = self.links.current()?;
        Some(Cells::new(link, &self.plan.prefix, &self.name, None))
    }

    /// Uses a link for what is trusted, if it leads there. One that fails is cut.
    pub(crate) async fn adopt(&self, link: &Link) {
        let row = self.row.load_full();
        let Some((epoch, nonce)) = row.and_then(|row| Some((row.epoch, row.keyspace()?))) else {
            return;
        };
        if let Err(error) = link.adopt(epoch, nonce).await {
            tracing::debug!(%error, "Redis could not be asked for what is trusted");
            link.cut();
        }
    }

    /// Looks in Redis, without asking the database.
    pub(crate) async fn glance(&self, key: &str, asked: Moment) -> Option<Answer> {
        let permit = self.permit(key, asked);
        let (_, cells) = self.usable(asked)?;
        match cells.get(key).await {
            Ok(Found::Known(value)) => Some(self.keep(key, permit, value, asked)),
            _ => None,
        }
    }

    /// As [`glance`](Self::glance), for several keys. `None` for what is not there.
    pub(crate) async fn glance_each(&self, keys: &[&str], asked: Moment) -> Vec<Option<Answer>> {
        let permits = self.permits(keys, asked);
        if let Some((_, cells)) = self.usable(asked)
            && let Ok(found) = cells.get_each(keys).await
        {
            let known = |((found, key), permit): ((_, &&str), _)| match found {
                Found::Known(value) => Some(self.keep(key, permit, value, asked)),
                _ => None,
            };
            return zip(zip(found, keys), permits).map(known).collect();
        }
        keys.iter().map(|_| None).collect()
    }

    /// Drops what is not fenced; says whether that was possible.
    pub(crate) async fn invalidate(&self, keys: &[&str]) -> bool {
        let Some(view) = self.views.valid(clock::now()) else {
            return false;
        };
        let told = match (view.keyspace, self.cells(&view)) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(_), Some(cells)) => cells.invalidate(keys).await.is_ok(),
        };
        self.forget_near(keys);
        told
    }

    /// Moves the epoch on. A row that trusts no Redis already does: what is cached in the epoch before it is on its way
    /// out, and in its own epoch nothing is cached. So of many who do this at the same time one moves it.
    pub(crate) async fn distrust<O: Origin>(&self, origin: &O) -> Result<(), O::Error> {
        let row = origin.epoch_row().await?;
        if row.keyspace().is_some() {
            origin.advance(row.without_redis()).await?;
        }
        self.views.beat();
        Ok(())
    }

    /// Drops what this instance keeps near.
    pub(crate) fn forget_near(&self, keys: &[&str]) {
        if let Some(tracking) = &self.tracking {
            keys.iter().for_each(|key| tracking.near.forget(key));
        }
    }

    /// What was known before, be it allowed to act on it or not.
    pub(crate) async fn outdated(&self, key: &str) -> Option<Answer> {
        let asked = clock::now();
        let near = self.tracking.as_ref().and_then(|it| it.near.peek(key));
        if let Some(value) = near {
            return Some(Answer::new(value, Source::Near, asked).outdated());
        }
        let cells = self.cells(&self.views.newest()?)?;
        match cells.get(key).await.ok()? {
            Found::Known(value) => Some(Answer::new(value, Source::Shared, asked).outdated()),
            _ => None,
        }
    }

    /// Looks in Redis and takes leases, asks the database for what is missing, and stores it.
    pub(crate) async fn load<O: Origin>(&self, origin: &O, keys: &[&str]) -> Vec<Result<Answer, O::Error>> {
        let asked = clock::now();
        let permits = self.permits(keys, asked);
        let Some((view, cells)) = self.usable(asked) else {
            return self.bypass(origin, keys).await;
        };
        let tokens: Vec<_> = keys.iter().map(|_| self.ids.token()).collect();
        let lasts = self.timing.deadline();
        let Ok(found) = cells.lease(keys, &tokens, lasts).await else {
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
        let mut answers: Vec<Option<Result<Answer, O::Error>>> = keys.iter().map(|_| None).collect();
        self.load_missing(origin, &view, &cells, keys, &steps, &mut answers)
            .await;
        if steps.iter().any(|step| matches!(step, Step::Wait)) {
            self.wait_for_others(&view, &cells, keys, &permits, &mut steps).await;
            self.load_missing(origin, &view, &cells, keys, &steps, &mut answers)
                .await;
        }
        zip(answers, steps)
            .filter_map(|(answer, step)| match step {
                Step::Done(answer) => Some(Ok(answer)),
                _ => answer,
            })
            .collect()
    }

    /// Looks again and again at what others load. What they did not bring in time is to be loaded.
    async fn wait_for_others(
        &self,
        view: &View,
        cells: &Cells,
        keys: &[&str],
        permits: &[Option<Permit>],
        steps: &mut [Step],
    ) {
        let start = clock::now();
        let mut pause = LEASE_GLANCE;
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
            // Whoever joins meanwhile may rely on a later epoch than this one.
            let found = if self.acts_on(view, asked) {
                cells.get_each(&wanted).await
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

    /// Asks the database for what is to be loaded and was not before, and stores it.
    async fn load_missing<O: Origin>(
        &self,
        origin: &O,
        view: &View,
        cells: &Cells,
        keys: &[&str],
        steps: &[Step],
        answers: &mut [Option<Result<Answer, O::Error>>],
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
                let stored = self.store(cells, &wanted, &missing, &values).await;
                for (((at, _), value), stored) in missing.iter().zip(values).zip(stored) {
                    let answer = Answer::new(value, Source::Database, asked);
                    answers[*at] = Some(Ok(if stored {
                        answer.stored(view.epoch, since)
                    } else {
                        answer
                    }));
                }
            }
        }
    }

    /// Stores what was loaded under a lease and seals the rest; says what was stored.
    async fn store(&self, cells: &Cells, keys: &[&str], loaded: &[ToLoad], values: &[Option<Value>]) -> Vec<bool> {
        let fillings: Vec<_> = zip(keys, zip(loaded, values))
            .map(|(key, ((_, token), value))| Filling {
                key,
                token: *token,
                value: value.as_ref(),
                ttl: self.ttl.of(value.as_ref()),
            })
            .collect();
        // A seal that does not arrive leaves what other instances, too, can no longer reach: see the epoch.
        let stored = cells.fill(&fillings).await;
        let stored = stored.unwrap_or_else(|Broken| keys.iter().map(|_| false).collect());
        for ((_, token), stored) in zip(loaded, &stored) {
            self.counters.count(match (token, stored) {
                (None, _) => Event::Seal,
                (Some(_), true) => Event::Fill,
                (Some(_), false) => Event::FillRejected,
            });
        }
        stored
    }

    /// Asks the database without any cache.
    async fn bypass<O: Origin>(&self, origin: &O, keys: &[&str]) -> Vec<Result<Answer, O::Error>> {
        self.counters.add(Event::Bypassed, keys.len());
        let asked = clock::now();
        match load_each(origin, keys).await {
            Err(error) => keys.iter().map(|_| Err(error.clone())).collect(),
            Ok(values) => values
                .into_iter()
                .map(|value| Ok(Answer::new(value, Source::Database, asked)))
                .collect(),
        }
    }

    /// The answer for what was found in a cell; kept near, if it was read through the tracked connection.
    fn keep(&self, key: &str, permit: Option<Permit>, value: Option<Value>, asked: Moment) -> Answer {
        if let (Some(tracking), Some(permit)) = (&self.tracking, permit) {
            tracking.near.fill(key, value.clone(), permit, asked);
        }
        Answer::new(value, Source::Shared, asked)
    }

    /// Must be taken before the view and the link are looked at: whatever replaces them makes these void.
    fn permits(&self, keys: &[&str], now: Moment) -> Vec<Option<Permit>> {
        keys.iter().map(|key| self.permit(key, now)).collect()
    }

    fn permit(&self, key: &str, now: Moment) -> Option<Permit> {
        self.tracking.as_ref()?.near.permit(key, now)
    }
}
