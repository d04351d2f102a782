//! What the memory watch asks the system. Invariant: `limit` is above zero.

use std::io;

/// How much memory is used of how much, and what the kernel says about it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Reading {
    /// The working set in bytes: what the kernel cannot drop at will. Cached pages of files that were not used lately do not
    /// count.
    pub used: u64,
    /// The bytes at which the kernel slows the process down or ends it.
    pub limit: u64,
    /// The share of the last ten seconds in which a task waited for memory, in percent; `None` if the kernel does not tell.
    pub stall: Option<f32>,
    /// How often the use was above `memory.high`.
    pub high_events: u64,
    /// How often the use was about to pass `memory.max`.
    pub max_events: u64,
}

impl Default for Reading {
    fn default() -> Self {
        Self {
            used: 0,
            limit: u64::MAX,
            stall: None,
            high_events: 0,
            max_events: 0,
        }
    }
}

impl Reading {
    /// The used share of the limit, in thousandths.
    pub(super) fn share(&self) -> u32 {
        let share = u128::from(self.used) * 1000 / u128::from(self.limit.max(1));
        u32::try_from(share).unwrap_or(u32::MAX)
    }
}

/// Reads how much memory is used. Tests inject another one.
pub trait MemoryReader: Send + 'static {
    /// Returns the state of now. It must not wait: it is called four times a second.
    ///
    /// # Errors
    ///
    /// The system's. The watch skips this reading.
    fn read(&mut self) -> io::Result<Reading>;

    /// The name of what is read, for people: `the cgroup's memory`.
    fn source(&self) -> &'static str;
}
