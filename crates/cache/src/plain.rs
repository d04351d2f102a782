//! The plain cache-aside, for comparison. Invariant: none but the time to live: a fill may store what a write has
//! replaced meanwhile, which is what the other modes are for.

use std::{iter::zip, sync::Arc};

use crate::{
    cells::{Filling, Found},
    clock,
    moment::Moment,
    origin::{Origin, load_each},
    read::{Answer, Source},
    shared::Shared,
    stats::Event,
};

/// There is one epoch only.
pub(crate) const EPOCH: u64 = 0;

pub(crate) struct Plain(pub(crate) Arc<Shared>);

impl Plain {
    pub(crate) async fn glance(&self, key: &str, asked: Moment) -> Option<Answer> {
        match self.0.plain_cells()?.get(key).await {
            Ok(Found::Known(value)) => Some(Answer::new(value, Source::Shared, asked).unbounded()),
            _ => None,
        }
    }

    pub(crate) async fn glance_each(&self, keys: &[&str], asked: Moment) -> Vec<Option<Answer>> {
        if let Some(cells) = self.0.plain_cells()
            && let Ok(found) = cells.get_each(keys).await
        {
            let known = |found| match found {
                Found::Known(value) => Some(Answer::new(value, Source::Shared, asked).unbounded()),
                _ => None,
            };
            return found.into_iter().map(known).collect();
        }
        keys.iter().map(|_| None).collect()
    }

    pub(crate) async fn load<O: Origin>(&self, origin: &O, keys: &[&str]) -> Result<Vec<Answer>, O::Error> {
        let asked = clock::now();
        let values = load_each(origin, keys).await?;
        let since = clock::now();
        let counters = &self.0.counters;
        if let Some(cells) = self.0.plain_cells() {
            let fillings: Vec<_> = zip(keys, &values)
                .map(|(key, value)| Filling {
                    key,
                    token: None,
                    value: value.as_ref(),
                    ttl: self.0.ttl.of(value.as_ref()),
                })
                .collect();
            if cells.set(&fillings).await.is_ok() {
                counters.add(Event::Fill, keys.len());
            }
        } else {
            counters.add(Event::Bypassed, keys.len());
        }
        let answer = |value| {
            Answer::new(value, Source::Database, asked)
                .stored(EPOCH, since)
                .unbounded()
        };
        Ok(values.into_iter().map(answer).collect())
    }
}
