//! A bound for lines of a log that strangers can cause. Invariant: the lines of a second are bounded, and the first of a
//! later second says how many were left out.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tokio::time::Instant;

/// Lines of each second. All cores share it.
#[derive(Debug)]
pub(crate) struct LineBudget {
    most: u32,
    started: Instant,
    /// Upper half: the second of the last line. Lower half: the lines that were due in that second.
    lines: AtomicU64,
}

impl LineBudget {
    /// A budget of `most` lines a second.
    pub(crate) fn new(most: u32) -> Self {
        Self {
            most,
            started: Instant::now(),
            lines: AtomicU64::new(0),
        }
    }

    /// Takes one of this second's lines: `None` if none is left, otherwise how many lines were left out before it.
    pub(crate) fn take(&self) -> Option<u32> {
        let second = self.started.elapsed().as_secs() << 32;
        let next = |lines: u64| (lines as u32).saturating_add(1);
        let before = self.lines.fetch_update(Relaxed, Relaxed, |lines| {
            Some(match lines & !u64::from(u32::MAX) == second {
                true => second | u64::from(next(lines)),
                false => second | 1,
            })
        });
        let before = before.unwrap_or_default();
        match before & !u64::from(u32::MAX) == second {
            true => (next(before) <= self.most).then_some(0),
            false => Some((before as u32).saturating_sub(self.most)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flood_gets_a_bounded_number_of_lines_a_second_and_the_next_says_what_is_missing() {
        let budget = LineBudget::new(50);
        for round in 0..3 {
            let left_out = if round == 0 { 0 } else { 9_950 };
            assert_eq!(budget.take(), Some(left_out));
            let written = (1..10_000).filter(|_| budget.take().is_some()).count();
            assert_eq!(written, 49);
            tokio::time::advance(Duration::from_secs(1)).await;
        }
    }
}
