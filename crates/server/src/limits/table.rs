//! The buckets of all callers: a table of a fixed size for all cores.
//!
//! Invariants:
//! * A bucket that is not full is never forgotten, so no caller gains by a full table. A full bucket may be forgotten,
//!   because a new one is full as well.
//! * The buckets of one caller enter and leave the table together, and are charged together or not at all.
//! * Two callers share a bucket only if all 64 bits of their identities agree. An entry's name is the identity, with the
//!   number of the window in place of the bits that all identities of a set have in common.
//!
//! A set has a lock instead of a compare-and-swap for each entry. Two windows cannot be charged by one compare-and-swap, and
//! taking back the first after the second refused would meanwhile refuse others. Nor can a caller be kept from entering a
//! set twice. The lock is held for some 20 ns, and two cores rarely want the same of thousands of sets, unless both serve
//! one caller: then they would compete for the cache line without a lock, too.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::gcra::Rate;
use super::policy::MOST_WINDOWS;

/// Entries of a set: 128 bytes, two cache lines.
const WAYS: usize = 8;
/// The bits of an entry's name for its window. All identities of a set agree in them.
const WINDOW_BITS: u64 = WAYS as u64 - 1;
/// So that a set's number has at least [`WINDOW_BITS`].
const FEWEST_SETS: usize = WAYS;

const _: () = assert!(
    MOST_WINDOWS < WAYS,
    "window + 1 fits the bits, and a caller's windows fit a set"
);

/// The buckets of all callers.
#[derive(Debug)]
pub(super) struct Table {
    sets: Box<[Mutex<Set>]>,
}

#[derive(Debug, Default)]
struct Set {
    entries: [Entry; WAYS],
}

/// The bucket of one caller for one window.
#[derive(Debug, Clone, Copy, Default)]
struct Entry {
    /// Zero: empty.
    name: u64,
    /// The theoretical arrival time: see [`super::gcra`].
    tat: u64,
}

/// What became of a request, and how far ahead of now the bucket of each window lies afterwards.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) outcome: Outcome,
    pub(super) ahead: [u64; MOST_WINDOWS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Admitted,
    /// A window does not admit it. Nothing was charged.
    Refused,
    /// The caller is new, and all buckets of its set are in use. Nothing was charged.
    NoRoom,
}

impl Table {
    /// Makes a table for at least this many buckets.
    pub(super) fn new(buckets: usize) -> Self {
        let sets = buckets.div_ceil(WAYS).max(FEWEST_SETS).next_power_of_two();
        let sets = (0..sets).map(|_| Mutex::default()).collect();
        Self { sets }
    }

    /// Charges one request to the buckets of this identity, one for each rate, if all of them admit it.
    ///
    /// `now` is monotonic, in nanoseconds. There must be one rate at least, and [`MOST_WINDOWS`] at most.
    pub(super) fn charge(&self, identity: u64, rates: &[Rate], now: u64) -> Decision {
        let mut set = self.set(identity);
        let (slots, decision) = set.look(identity, rates, now);
        if decision.outcome == Outcome::Refused {
            return decision;
        }
        let missing = slots.iter().take(rates.len()).filter(|slot| slot.is_none()).count();
        let Some(mut room) = set.make_room(identity, missing, now) else {
            let outcome = Outcome::NoRoom;
            return Decision { outcome, ..decision };
        };
        let mut ahead = decision.ahead;
        for (window, rate) in rates.iter().enumerate() {
            ahead[window] = ahead[window].saturating_add(rate.interval);
            if let Some(slot) = slots[window].or_else(|| room.next()) {
                let tat = now.saturating_add(ahead[window]);
                let name = name(identity, window);
                set.entries[slot] = Entry { name, tat };
            }
        }
        drop(set);
        Decision { ahead, ..decision }
    }

    /// Tells whether a request would be admitted, and charges nothing.
    pub(super) fn peek(&self, identity: u64, rates: &[Rate], now: u64) -> Decision {
        self.set(identity).look(identity, rates, now).1
    }

    /// Counts the buckets that are not full. Takes some 20 ns for each set.
    pub(super) fn in_use(&self, now: u64) -> usize {
        let count = |set: &Mutex<Set>| lock(set).entries.iter().filter(|entry| entry.tat > now).count();
        self.sets.iter().map(count).sum()
    }

    fn set(&self, identity: u64) -> MutexGuard<'_, Set> {
        // The length is a power of two. The truncation keeps the lower bits.
        lock(&self.sets[identity as usize & (self.sets.len() - 1)])
    }
}

/// Nothing panics under the lock.
fn lock(set: &Mutex<Set>) -> MutexGuard<'_, Set> {
    set.lock().unwrap_or_else(PoisonError::into_inner)
}

fn name(identity: u64, window: usize) -> u64 {
    (identity & !WINDOW_BITS) | (window as u64 + 1)
}

impl Set {
    /// Finds the buckets of an identity, and how they lie without another request.
    fn look(&self, identity: u64, rates: &[Rate], now: u64) -> ([Option<usize>; MOST_WINDOWS], Decision) {
        let mut slots = [None; MOST_WINDOWS];
        let mut ahead = [0; MOST_WINDOWS];
        let mut outcome = Outcome::Admitted;
        for (window, rate) in rates.iter().enumerate() {
            let name = name(identity, window);
            slots[window] = self.entries.iter().position(|entry| entry.name == name);
            let tat = slots[window].map_or(0, |slot| self.entries[slot].tat);
            ahead[window] = tat.saturating_sub(now);
            if !rate.admits(ahead[window]) {
                outcome = Outcome::Refused;
            }
        }
        (slots, Decision { outcome, ahead })
    }

    /// Empties as many slots as are wanted, those that have been full the longest; `None` if too many are in use.
    fn make_room(&mut self, identity: u64, wanted: usize, now: u64) -> Option<impl Iterator<Item = usize> + use<>> {
        let mut slots = [0; WAYS];
        if wanted > 0 {
            let mut free = 0;
            for slot in (0..WAYS).filter(|slot| self.is_free(*slot, identity, now)) {
                slots[free] = slot;
                free += 1;
            }
            if free < wanted {
                return None;
            }
            slots[..free].sort_unstable_by_key(|slot| self.entries[*slot].tat);
            for slot in &slots[..wanted] {
                self.forget(self.entries[*slot].name);
            }
        }
        Some(slots.into_iter().take(wanted))
    }

    /// Whether a slot is empty, or all buckets of its caller, another one, are full.
    fn is_free(&self, slot: usize, identity: u64, now: u64) -> bool {
        let caller = caller_of(self.entries[slot].name);
        let in_use = |entry: &Entry| entry.tat > now && caller_of(entry.name) == caller;
        self.entries[slot].name == 0 || (caller != caller_of(identity) && !self.entries.iter().any(in_use))
    }

    /// Forgets all buckets of the caller that this one belongs to.
    fn forget(&mut self, name: u64) {
        for entry in &mut self.entries {
            if caller_of(entry.name) == caller_of(name) {
                *entry = Entry::default();
            }
        }
    }
}

/// The part of a name that all windows of a caller have in common.
fn caller_of(name: u64) -> u64 {
    name & !WINDOW_BITS
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
