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

use std::mem;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::gcra::Rate;
use super::policy::{Lease, MOST_WINDOWS};

/// Entries of a set.
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
    sets: Box<[Locked]>,
}

/// A set begins with a cache line, so that it has no line in common with another: it takes four, 32 bytes for an entry.
#[derive(Debug, Default)]
#[repr(align(128))]
struct Locked(Mutex<Set>);

/// Each entry is the bucket of one caller for one window. By column, so that a limit that is not shared touches no more
/// memory than it needs.
#[derive(Debug, Default)]
struct Set {
    /// Zero: empty.
    names: [u64; WAYS],
    /// The theoretical arrival times: see [`super::gcra`].
    tats: [u64; WAYS],
    reports: [Reports; WAYS],
}

/// The number of an entry.
type Slot = u8;

/// What an instance has yet to tell Redis of a bucket. All zero if the limit is not shared.
#[derive(Debug, Clone, Copy, Default)]
struct Reports {
    /// Admitted requests that Redis has not been told of.
    unreported: u32,
    /// Those that are in a report under way. Not zero: no further report is made.
    reporting: u32,
}

/// What one request is charged by.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terms<'a> {
    /// One for each window: one at least, [`MOST_WINDOWS`] at most.
    pub(super) rates: &'a [Rate],
    /// One for each window. Empty: the limit is not shared.
    pub(super) leases: &'a [Lease],
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Decision {
    pub(super) outcome: Outcome,
    /// How far ahead of now the bucket of each window lies afterwards.
    pub(super) ahead: [u64; MOST_WINDOWS],
    /// How many requests of each window are to be reported now. The report must be [settled](Table::settle).
    pub(super) due: [u32; MOST_WINDOWS],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Admitted,
    /// These windows do not admit it. Nothing was charged.
    Refused(Windows),
    /// The caller is new, and all buckets of its set are in use. Nothing was charged.
    NoRoom,
}

/// What became of a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ReportEnd {
    /// Redis has charged it. `ahead`: how far ahead of that time the bucket of all instances lies.
    Known { ahead: u64 },
    /// Redis may not know of it. Its requests are reported once more: rather twice than never.
    Lost,
}

/// A set of windows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Windows(u8);

impl Windows {
    pub(super) fn insert(&mut self, window: usize) {
        self.0 |= 1 << window;
    }

    pub(super) fn contains(self, window: usize) -> bool {
        self.0 & (1 << window) != 0
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl Table {
    /// Makes a table for at least this many buckets.
    pub(super) fn new(buckets: usize) -> Self {
        let sets = buckets.div_ceil(WAYS).max(FEWEST_SETS).next_power_of_two();
        let sets = (0..sets).map(|_| Locked::default()).collect();
        Self { sets }
    }

    /// Charges one request to the buckets of this identity, one for each window, if all of them admit it.
    ///
    /// `now` is monotonic, in nanoseconds.
    pub(super) fn charge(&self, identity: u64, terms: Terms<'_>, now: u64) -> Decision {
        let mut set = self.set(identity);
        let (slots, mut decision) = set.look(identity, terms, now);
        let slots = &slots[..terms.rates.len()];
        if decision.outcome != Outcome::Admitted {
            return decision;
        }
        let missing = slots.iter().filter(|slot| slot.is_none()).count();
        let Some(mut room) = set.make_room(identity, missing, now) else {
            decision.outcome = Outcome::NoRoom;
            return decision;
        };
        for (window, rate) in terms.rates.iter().enumerate() {
            let known = slots[window].map(usize::from);
            let Some(slot) = known.or_else(|| room.next().map(usize::from)) else {
                continue;
            };
            // Not written without need: another core may be about to read it.
            if known.is_none() {
                set.names[slot] = name(identity, window);
            }
            let ahead = &mut decision.ahead[window];
            *ahead = ahead.saturating_add(rate.interval);
            set.tats[slot] = now.saturating_add(*ahead);
            if let Some(lease) = terms.leases.get(window) {
                let reports = &mut set.reports[slot];
                reports.unreported = reports.unreported.saturating_add(1);
                decision.due[window] = reports.due(*lease);
            }
        }
        drop(set);
        decision
    }

    /// Tells whether a request would be admitted, and charges nothing.
    pub(super) fn peek(&self, identity: u64, terms: Terms<'_>, now: u64) -> Decision {
        self.set(identity).look(identity, terms, now).1
    }

    /// Ends a report about the bucket of this identity for this window, whose interval is given. It was sent at `sent`.
    pub(super) fn settle(&self, identity: u64, window: usize, interval: u64, end: ReportEnd, sent: u64) {
        let mut set = self.set(identity);
        let name = name(identity, window);
        let Some(slot) = set.slot(name).map(usize::from) else {
            return;
        };
        let reports = &mut set.reports[slot];
        let reported = mem::take(&mut reports.reporting);
        match end {
            ReportEnd::Known { ahead } => {
                let unreported = interval.saturating_mul(reports.unreported.into());
                let tat = sent.saturating_add(ahead).saturating_add(unreported);
                // Not counted from the answer on: the next report would take the bucket of all with it, so that each round
                // trip cost the caller as much as requests in its time. Never back: Redis may have lost what it was told.
                set.tats[slot] = set.tats[slot].max(tat);
            }
            ReportEnd::Lost => reports.unreported = reports.unreported.saturating_add(reported),
        }
    }

    /// The number of bytes of all buckets.
    #[cfg(test)]
    pub(super) fn size(&self) -> usize {
        size_of_val(&*self.sets)
    }

    /// Counts the buckets that are not full. Takes some 20 ns for each set.
    pub(super) fn in_use(&self, now: u64) -> usize {
        let count = |set: &Locked| set.lock().tats.iter().filter(|tat| **tat > now).count();
        self.sets.iter().map(count).sum()
    }

    fn set(&self, identity: u64) -> MutexGuard<'_, Set> {
        // The length is a power of two. The truncation keeps the lower bits.
        self.sets[identity as usize & (self.sets.len() - 1)].lock()
    }
}

impl Locked {
    fn lock(&self) -> MutexGuard<'_, Set> {
        // Nothing panics under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn name(identity: u64, window: usize) -> u64 {
    (identity & !WINDOW_BITS) | (window as u64 + 1)
}

impl Set {
    /// Finds the buckets of an identity, and how they lie without another request. If they refuse it, begins the reports that
    /// are due.
    fn look(&mut self, identity: u64, terms: Terms<'_>, now: u64) -> ([Option<Slot>; MOST_WINDOWS], Decision) {
        let mut slots = [None; MOST_WINDOWS];
        let mut ahead = [0; MOST_WINDOWS];
        let mut refused = Windows::default();
        for (window, rate) in terms.rates.iter().enumerate() {
            slots[window] = self.slot(name(identity, window));
            ahead[window] = slots[window].map_or(0, |slot| self.tats[usize::from(slot)].saturating_sub(now));
            let lease = terms.leases.get(window).zip(slots[window]);
            let is_spent = lease.is_some_and(|(lease, slot)| self.reports[usize::from(slot)].all() >= lease.most);
            if is_spent || !rate.admits(ahead[window]) {
                refused.insert(window);
            }
        }
        let mut due = [0; MOST_WINDOWS];
        if !refused.is_empty() {
            // Otherwise a caller whose lease is spent, and whose report was lost, would be refused for ever.
            for (window, lease) in terms.leases.iter().enumerate() {
                if let Some(slot) = slots[window] {
                    due[window] = self.reports[usize::from(slot)].due(*lease);
                }
            }
        }
        let decision = Decision {
            outcome: match refused.is_empty() {
                true => Outcome::Admitted,
                false => Outcome::Refused(refused),
            },
            ahead,
            due,
        };
        (slots, decision)
    }

    fn slot(&self, name: u64) -> Option<Slot> {
        (0..WAYS as Slot).find(|slot| self.names[usize::from(*slot)] == name)
    }

    /// Empties as many slots as are wanted, those that have been full the longest; `None` if too many are in use.
    fn make_room(&mut self, identity: u64, wanted: usize, now: u64) -> Option<impl Iterator<Item = Slot> + use<>> {
        let mut slots = [0; WAYS];
        if wanted > 0 {
            let mut free = 0;
            for slot in (0..WAYS as Slot).filter(|slot| self.is_free(*slot, identity, now)) {
                slots[free] = slot;
                free += 1;
            }
            if free < wanted {
                return None;
            }
            slots[..free].sort_unstable_by_key(|slot| self.tats[usize::from(*slot)]);
            for slot in &slots[..wanted] {
                self.forget(self.names[usize::from(*slot)]);
            }
        }
        Some(slots.into_iter().take(wanted))
    }

    /// Whether a slot is empty, or all buckets of its caller, another one, are full.
    fn is_free(&self, slot: Slot, identity: u64, now: u64) -> bool {
        let name = self.names[usize::from(slot)];
        let caller = caller_of(name);
        let in_use = |other: usize| self.tats[other] > now && caller_of(self.names[other]) == caller;
        name == 0 || (caller != caller_of(identity) && !(0..WAYS).any(in_use))
    }

    /// Forgets all buckets of the caller that this one belongs to.
    fn forget(&mut self, name: u64) {
        for slot in 0..WAYS {
            if caller_of(self.names[slot]) == caller_of(name) {
                self.names[slot] = 0;
                self.tats[slot] = 0;
                self.reports[slot] = Reports::default();
            }
        }
    }
}

impl Reports {
    /// The requests that Redis does not know of.
    fn all(self) -> u32 {
        self.unreported.saturating_add(self.reporting)
    }

    /// Begins a report if there is enough to report, and no other is under way. Returns its requests.
    fn due(&mut self, lease: Lease) -> u32 {
        if self.reporting > 0 || self.unreported <= lease.kept {
            return 0;
        }
        self.reporting = self.unreported;
        self.unreported = 0;
        self.reporting
    }
}

/// The part of a name that all windows of a caller have in common.
fn caller_of(name: u64) -> u64 {
    name & !WINDOW_BITS
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
