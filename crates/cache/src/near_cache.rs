//! Values kept in process, bounded by bytes. Invariant: a value is kept only if its slot was not invalidated since before the
//! value was asked for and has no writer; both are checked under the lock under which the value is inserted.
//!
//! A key belongs to one of a fixed number of slots. The lock of a slot is taken to fill and to invalidate, never for a hit. Keys
//! that share a slot may cost each other a fill, no more.

use std::{
    hash::BuildHasher,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use quick_cache::{
    DefaultHashBuilder, Lifecycle, Weighter,
    sync::{Cache, DefaultLifecycle},
};

use crate::{
    protocol::{
        freshness::Generation,
        time::{BootTime, Term},
    },
    ttl::Ttl,
    value::Value,
};

const SLOTS: usize = 4096;
/// The bytes of an entry beside its key and value: the entry, its place in the table, and the allocator's overhead.
const ENTRY_OVERHEAD: u64 = 160;
/// A change of the bound is made in this many steps: each evicts under the lock of a shard, where hits wait for it.
const RESIZE_STEPS: u64 = 16;
/// The size of an entry for which the table is laid out at first; it grows.
const TYPICAL_ENTRY: u64 = 1024;

pub(crate) struct NearCache {
    entries: Cache<Box<str>, Entry, Weight, DefaultHashBuilder, CountEvictions>,
    evictions: Arc<AtomicU64>,
    slots: Box<[Mutex<Slot>]>,
    hasher: DefaultHashBuilder,
    ttl: Ttl,
}

#[derive(Clone)]
struct Entry {
    value: Option<Value>,
    term: Term,
}

#[derive(Default)]
struct Slot {
    generation: Generation,
    /// The writes in progress on keys of this slot.
    writers: usize,
    /// How long a write whose writer is gone may still commit.
    abandoned: Option<Term>,
}

/// The permission to keep a value. It is taken before the value is asked for, and void after an invalidation.
#[derive(Clone, Copy)]
pub(crate) struct Permit(Generation);

#[derive(Clone)]
struct Weight;

impl Weighter<Box<str>, Entry> for Weight {
    fn weight(&self, key: &Box<str>, entry: &Entry) -> u64 {
        let value = entry.value.as_ref().map_or(0, Value::weight);
        (key.len() + value) as u64 + ENTRY_OVERHEAD
    }
}

/// Counts the values that make room for others, and otherwise does what the cache does by default.
#[derive(Clone)]
struct CountEvictions {
    evictions: Arc<AtomicU64>,
    /// Drops what was evicted after the lock of its shard is free.
    drops: DefaultLifecycle<Box<str>, Entry>,
}

impl Lifecycle<Box<str>, Entry> for CountEvictions {
    type RequestState = <DefaultLifecycle<Box<str>, Entry> as Lifecycle<Box<str>, Entry>>::RequestState;

    /// Unlike `on_evict`, it is not called for a value that another one of its key replaces.
    fn before_evict(&self, _: &mut Self::RequestState, _: &Box<str>, _: &mut Entry) {
        self.evictions.fetch_add(1, Relaxed);
    }

    fn on_evict(&self, state: &mut Self::RequestState, key: Box<str>, entry: Entry) {
        self.drops.on_evict(state, key, entry);
    }
}

impl NearCache {
    pub(crate) fn new(bytes: u64, ttl: Ttl) -> Self {
        let typical = usize::try_from(bytes / TYPICAL_ENTRY).unwrap_or(usize::MAX);
        let evictions = Arc::<AtomicU64>::default();
        let lifecycle = CountEvictions {
            evictions: evictions.clone(),
            drops: DefaultLifecycle::default(),
        };
        let hasher = DefaultHashBuilder::default();
        Self {
            entries: Cache::with(typical.clamp(16, 1 << 16), bytes, Weight, hasher, lifecycle),
            evictions,
            slots: (0..SLOTS).map(|_| Mutex::default()).collect(),
            hasher: DefaultHashBuilder::default(),
            ttl,
        }
    }

    /// The value of a key, unless it has expired.
    pub(crate) fn get(&self, key: &str, now: BootTime) -> Option<Option<Value>> {
        let entry = self.entries.get(key)?;
        entry.term.is_running(now).then_some(entry.value)
    }

    /// The value of a key, even if it has expired.
    pub(crate) fn peek(&self, key: &str) -> Option<Option<Value>> {
        Some(self.entries.peek(key)?.value)
    }

    /// The permission to keep a value. Must be taken before the value is asked for. `None` while the slot has a writer.
    pub(crate) fn permit(&self, key: &str, now: BootTime) -> Option<Permit> {
        let mut slot = self.slot(key);
        slot.abandoned = slot.abandoned.filter(|term| term.is_running(now));
        (slot.writers == 0 && slot.abandoned.is_none()).then_some(Permit(slot.generation))
    }

    /// Keeps a value if the permit is still valid. Returns whether it was.
    pub(crate) fn fill(&self, key: &str, value: Option<Value>, permit: Permit, now: BootTime) -> bool {
        self.fill_for(self.ttl, key, value, permit, now)
    }

    /// Like [`fill`](Self::fill), for this long instead of as long as configured.
    pub(crate) fn fill_for(&self, ttl: Ttl, key: &str, value: Option<Value>, permit: Permit, now: BootTime) -> bool {
        let term = Term::new(now, ttl.of(value.as_ref()));
        let slot = self.slot(key);
        let holds = slot.generation == permit.0;
        if holds {
            self.entries.insert(key.into(), Entry { value, term });
        }
        drop(slot);
        holds
    }

    /// Removes a value that is older than the one just seen in the database. A missing row counts as the newest version.
    pub(crate) fn seal(&self, key: &str, seen: Option<&Value>) {
        let slot = self.slot(key);
        self.entries.remove_if(key, |entry| match (&entry.value, seen) {
            (Some(kept), Some(seen)) => kept.version < seen.version,
            (None, None) => false,
            _ => true,
        });
        drop(slot);
    }

    /// Removes a key, and voids the permits of loads in progress.
    pub(crate) fn forget(&self, key: &str) {
        let mut slot = self.slot(key);
        slot.generation.advance();
        self.entries.remove(key);
        drop(slot);
    }

    /// Removes a key and keeps it out until its writer releases it.
    pub(crate) fn fence(&self, key: &str) {
        let mut slot = self.slot(key);
        slot.generation.advance();
        slot.writers += 1;
        self.entries.remove(key);
        drop(slot);
    }

    /// Ends a [`fence`](Self::fence) after the write committed or failed for certain.
    pub(crate) fn release(&self, key: &str) {
        let mut slot = self.slot(key);
        slot.generation.advance();
        slot.writers -= 1;
        self.entries.remove(key);
        drop(slot);
    }

    /// Ends a [`fence`](Self::fence) whose write may still commit until `term` ends.
    pub(crate) fn abandon(&self, key: &str, term: Term, now: BootTime) {
        let mut slot = self.slot(key);
        slot.writers -= 1;
        let longest = [slot.abandoned, Some(term)]
            .into_iter()
            .flatten()
            .max_by_key(|term| term.remaining(now));
        slot.abandoned = longest;
        drop(slot);
    }

    /// Removes everything, and voids the permits of loads in progress.
    pub(crate) fn clear(&self) {
        // The generations first: a fill that comes between finds its permit void.
        for slot in &self.slots {
            lock(slot).generation.advance();
        }
        self.entries.clear();
    }

    /// How long values are kept, if their origin does not say.
    pub(crate) fn ttl(&self) -> Ttl {
        self.ttl
    }

    /// Changes the bound. If it is lower, values are evicted before this returns, those that are read least first.
    pub(crate) fn resize(&self, bytes: u64) {
        let before = self.entries.capacity();
        for step in 1..RESIZE_STEPS {
            let part = (before.abs_diff(bytes) / RESIZE_STEPS) * step;
            let between = match bytes < before {
                true => before - part,
                false => before + part,
            };
            self.entries.set_capacity(between);
        }
        self.entries.set_capacity(bytes);
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The bytes that the bound counts.
    pub(crate) fn bytes(&self) -> u64 {
        self.entries.weight()
    }

    /// The number of values that made room for others, or for a lower bound.
    pub(crate) fn evictions(&self) -> u64 {
        self.evictions.load(Relaxed)
    }

    fn slot(&self, key: &str) -> MutexGuard<'_, Slot> {
        let hash = self.hasher.hash_one(key);
        lock(&self.slots[hash as usize % SLOTS])
    }
}

/// No code panics while it holds the lock.
fn lock(slot: &Mutex<Slot>) -> MutexGuard<'_, Slot> {
    slot.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;

    use super::*;

    const TTL: Duration = Duration::from_secs(100);

    fn near() -> NearCache {
        let ttl = Ttl {
            present: TTL,
            absent: TTL / 10,
        };
        NearCache::new(1 << 20, ttl)
    }

    fn at(seconds: u64) -> BootTime {
        BootTime::from_clock(Duration::from_secs(seconds))
    }

    fn value(version: i64) -> Option<Value> {
        let bytes = Bytes::from_static(b"value");
        Some(Value::new(version, bytes))
    }

    #[test]
    fn a_value_asked_for_before_an_invalidation_is_not_kept() {
        let near = near();
        let permit = near.permit("key", at(0)).unwrap();
        near.forget("key");
        assert!(!near.fill("key", value(1), permit, at(0)));
        let permit = near.permit("key", at(0)).unwrap();
        near.clear();
        assert!(!near.fill("key", value(1), permit, at(0)));
        assert_eq!(near.get("key", at(0)), None);
    }

    #[test]
    fn nothing_is_kept_while_a_write_is_under_way() {
        let near = near();
        let before = near.permit("key", at(0)).unwrap();
        near.fence("key");
        near.fence("key");
        assert!(near.permit("key", at(0)).is_none());
        assert!(!near.fill("key", value(1), before, at(0)));
        near.release("key");
        assert!(near.permit("key", at(0)).is_none());
        near.release("key");
        let permit = near.permit("key", at(0)).unwrap();
        assert!(near.fill("key", value(1), permit, at(0)));
        assert_eq!(near.get("key", at(0)), Some(value(1)));
    }

    #[test]
    fn an_abandoned_write_keeps_its_key_uncached_until_it_can_no_longer_commit() {
        let near = near();
        near.fence("key");
        near.abandon("key", Term::new(at(0), Duration::from_secs(3)), at(0));
        assert!(near.permit("key", at(2)).is_none());
        assert!(near.permit("key", at(3)).is_some());
    }

    #[test]
    fn a_value_expires_after_its_ttl_and_an_absence_sooner() {
        let near = near();
        for (key, value) in [("there", value(1)), ("gone", None)] {
            let permit = near.permit(key, at(0)).unwrap();
            near.fill(key, value, permit, at(0));
        }
        assert_eq!(near.get("there", at(89)), Some(value(1)));
        assert_eq!(near.get("there", at(101)), None);
        assert_eq!(near.get("gone", at(8)), Some(None));
        assert_eq!(near.get("gone", at(11)), None);
        assert_eq!(near.peek("there"), Some(value(1)));
    }

    #[test]
    fn a_seal_removes_what_is_older_than_what_was_seen() {
        for (kept, seen, stays) in [
            (value(1), value(2), false),
            (value(2), value(2), true),
            (value(3), value(2), true),
            (value(9), None, false),
            (None, value(1), false),
            (None, None, true),
        ] {
            let near = near();
            let permit = near.permit("key", at(0)).unwrap();
            near.fill("key", kept.clone(), permit, at(0));
            near.seal("key", seen.as_ref());
            assert_eq!(near.get("key", at(0)).is_some(), stays, "{kept:?} {seen:?}");
        }
    }

    #[test]
    fn bytes_bound_it() {
        let near = near();
        let bytes = Bytes::from(vec![0; 10_000]);
        for key in 0..1_000 {
            let key = key.to_string();
            let permit = near.permit(&key, at(0)).unwrap();
            let bytes = bytes.clone();
            near.fill(&key, Some(Value::new(1, bytes)), permit, at(0));
        }
        assert!(near.bytes() <= 1 << 20, "{}", near.bytes());
        assert!(near.len() > 50, "{}", near.len());
    }

    #[test]
    fn a_lower_bound_evicts_at_once_and_a_higher_one_makes_room_again() {
        let near = near();
        let fill = |keys: std::ops::Range<i64>| {
            let bytes = Bytes::from(vec![0; 1000]);
            for key in keys {
                let key = key.to_string();
                let permit = near.permit(&key, at(0)).unwrap();
                let bytes = bytes.clone();
                near.fill(&key, Some(Value::new(1, bytes)), permit, at(0));
            }
        };
        fill(0..50);
        fill(0..50);
        assert_eq!(near.evictions(), 0, "a value is replaced by another one of its key");
        fill(50..2000);
        assert_eq!(near.evictions() as usize, 2000 - near.len());
        let full = near.bytes();
        assert!(full > 900 * 1024, "{full}");
        near.resize(128 * 1024);
        let shrunk = near.bytes();
        assert_eq!(near.evictions() as usize, 2000 - near.len());
        assert!(shrunk <= 128 * 1024 && near.len() > 10, "{shrunk}, {} keys", near.len());
        fill(2000..4000);
        assert!(near.bytes() <= 128 * 1024, "{}", near.bytes());
        near.resize(1 << 20);
        fill(4000..6000);
        assert!(near.bytes() > 900 * 1024, "{}", near.bytes());
        assert!(near.bytes() <= 1 << 20, "{}", near.bytes());
    }
}
