//! The pool's lock, tasks and clock: tokio's and the standard library's, or the model checker's in unit tests.
//!
//! Invariant: nothing else in this crate locks, uses an atomic, spawns a task or reads the time. So the model checker
//! explores the code that ships.

#[cfg(not(test))]
pub(crate) use std::sync::{Mutex, MutexGuard, atomic::AtomicU8};
#[cfg(not(test))]
pub(crate) use tokio::{
    runtime::{Handle, Id as RuntimeId},
    time::{Instant, sleep_until, timeout},
};

/// True while the model checker unwinds the tasks that are left at the end of an execution.
#[cfg(not(test))]
pub(crate) const fn is_unwinding() -> bool {
    false
}

#[cfg(test)]
pub(crate) mod simulated;
#[cfg(test)]
pub(crate) use shuttle::sync::atomic::AtomicU8;
#[cfg(test)]
pub(crate) use simulated::{Handle, Instant, Mutex, MutexGuard, RuntimeId, is_unwinding, sleep_until, timeout};
