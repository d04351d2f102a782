//! The arithmetic of a limit: the generic cell rate algorithm (ITU-T I.371), without state and without a clock.
//!
//! A bucket is one number, the *theoretical arrival time* (TAT): the time at which the caller has its whole burst again.
//! Each admitted request moves it on by the interval; a request is admitted if it then lies no further ahead of now than
//! the tolerance, which is the burst times the interval.
//!
//! Invariant: whatever the times, in any span of time `w` at most `burst + w / interval` requests are admitted. A `now` that
//! lies before that of an earlier request only refuses more.

/// A limit in nanoseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Rate {
    pub(super) interval: u64,
    /// The burst times the interval.
    pub(super) tolerance: u64,
}

impl Rate {
    pub(super) fn new(interval: u64, burst: u32) -> Self {
        let tolerance = interval.saturating_mul(u64::from(burst));
        Self { interval, tolerance }
    }

    /// The limit of one of several instances that do not know of each other: together they admit the quota in the long
    /// run, and each its part of the burst at once, one request at least.
    pub(super) fn share(self, instances: u32) -> Self {
        let interval = self.interval.saturating_mul(instances.into());
        let tolerance = self.tolerance.max(interval);
        Self { interval, tolerance }
    }

    /// Whether one more request is admitted when the TAT lies this far ahead of now. It then moves on by the interval.
    pub(super) fn admits(self, ahead: u64) -> bool {
        ahead.saturating_add(self.interval) <= self.tolerance
    }

    /// How many requests would be admitted at once.
    pub(super) fn remaining(self, ahead: u64) -> u64 {
        self.tolerance.saturating_sub(ahead) / self.interval
    }

    /// Nanoseconds until one more request than now would be admitted. Zero if all of the burst is there.
    pub(super) fn until_more(self, ahead: u64) -> u64 {
        match ahead.saturating_sub(self.tolerance) {
            _ if ahead == 0 => 0,
            // The tolerance is a multiple of the interval.
            0 => match ahead % self.interval {
                0 => self.interval,
                rest => rest,
            },
            excess => excess.saturating_add(self.interval),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;
    use std::time::Duration;

    use governor::clock::FakeRelativeClock;
    use governor::{Quota, RateLimiter};
    use proptest::prelude::*;

    use super::*;

    /// Returns the TAT after one more request, if it is admitted.
    fn admit(rate: Rate, tat: u64, now: u64) -> Option<u64> {
        let ahead = tat.saturating_sub(now);
        rate.admits(ahead).then_some(now + ahead + rate.interval)
    }

    proptest! {
        #[test]
        fn it_decides_as_governor_does(
            interval in 1..2_000_000_000_u64,
            burst in 1..50_u32,
            pauses in proptest::collection::vec(0..4_000_000_000_u64, 1..200),
        ) {
            let clock = FakeRelativeClock::default();
            let quota = Quota::with_period(Duration::from_nanos(interval)).unwrap();
            let oracle = RateLimiter::direct_with_clock(quota.allow_burst(NonZeroU32::new(burst).unwrap()), clock.clone());
            let rate = Rate::new(interval, burst);
            let (mut now, mut tat) = (0, 0);
            for pause in pauses {
                // Many short pauses, so that the limit is reached.
                let pause = if pause % 3 == 0 { pause } else { pause % interval };
                now += pause;
                clock.advance(Duration::from_nanos(pause));
                let ours = admit(rate, tat, now);
                prop_assert_eq!(ours.is_some(), oracle.check().is_ok(), "at {}", now);
                tat = ours.unwrap_or(tat);
            }
        }

        #[test]
        fn the_times_that_are_told_are_true(interval in 1..1_000_u64, burst in 1..20_u32, ahead in 0..40_000_u64) {
            let rate = Rate::new(interval, burst);
            let remaining = rate.remaining(ahead);
            let mut tat = ahead;
            for _ in 0..remaining {
                tat = admit(rate, tat, 0).unwrap();
            }
            prop_assert_eq!(admit(rate, tat, 0), None);
            let wait = rate.until_more(ahead);
            if remaining < u64::from(burst) || ahead > 0 {
                prop_assert!(rate.remaining(ahead.saturating_sub(wait)) > remaining);
                prop_assert_eq!(rate.remaining(ahead.saturating_sub(wait - 1)), remaining);
            } else {
                prop_assert_eq!(wait, 0);
            }
        }

        #[test]
        fn in_any_window_at_most_quota_and_burst_are_admitted_and_the_quota_in_the_long_run(
            quota in 1..40_u64,
            burst in 1..40_u32,
            pauses in proptest::collection::vec(0..300_u64, 2_000),
        ) {
            const WINDOW: u64 = 10_000;
            let rate = Rate::new(WINDOW.div_ceil(quota), burst);
            let (mut now, mut tat) = (0, 0);
            let mut admitted = Vec::new();
            for pause in pauses {
                now += pause % (2 * rate.interval).min(100);
                if let Some(later) = admit(rate, tat, now) {
                    tat = later;
                    admitted.push(now);
                }
            }
            for (at, first) in admitted.iter().enumerate() {
                let within = admitted[at..].iter().take_while(|time| **time <= first + WINDOW).count();
                prop_assert!(within as u64 <= quota + u64::from(burst));
            }
        }

        #[test]
        fn under_constant_overload_the_long_run_rate_is_the_quota(quota in 1..200_u64, burst in 1..100_u32) {
            const WINDOW: u64 = 60_000_000_000;
            let rate = Rate::new(WINDOW.div_ceil(quota), burst);
            let (mut tat, mut admitted) = (0, 0);
            // A caller that tries more rarely than this is late by up to a step for each request.
            let step = rate.interval / 100;
            let windows = 10;
            let mut now = 0;
            while now < windows * WINDOW {
                if let Some(later) = admit(rate, tat, now) {
                    tat = later;
                    admitted += 1;
                }
                now += step;
            }
            let (least, most) = (quota * windows * 98 / 100, quota * windows * 102 / 100 + u64::from(burst));
            prop_assert!((least..=most).contains(&admitted), "{admitted} of {}", quota * windows);
        }
    }
}
