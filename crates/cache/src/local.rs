//! The mode for one process: leases and fences are those of the near cache. Invariant: what a read loads is kept only if
//! no write of the key was under way at any time since before the load.

use std::sync::Arc;

use crate::{
    clock,
    moment::Moment,
    near_cache::NearCache,
    origin::{Origin, load_each},
    read::{Answer, Source},
    stats::{Counters, Event},
};

/// There is one epoch only.
pub(crate) const EPOCH: u64 = 0;

pub(crate) struct Local {
    pub(crate) near: NearCache,
    pub(crate) counters: Arc<Counters>,
}

impl Local {
    pub(crate) fn hit(&self, key: &str, now: Moment) -> Option<Answer> {
        let value = self.near.get(key, now)?;
        Some(Answer::new(value, Source::Near, now))
    }

    /// Loads the values of these keys and keeps them.
    pub(crate) async fn load<O: Origin>(&self, origin: &O, keys: &[&str]) -> Result<Vec<Answer>, O::Error> {
        let asked = clock::now();
        let permits: Vec<_> = keys.iter().map(|key| self.near.permit(key, asked)).collect();
        let values = load_each(origin, keys).await?;
        let answers = keys.iter().zip(permits).zip(values);
        Ok(answers
            .map(|((key, permit), value)| {
                let since = clock::now();
                let answer = Answer::new(value.clone(), Source::Database, asked);
                let Some(permit) = permit else {
                    self.near.seal(key, value.as_ref());
                    self.counters.count(Event::Seal);
                    return answer;
                };
                if self.near.fill(key, value.clone(), permit, since) {
                    self.counters.count(Event::Fill);
                    return answer.stored(EPOCH, since);
                }
                self.near.seal(key, value.as_ref());
                self.counters.count(Event::FillRejected);
                answer
            })
            .collect())
    }
}
