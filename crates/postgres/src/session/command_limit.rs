//! The command timeout of a connection. Invariant: each holder of the connection begins with that of the configuration.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

/// For "no limit". As a limit it would be 584 years.
const NONE: u64 = u64::MAX;

/// The longest time for a command, in nanoseconds. Relaxed: it guards nothing.
#[derive(Debug)]
pub(super) struct CommandLimit(AtomicU64);

impl CommandLimit {
    pub(super) fn new(limit: Option<Duration>) -> Self {
        Self(AtomicU64::new(nanoseconds(limit)))
    }

    pub(super) fn set(&self, limit: Option<Duration>) {
        self.0.store(nanoseconds(limit), Relaxed);
    }

    pub(super) fn get(&self) -> Option<Duration> {
        let limit = self.0.load(Relaxed);
        (limit != NONE).then(|| Duration::from_nanos(limit))
    }
}

fn nanoseconds(limit: Option<Duration>) -> u64 {
    let limit = limit.map(|limit| u64::try_from(limit.as_nanos()));
    limit.and_then(Result::ok).unwrap_or(NONE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_is_kept_to_the_nanosecond_and_an_endless_one_is_none() {
        let limit = CommandLimit::new(Some(Duration::new(5, 1)));
        assert_eq!(limit.get(), Some(Duration::new(5, 1)));
        for endless in [None, Some(Duration::MAX)] {
            limit.set(endless);
            assert_eq!(limit.get(), None);
        }
        limit.set(Some(Duration::ZERO));
        assert_eq!(limit.get(), Some(Duration::ZERO));
    }
}
