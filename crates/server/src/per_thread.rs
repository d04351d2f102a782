//! A value of which each thread has a copy.
//!
//! Invariant: threads that clone their copies write to different cache lines. A reference count that all cores share costs
//! each of them a transfer of its line, which is more than the rest of a look-up.

use std::{
    cell::Cell,
    fmt,
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

/// Threads beyond this number share copies.
const COPIES: usize = 16;

static NEXT: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static NUMBER: Cell<usize> = Cell::new(NEXT.fetch_add(1, Relaxed) % COPIES);
}

/// Copies of one value.
pub(crate) struct PerThread<T>([OnceLock<T>; COPIES]);

impl<T> PerThread<T> {
    /// Returns the copy of this thread, which is made at its first use.
    pub(crate) fn get(&self, make: impl FnOnce() -> T) -> &T {
        // A thread that is ending no longer has a number.
        let number = NUMBER.try_with(Cell::get).unwrap_or(0);
        self.0[number].get_or_init(make)
    }
}

impl<T> Default for PerThread<T> {
    fn default() -> Self {
        Self([const { OnceLock::new() }; COPIES])
    }
}

/// A clone makes its own copies.
impl<T> Clone for PerThread<T> {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// Which threads have copies is no part of a value.
impl<T> PartialEq for PerThread<T> {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl<T> Eq for PerThread<T> {}

impl<T> fmt::Debug for PerThread<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PerThread")
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, thread};

    use super::*;

    #[test]
    fn each_thread_makes_its_copy_once() {
        let copies = PerThread::default();
        let here = copies.get(|| Arc::new(1)).clone();
        assert!(Arc::ptr_eq(&here, copies.get(|| panic!("it is made"))));
        let there = thread::scope(|scope| scope.spawn(|| copies.get(|| Arc::new(1)).clone()).join().unwrap());
        // Unless 16 threads were started meanwhile, by other tests of this process.
        assert!(!Arc::ptr_eq(&here, &there) || NEXT.load(Relaxed) > COPIES);
        assert_eq!(here, there);
    }
}
