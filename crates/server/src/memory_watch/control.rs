//! What to do about a reading: pure, with the time passed in.
//!
//! Invariant: nothing latches. Each order follows from the present level and the present use, and is taken back when they
//! allow it.

use std::fmt;

use tokio::time::Instant;

use super::{
    level::{Level, LevelMachine, Thresholds},
    notices::Notices,
    reader::Reading,
    relief::NearBound,
};

/// Bodies are refused only while the service itself has at least this share of the limit, in thousandths: otherwise the
/// memory is somebody else's, and refusing would free nothing.
const OWN_SHARE: u64 = 100;
/// While memory is critical, queues may hold this fraction of their bytes.
const QUEUE_FRACTION: usize = 4;

/// The bytes that the service knows of.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Accounted {
    /// Values that the near cache keeps.
    pub(crate) near: u64,
    /// Requests that wait in queues.
    pub(crate) queues: u64,
    /// Large responses that are being built or sent.
    pub(crate) responses: u64,
}

impl Accounted {
    fn total(&self) -> u64 {
        self.near + self.queues + self.responses
    }
}

/// What is to be done.
#[derive(Debug, PartialEq)]
pub(super) struct Orders {
    pub(super) level: Level,
    /// A new bound for the near cache.
    pub(super) near_bound: Option<u64>,
    /// The bound of each queue.
    pub(super) queue_bytes: usize,
    /// Refuse requests whose body is longer; `u64::MAX` refuses none.
    pub(super) longest_body: u64,
    /// Log the level, with the number of changes since it was last logged.
    pub(super) notice: Option<u32>,
}

/// The state between two readings.
#[derive(Debug)]
pub(super) struct Controller {
    thresholds: Thresholds,
    levels: LevelMachine,
    near: NearBound,
    /// The configured bound of each queue.
    queue_bytes: usize,
    notices: Notices,
}

impl Controller {
    pub(super) fn new(thresholds: Thresholds, near_bytes: u64, queue_bytes: usize) -> Self {
        Self {
            thresholds,
            levels: LevelMachine::new(thresholds),
            near: NearBound::new(near_bytes),
            queue_bytes,
            notices: Notices::new(),
        }
    }

    /// Changes from which use on the levels begin. Without any, what was taken away is given back.
    pub(super) fn set_thresholds(&mut self, thresholds: Thresholds) {
        self.thresholds = thresholds;
        self.levels = LevelMachine::new(thresholds);
    }

    /// Decides what to do about a reading. `accounted` is asked only if memory is short.
    pub(super) fn step(
        &mut self,
        reading: &Reading,
        accounted: impl FnOnce() -> Accounted,
        now: Instant,
    ) -> (Orders, Option<Accounted>) {
        let level = self.levels.observe(reading, now);
        let accounted = (level != Level::Normal).then(accounted);
        let near = accounted.map_or(0, |accounted| accounted.near);
        let is_critical = level == Level::Critical;
        let orders = Orders {
            level,
            near_bound: self.near.next(level, near, now),
            queue_bytes: match is_critical {
                true => self.queue_bytes / QUEUE_FRACTION,
                false => self.queue_bytes,
            },
            longest_body: match accounted {
                Some(accounted) if is_critical => self.longest_body(reading, &accounted),
                _ => u64::MAX,
            },
            notice: self.notices.due(level, now),
        };
        (orders, accounted)
    }

    /// The longest body that keeps the use below the critical threshold.
    fn longest_body(&self, reading: &Reading, accounted: &Accounted) -> u64 {
        let own = u128::from(accounted.total()) * 1000 / u128::from(reading.limit);
        let Some(percent) = self.thresholds.critical else {
            return u64::MAX;
        };
        if own < u128::from(OWN_SHARE) {
            return u64::MAX;
        }
        let threshold = u128::from(reading.limit) * u128::from(percent) / 100;
        u64::try_from(threshold)
            .unwrap_or(u64::MAX)
            .saturating_sub(reading.used)
    }
}

/// The use of memory in words, with the parts that the service knows of.
pub(super) struct InWords<'a> {
    pub(super) source: &'a str,
    pub(super) reading: &'a Reading,
    pub(super) accounted: &'a Accounted,
    /// Memory that the process has, in bytes.
    pub(super) resident: Option<u64>,
}

impl fmt::Display for InWords<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mib = |bytes: u64| bytes.div_ceil(1 << 20);
        let Reading { used, limit, .. } = *self.reading;
        let percent = self.reading.share() / 10;
        write!(
            f,
            "{percent} % of {} is used: {} of {} MiB",
            self.source,
            mib(used),
            mib(limit)
        )?;
        if let Some(resident) = self.resident {
            write!(f, ", {} MiB by this process", mib(resident))?;
        }
        let Accounted {
            near,
            queues,
            responses,
        } = *self.accounted;
        write!(
            f,
            "; of which accounted: near cache {} MiB, queues {} MiB, large responses {} MiB",
            mib(near),
            mib(queues),
            mib(responses)
        )
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const MIB: u64 = 1 << 20;
    const LIMIT: u64 = 1000 * MIB;
    const QUEUE: usize = 64 << 20;

    /// A service whose near cache is always full, beside memory that is somebody else's.
    struct World {
        controller: Controller,
        now: Instant,
        near_bound: u64,
        other: u64,
        lines: usize,
    }

    impl World {
        fn new(near: u64) -> Self {
            Self {
                controller: Controller::new(Thresholds::default(), near, QUEUE),
                now: Instant::now(),
                near_bound: near,
                other: 0,
                lines: 0,
            }
        }

        fn tick(&mut self) -> Orders {
            self.now += Duration::from_millis(250);
            let accounted = Accounted {
                near: self.near_bound,
                ..Accounted::default()
            };
            let reading = Reading {
                used: self.other + self.near_bound,
                limit: LIMIT,
                ..Reading::default()
            };
            let (orders, _) = self.controller.step(&reading, || accounted, self.now);
            if let Some(bound) = orders.near_bound {
                self.near_bound = bound;
            }
            self.lines += usize::from(orders.notice.is_some());
            orders
        }

        fn seconds(&mut self, seconds: u32) -> Vec<Orders> {
            (0..seconds * 4).map(|_| self.tick()).collect()
        }
    }

    #[test]
    fn when_memory_is_critical_the_service_gives_back_and_refuses_then_everything_comes_back() {
        let mut world = World::new(512 * MIB);
        world.other = 400 * MIB;
        let first = world.tick();
        assert_eq!(first.level, Level::Critical);
        assert_eq!(first.near_bound, Some(256 * MIB));
        assert_eq!(first.queue_bytes, QUEUE / 4);
        assert_eq!(first.longest_body, 0, "the use was above the threshold");
        // Somebody else takes more and more.
        world.other = 900 * MIB;
        world.seconds(20);
        assert_eq!(world.near_bound, MIB);
        let last = world.tick();
        assert_eq!(
            (last.level, last.longest_body),
            (Level::Critical, u64::MAX),
            "it is not ours"
        );
        // It is over.
        world.other = 100 * MIB;
        let all = world.seconds(30);
        let last = all.last().unwrap();
        assert_eq!(
            (last.level, last.queue_bytes, last.longest_body),
            (Level::Normal, QUEUE, u64::MAX)
        );
        assert_eq!(world.near_bound, 512 * MIB);
    }

    #[test]
    fn a_body_is_refused_only_if_it_would_go_beyond_the_threshold() {
        let mut world = World::new(300 * MIB);
        world.other = 600 * MIB;
        assert_eq!(world.tick().longest_body, 0);
        // The near cache was halved: 750 of 850 MiB are used, but the level does not fall at once.
        let second = world.tick();
        assert_eq!((second.level, second.longest_body), (Level::Critical, 100 * MIB));
    }

    #[test]
    fn bodies_are_never_refused_while_the_service_has_less_than_a_tenth() {
        let mut world = World::new(99 * MIB);
        world.other = 900 * MIB;
        for orders in world.seconds(60) {
            assert_eq!((orders.level, orders.longest_body), (Level::Critical, u64::MAX));
        }
    }

    #[test]
    fn an_hour_around_the_threshold_makes_at_most_ten_lines() {
        for period in [2, 10, 30, 120] {
            let mut world = World::new(10 * MIB);
            for second in 0..3600_u32 {
                let wave = f64::from(second % period) / f64::from(period) * std::f64::consts::TAU;
                world.other = ((850.0 + 100.0 * wave.sin()) * MIB as f64) as u64;
                world.seconds(1);
            }
            assert!(
                (1..=10).contains(&world.lines),
                "{} lines, period {period} s",
                world.lines
            );
        }
    }

    #[test]
    fn the_words_have_the_parts() {
        let words = InWords {
            source: "the cgroup's memory",
            reading: &Reading {
                used: 870 * MIB,
                limit: LIMIT,
                ..Reading::default()
            },
            accounted: &Accounted {
                near: 100 * MIB,
                queues: 20 * MIB,
                responses: 3 * MIB,
            },
            resident: Some(300 * MIB),
        };
        assert_eq!(
            words.to_string(),
            "87 % of the cgroup's memory is used: 870 of 1000 MiB, 300 MiB by this process; of which accounted: near \
             cache 100 MiB, queues 20 MiB, large responses 3 MiB"
        );
    }
}
