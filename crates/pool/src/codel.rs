//! CoDel: when to shed the waiter at the head of a standing queue.
//!
//! Invariant: a waiter is shed only if every caller served during a whole interval had waited longer than the target. So
//! a burst that ends within the interval loses no caller.
//!
//! Source: K. Nichols, V. Jacobson, "Controlling Queue Delay", ACM Queue 10(5), 2012; the return to the former rate is
//! from RFC 8289, section 4.

use std::time::Duration;

/// The target is 5 % of the interval, the ratio that the authors recommend.
const INTERVAL_PER_TARGET: u32 = 20;

/// The control loop. Its input is the wait of the caller at the head.
pub(crate) struct Codel {
    target: Duration,
    interval: Duration,
    /// When the wait will have been above the target for a whole interval. `None` while it is below.
    ripe: Option<Duration>,
    shedding: bool,
    /// When to shed the next waiter, while shedding.
    next: Duration,
    /// The number of waiters shed since shedding began, and its value then.
    count: u32,
    began_with: u32,
}

impl Codel {
    pub(crate) fn new(target: Duration) -> Self {
        Self {
            target,
            interval: target.saturating_mul(INTERVAL_PER_TARGET),
            ripe: None,
            shedding: false,
            next: Duration::ZERO,
            count: 0,
            began_with: 0,
        }
    }

    /// The wait is below the target, or the queue was empty.
    pub(crate) fn reset(&mut self) {
        self.ripe = None;
        self.shedding = false;
    }

    /// True if the waiter at the head, which has waited for `sojourn`, is to be shed instead of served. Ask again for
    /// the waiter behind it. The last waiter is never shed.
    pub(crate) fn sheds(&mut self, sojourn: Duration, is_last: bool, now: Duration) -> bool {
        if sojourn < self.target || is_last {
            self.reset();
            return false;
        }
        let ripe = *self.ripe.get_or_insert(now.saturating_add(self.interval));
        if now < ripe || (self.shedding && now < self.next) {
            return false;
        }
        match self.shedding {
            true => {
                self.count = self.count.saturating_add(1);
                self.next = self.law(self.next);
            }
            false => {
                self.shedding = true;
                // Start at the rate that was right a moment ago, rather than from scratch.
                let reached = self.count.saturating_sub(self.began_with);
                let recent = now.saturating_sub(self.next) < self.interval.saturating_mul(16);
                self.count = if reached > 1 && recent { reached } else { 1 };
                self.began_with = self.count;
                self.next = self.law(now);
            }
        }
        true
    }

    /// The control law: the interval divided by the square root of the count.
    fn law(&self, from: Duration) -> Duration {
        from.saturating_add(self.interval.div_f64(f64::from(self.count).sqrt()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A target of 5 ms, an interval of 100 ms.
    fn codel() -> Codel {
        Codel::new(ms(5))
    }

    /// The times at which a waiter is shed, if the one at the head has waited for `sojourn` in every millisecond.
    fn shed_times(codel: &mut Codel, sojourn: u64, from: u64, to: u64) -> Vec<u64> {
        (from..to)
            .filter(|&now| codel.sheds(ms(sojourn), false, ms(now)))
            .collect()
    }

    #[test]
    fn a_burst_that_is_worked_off_within_the_interval_sheds_nobody() {
        let mut codel = codel();
        assert!(shed_times(&mut codel, 80, 0, 99).is_empty());
        assert!(!codel.sheds(ms(4), false, ms(99)));
        assert!(shed_times(&mut codel, 80, 100, 199).is_empty());
    }

    #[test]
    fn a_standing_queue_is_shed_ever_faster() {
        let times = shed_times(&mut codel(), 20, 0, 500);
        // 100 ms over the square root of 1, 2, 3 and so on after the first.
        assert_eq!(times, [100, 200, 271, 329, 379, 424, 464]);
    }

    #[test]
    fn shedding_ends_as_soon_as_a_caller_was_served_in_good_time() {
        let mut codel = codel();
        assert_eq!(shed_times(&mut codel, 20, 0, 250).len(), 2);
        assert!(!codel.sheds(ms(1), false, ms(250)));
        assert!(shed_times(&mut codel, 20, 251, 350).is_empty());
    }

    #[test]
    fn a_queue_that_stands_again_soon_is_shed_at_the_former_rate() {
        let mut codel = codel();
        assert_eq!(shed_times(&mut codel, 20, 0, 500).len(), 7);
        codel.reset();
        let again = shed_times(&mut codel, 20, 500, 700);
        // It begins with a count of 6: the next comes after 100 ms over the square root of 6.
        assert_eq!(again[..2], [600, 641]);
    }

    #[test]
    fn the_last_waiter_is_never_shed() {
        let mut codel = codel();
        assert!(!(0..10_000).any(|now| codel.sheds(ms(9_000), true, ms(now))));
    }
}
