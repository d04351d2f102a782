//! Limits that several instances share through Redis.
//!
//! Each instance decides by its own table, which holds what it admitted and what it last heard of the others. A caller has a
//! lease on each instance: the requests that the instance admits before Redis knows of them. Once half of it is spent, a
//! task reports them, and hears how far the bucket of all instances lies ahead. Nothing is taken in advance, so
//! nothing must be given back, and an instance that dies takes nothing along.
//!
//! Invariants:
//! * No request waits for Redis.
//! * What an instance admits is charged to the bucket in Redis, rather twice than never: so all instances together admit the
//!   quota in the long run, and in any window a few leases more (docs/limits.md).
//! * While Redis does not answer, each instance admits its part, `quota / instances`.

mod exchange;
mod script;
#[cfg(test)]
mod simulation;

use std::mem;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

use cenote_cache::CheckError;
use tokio::sync::Notify;

use super::caller::Caller;
use super::classes::ClassId;
use super::gcra::Rate;
use super::limit::Limit;
use super::policy::{Lease, MOST_WINDOWS, Window};
use super::table::Terms;

pub(crate) use self::exchange::check_sharing;
pub(super) use self::exchange::exchange;

/// Most reports that wait for the task.
const MOST_PENDING: usize = 4096;

/// What the threads that charge requests and the task that talks with Redis have in common.
#[derive(Debug)]
pub(super) struct Sharing {
    instances: u32,
    /// Whether Redis answered last. Relaxed: it orders nothing.
    is_connected: AtomicBool,
    /// Why it did not.
    problem: Mutex<Option<String>>,
    pending: Mutex<Vec<Report>>,
    /// Wakes the task.
    wake: Notify,
    reports: AtomicU64,
    lost: AtomicU64,
}

/// How the sharing of limits goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedStats {
    /// Why each instance admits only its part, if so. Names no address.
    pub problem: Option<String>,
    /// Reports that Redis has answered.
    pub reports: u64,
    /// Reports that Redis may not know of. They are made once more.
    pub lost: u64,
}

/// How limits apply at present.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mode<'a> {
    /// This instance knows of no others.
    Alone,
    /// The instances hear of each other.
    Shared(&'a Sharing),
    /// This number of instances do not hear of each other.
    Divided(u32),
}

/// Admitted requests of one caller, on their way to Redis.
#[derive(Debug, Clone, Copy)]
pub(super) struct Report {
    pub(super) class: ClassId,
    pub(super) caller: Caller,
    /// The caller and the class, in the table.
    pub(super) identity: u64,
    /// The number of the window in its policy, and the window.
    pub(super) at: usize,
    pub(super) window: Window,
    pub(super) count: u32,
    /// Where the bucket of this instance lies with them, in nanoseconds of its clock.
    pub(super) tat: u64,
}

impl Mode<'_> {
    /// The number of instances among which a limit is divided.
    pub(super) fn parts(self) -> u32 {
        match self {
            Self::Alone | Self::Shared(_) => 1,
            Self::Divided(instances) => instances,
        }
    }

    /// Calls with what a request is charged by.
    pub(super) fn with_terms<T>(self, limit: &Limit, call: impl FnOnce(Terms<'_>) -> T) -> T {
        let mut rates = [Rate::default(); MOST_WINDOWS];
        let mut leases = [Lease::default(); MOST_WINDOWS];
        let count = limit.rates.len();
        let (rates, leases) = match self {
            Self::Alone => (&*limit.rates, &[][..]),
            Self::Shared(sharing) => {
                for (lease, window) in leases.iter_mut().zip(limit.policy.windows()) {
                    *lease = window.lease(sharing.instances);
                }
                (&*limit.rates, &leases[..count])
            }
            Self::Divided(instances) => {
                for (part, rate) in rates.iter_mut().zip(&limit.rates) {
                    *part = rate.share(instances);
                }
                (&rates[..count], &[][..])
            }
        };
        call(Terms { rates, leases })
    }
}

impl Sharing {
    pub(super) fn new(instances: u32) -> Self {
        Self {
            instances,
            is_connected: AtomicBool::new(false),
            problem: Mutex::default(),
            pending: Mutex::default(),
            wake: Notify::new(),
            reports: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        }
    }

    pub(super) fn mode(&self) -> Mode<'_> {
        match self.is_connected.load(Relaxed) {
            true => Mode::Shared(self),
            false => Mode::Divided(self.instances),
        }
    }

    /// Hands a report to the task. Returns whether it did: not if too many wait.
    pub(super) fn send(&self, report: Report) -> bool {
        let mut pending = lock(&self.pending);
        if pending.len() >= MOST_PENDING {
            return false;
        }
        pending.push(report);
        let is_first = pending.len() == 1;
        drop(pending);
        if is_first {
            self.wake.notify_one();
        }
        true
    }

    /// Takes the reports that wait. The memory of `taken`, which is empty, is used for the next.
    fn take(&self, taken: &mut Vec<Report>) {
        mem::swap(&mut *lock(&self.pending), taken);
    }

    pub(super) fn count_lost(&self) {
        self.lost.fetch_add(1, Relaxed);
    }

    /// Redis answers. Logs it if that is news.
    fn connected(&self) {
        *lock(&self.problem) = None;
        if !self.is_connected.swap(true, Relaxed) {
            tracing::info!(instances = self.instances, "limits are shared through Redis");
        }
    }

    /// Redis does not answer. Logs it if that is news.
    fn disconnected(&self, error: &CheckError) {
        let instances = self.instances;
        let without_address = match error {
            CheckError::Redis(problem) => problem.without_address().to_string(),
            CheckError::Config(error) => error.to_string(),
        };
        let effect = format!("each instance admits 1/{instances} of every limit until Redis answers");
        self.is_connected.store(false, Relaxed);
        let before = lock(&self.problem).replace(format!("{effect}. {without_address}"));
        if before.is_none() {
            tracing::warn!(instances, "limits are not shared: {effect}. {error}");
        }
    }

    pub(super) fn stats(&self) -> SharedStats {
        let is_connected = self.is_connected.load(Relaxed);
        let unknown = || "each instance admits its part of every limit until Redis has answered".to_owned();
        let problem = lock(&self.problem).clone();
        SharedStats {
            problem: (!is_connected).then(|| problem.unwrap_or_else(unknown)),
            reports: self.reports.load(Relaxed),
            lost: self.lost.load(Relaxed),
        }
    }
}

/// Nothing panics under these locks.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
