//! The mode `local`, for one process: leases and fences are those of the near cache. Invariant: a loaded value is kept
//! only if no write of its key was under way at any time since before the load.

use std::{sync::Arc, time::Duration};

use crate::{
    clock,
    near_cache::NearCache,
    origin::{Origin, load_each},
    protocol::time::{BootTime, Term},
    read::{DatedRead, Source},
    stats::{CacheEvent, Counters},
};

/// The epoch of all reads: this mode has only one.
pub(crate) const EPOCH: u64 = 0;

pub(crate) struct Local {
    pub(crate) near: NearCache,
    /// How long a fence stands whose writer is gone.
    fence_ttl: Duration,
    counters: Arc<Counters>,
}

impl Local {
    pub(crate) fn new(near: NearCache, fence_ttl: Duration, counters: Arc<Counters>) -> Self {
        Self {
            near,
            fence_ttl,
            counters,
        }
    }

    /// The value of a key if it is in the near cache.
    pub(crate) fn get(&self, key: &str, now: BootTime) -> Option<DatedRead> {
        let value = self.near.get(key, now)?;
        Some(DatedRead::new(value, Source::Near, now))
    }

    /// Loads the values of these keys and keeps them.
    pub(crate) async fn load<O: Origin>(&self, origin: &O, keys: &[&str]) -> Result<Vec<DatedRead>, O::Error> {
        let asked = clock::now();
        // Taken before the database is asked: a write that begins meanwhile voids its key's permit.
        let permits: Vec<_> = keys.iter().map(|key| self.near.permit(key, asked)).collect();
        let values = load_each(origin, keys).await?;
        let ttl = origin.ttl().unwrap_or(self.near.ttl());
        let reads = keys.iter().zip(permits).zip(values);
        Ok(reads
            .map(|((key, permit), value)| {
                let since = clock::now();
                let read = DatedRead::new(value.clone(), Source::Database, asked);
                let Some(permit) = permit else {
                    self.near.seal(key, value.as_ref());
                    self.counters.add(CacheEvent::Seal, 1);
                    return read;
                };
                if self.near.fill_for(ttl, key, value.clone(), permit, since) {
                    self.counters.add(CacheEvent::Fill, 1);
                    return read.stored(EPOCH, since);
                }
                self.near.seal(key, value.as_ref());
                self.counters.add(CacheEvent::FillRejected, 1);
                read
            })
            .collect())
    }

    /// The value that was kept before the database failed, however old.
    pub(crate) fn outdated(&self, key: &str) -> Option<DatedRead> {
        let value = self.near.peek(key)?;
        Some(DatedRead::new(value, Source::Near, clock::now()).outdated())
    }

    /// Fences keys, and returns for how long their writer may commit.
    pub(crate) fn fence(&self, keys: &[&str]) -> Term {
        // Read before the fences are set, so that the term ends no later than they do.
        let now = clock::now();
        for key in keys {
            self.near.fence(key);
        }
        self.counters.add(CacheEvent::Fence, keys.len());
        Term::new(now, self.fence_ttl)
    }
}
