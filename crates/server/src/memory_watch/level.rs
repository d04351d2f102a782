//! How short the memory is: pure, with the time passed in.
//!
//! Invariant: the level rises at the first reading that calls for it, and falls only after the readings were five points
//! below its threshold for five seconds. So it does not flap, and it never stays up after the shortage is over.

use std::time::Duration;

use tokio::time::Instant;

use super::reader::Reading;

/// How far below its threshold the use must fall, in thousandths of the limit.
const HYSTERESIS: u32 = 50;
/// How long it must stay there.
const CALM: Duration = Duration::from_secs(5);
/// A stall counts from this share of the last ten seconds on, in percent.
const STALLED: f32 = 10.0;
/// Below this use, in thousandths of the limit, the kernel's signals do not count: it also stalls and counts events while
/// it drops cached pages of files, which is no shortage.
const SIGNALS_FROM: u32 = 500;

/// How short the memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// There is enough.
    Normal,
    /// An operator should know.
    Warning,
    /// The service gives memory back and refuses what would need much.
    Critical,
}

/// From which use on the levels begin, in percent of the limit. `None`: never.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// 75 by default.
    pub warning: Option<u8>,
    /// 85 by default.
    pub critical: Option<u8>,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            warning: Some(75),
            critical: Some(85),
        }
    }
}

impl Thresholds {
    /// Whether there is anything to watch for.
    pub(crate) fn is_off(self) -> bool {
        self.warning.is_none() && self.critical.is_none()
    }
}

/// The level of a sequence of readings.
#[derive(Debug)]
pub(super) struct LevelMachine {
    warning: Latch,
    critical: Latch,
    /// The kernel's counts of the last reading.
    events: Option<(u64, u64)>,
}

impl LevelMachine {
    pub(super) fn new(thresholds: Thresholds) -> Self {
        Self {
            warning: Latch::new(thresholds.warning),
            critical: Latch::new(thresholds.critical),
            events: None,
        }
    }

    /// Takes a reading and returns the level.
    pub(super) fn observe(&mut self, reading: &Reading, now: Instant) -> Level {
        let share = reading.share();
        let before = self.events.replace((reading.high_events, reading.max_events));
        let (high, max) = before.unwrap_or((reading.high_events, reading.max_events));
        let counts = share >= SIGNALS_FROM;
        let is_stalled = reading.stall.is_some_and(|stall| stall > STALLED);
        let warns = counts && (is_stalled || reading.high_events > high);
        let is_at_limit = counts && reading.max_events > max;
        let is_warning = self.warning.observe(share, warns || is_at_limit, now);
        if self.critical.observe(share, is_at_limit, now) {
            Level::Critical
        } else if is_warning {
            Level::Warning
        } else {
            Level::Normal
        }
    }
}

/// Whether the use has reached one threshold.
#[derive(Debug)]
struct Latch {
    /// In thousandths of the limit.
    threshold: Option<u32>,
    is_on: bool,
    /// Since when the use has been well below the threshold.
    calm_since: Option<Instant>,
}

impl Latch {
    fn new(percent: Option<u8>) -> Self {
        Self {
            threshold: percent.map(|percent| u32::from(percent) * 10),
            is_on: false,
            calm_since: None,
        }
    }

    fn observe(&mut self, share: u32, signal: bool, now: Instant) -> bool {
        let Some(threshold) = self.threshold else {
            return false;
        };
        if signal || share >= threshold {
            self.is_on = true;
            self.calm_since = None;
        } else if share + HYSTERESIS > threshold {
            self.calm_since = None;
        } else if now - *self.calm_since.get_or_insert(now) >= CALM {
            self.is_on = false;
        }
        self.is_on
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Readings four times a second.
    struct World {
        machine: LevelMachine,
        now: Instant,
    }

    impl World {
        fn new() -> Self {
            Self {
                machine: LevelMachine::new(Thresholds::default()),
                now: Instant::now(),
            }
        }

        fn sees(&mut self, reading: Reading) -> Level {
            self.now += Duration::from_millis(250);
            self.machine.observe(&reading, self.now)
        }

        /// The level after this use has lasted for some seconds.
        fn after(&mut self, seconds: u32, percent: u64) -> Level {
            let levels: Vec<Level> = (0..seconds * 4).map(|_| self.sees(used(percent))).collect();
            *levels.last().unwrap()
        }
    }

    fn used(percent: u64) -> Reading {
        Reading {
            used: percent * 10,
            limit: 1000,
            ..Reading::default()
        }
    }

    #[test]
    fn it_rises_at_once_and_falls_after_five_calm_seconds() {
        let mut world = World::new();
        assert_eq!(world.sees(used(74)), Level::Normal);
        assert_eq!(world.sees(used(75)), Level::Warning);
        assert_eq!(world.sees(used(85)), Level::Critical);
        assert_eq!(world.after(60, 81), Level::Critical, "not five points below");
        assert_eq!(world.after(5, 80), Level::Critical);
        assert_eq!(world.sees(used(80)), Level::Warning);
        assert_eq!(world.after(60, 71), Level::Warning);
        assert_eq!(world.after(5, 70), Level::Warning);
        assert_eq!(world.sees(used(70)), Level::Normal);
    }

    #[test]
    fn calm_that_is_interrupted_begins_again() {
        let mut world = World::new();
        world.sees(used(90));
        for _ in 0..10 {
            assert_eq!(world.after(4, 60), Level::Critical);
            assert_eq!(world.after(1, 82), Level::Critical);
        }
        assert_eq!(world.after(6, 60), Level::Normal);
    }

    #[test]
    fn signals_of_the_kernel_raise_it_at_once() {
        let mut world = World::new();
        let stalled = |stall| Reading {
            stall: Some(stall),
            ..used(60)
        };
        assert_eq!(world.sees(stalled(10.0)), Level::Normal);
        assert_eq!(world.sees(stalled(10.1)), Level::Warning);
        assert_eq!(world.after(6, 60), Level::Normal);
        let high = |high_events| Reading {
            high_events,
            ..used(60)
        };
        assert_eq!(world.sees(high(1)), Level::Warning);
        let mut world = World::new();
        let max = |max_events| Reading { max_events, ..used(60) };
        // What was counted before the start does not count.
        assert_eq!(world.sees(max(7)), Level::Normal);
        assert_eq!(world.sees(max(8)), Level::Critical);
        assert_eq!(world.sees(max(8)), Level::Critical);
        for _ in 0..19 {
            world.sees(max(8));
        }
        assert_eq!(world.sees(max(8)), Level::Normal);
    }

    #[test]
    fn reclaim_of_cached_files_while_little_is_used_is_no_shortage() {
        let mut world = World::new();
        for count in 0..100 {
            let reading = Reading {
                stall: Some(50.0),
                high_events: count,
                max_events: count,
                ..used(49)
            };
            assert_eq!(world.sees(reading), Level::Normal);
        }
    }

    #[test]
    fn a_threshold_that_is_off_is_never_reached() {
        let mut world = World::new();
        world.machine = LevelMachine::new(Thresholds {
            warning: Some(75),
            critical: None,
        });
        assert_eq!(world.sees(used(100)), Level::Warning);
    }
}
