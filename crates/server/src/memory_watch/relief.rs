//! How much the near cache may keep while memory is short: pure, with the time passed in.
//!
//! Invariant: the bound is between the floor and the configured one, and returns to the configured one once the shortage is
//! over.

use std::time::Duration;

use tokio::time::Instant;

use super::level::Level;

/// The near cache is not shrunk below this.
const FLOOR: u64 = 1 << 20;
/// Time between two halvings, and between two doublings when there is enough memory again.
const STEP: Duration = Duration::from_secs(1);
/// Time between two doublings while there is still a warning. Memory that the allocator keeps is used again this way.
const CAREFUL_STEP: Duration = Duration::from_secs(10);

/// The bound of the near cache.
#[derive(Debug)]
pub(super) struct NearBound {
    /// `CACHE_NEAR_BYTES`.
    configured: u64,
    floor: u64,
    bound: u64,
    changed: Option<Instant>,
}

impl NearBound {
    pub(super) fn new(configured: u64) -> Self {
        Self {
            configured,
            floor: FLOOR.min(configured),
            bound: configured,
            changed: None,
        }
    }

    /// Returns a new bound, if it is time for one. `kept` is how many bytes the near cache holds now.
    pub(super) fn next(&mut self, level: Level, kept: u64, now: Instant) -> Option<u64> {
        let pause = match level {
            Level::Warning => CAREFUL_STEP,
            Level::Normal | Level::Critical => STEP,
        };
        if self.changed.is_some_and(|changed| now - changed < pause) {
            return None;
        }
        let next = match level {
            // Half of what is kept, because a bound above it frees nothing.
            Level::Critical => (self.bound.min(kept) / 2).clamp(self.floor, self.bound),
            Level::Normal | Level::Warning => self.bound.saturating_mul(2).min(self.configured),
        };
        if next == self.bound {
            return None;
        }
        self.bound = next;
        self.changed = Some(now);
        Some(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// The bounds of some seconds with this level, if the near cache is always full.
    fn bounds(near: &mut NearBound, now: &mut Instant, level: Level, seconds: u32) -> Vec<u64> {
        let ticks = (0..seconds * 4).filter_map(|_| {
            *now += Duration::from_millis(250);
            near.next(level, near.bound, *now)
        });
        ticks.map(|bound| bound / MIB).collect()
    }

    #[test]
    fn it_is_halved_at_once_and_each_second_and_comes_back_within_seconds() {
        let (mut near, mut now) = (NearBound::new(64 * MIB), Instant::now());
        assert_eq!(bounds(&mut near, &mut now, Level::Critical, 3), [32, 16, 8]);
        assert_eq!(bounds(&mut near, &mut now, Level::Critical, 60), [4, 2, 1]);
        assert_eq!(bounds(&mut near, &mut now, Level::Warning, 30), [2, 4, 8]);
        assert_eq!(bounds(&mut near, &mut now, Level::Normal, 60), [16, 32, 64]);
    }

    #[test]
    fn the_first_halving_is_of_what_is_kept() {
        let (mut near, now) = (NearBound::new(1 << 40), Instant::now());
        assert_eq!(near.next(Level::Critical, 100 * MIB, now), Some(50 * MIB));
        assert_eq!(near.next(Level::Critical, 0, now + STEP), Some(MIB));
    }

    #[test]
    fn a_small_near_cache_is_left_alone() {
        let (mut near, mut now) = (NearBound::new(64 * 1024), Instant::now());
        assert!(bounds(&mut near, &mut now, Level::Critical, 10).is_empty());
        assert_eq!(near.bound, 64 * 1024);
    }
}
