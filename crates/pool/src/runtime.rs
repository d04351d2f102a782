//! What the pool takes from its surroundings: a lock, tasks, time. Invariant: nothing else in this
//! crate locks, shares a value without a lock, spawns or asks for the time, so that in the unit tests, where simulated ones stand
//! in, the very same code runs under a scheduler that chooses every interleaving.

#[cfg(not(test))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic::AtomicU8};
#[cfg(not(test))]
pub(crate) use tokio::{
    runtime::{Handle, Id as RuntimeId},
    time::{Instant, sleep_until, timeout},
};

/// Whether nothing goes on after this: only the model checker ends like that.
#[cfg(not(test))]
pub(crate) const fn is_cut_off() -> bool {
    false
}

#[cfg(test)]
pub(crate) mod simulated;
#[cfg(test)]
pub(crate) use shuttle::sync::atomic::AtomicU8;
#[cfg(test)]
pub(crate) use simulated::{Handle, Instant, Mutex, MutexGuard, RuntimeId, is_cut_off, sleep_until, timeout};
