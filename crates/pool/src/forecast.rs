//! How long a newcomer would stand in line. Invariant: no forecast without evidence, which is a line
//! that has not been empty for a second and of which a few were served.

use std::time::Duration;

/// A rate is measured over so long and so many at least.
const WINDOW: Duration = Duration::from_secs(1);
const ENOUGH: u32 = 8;

/// Measures the rate at which a line moves while it stands, and tells how long a newcomer would wait.
///
/// By Little's law the wait is the number of those ahead over that rate. Those who will give up are
/// counted as ahead all the same: what they do is not known. Times are since any fixed moment.
#[derive(Debug, Default)]
pub struct Forecast {
    current: Window,
    previous: Option<Window>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Window {
    since: Duration,
    served: u32,
}

impl Forecast {
    /// A line forms, or moves again after a pause: whatever was measured before is void.
    pub fn restart(&mut self, now: Duration) {
        self.previous = None;
        self.current = Window { since: now, served: 0 };
    }

    /// So many at the head of the line were served.
    pub fn served(&mut self, many: u32, now: Duration) {
        self.current.served = self.current.served.saturating_add(many);
        if self.current.served >= ENOUGH && now >= self.current.since + WINDOW {
            self.previous = Some(self.current);
            self.current = Window { since: now, served: 0 };
        }
    }

    /// When a caller behind so many others would be served, at the rate of the last two windows. `None` if the line has
    /// not stood for long enough to tell.
    pub fn wait_behind(&self, ahead: u32, now: Duration) -> Option<Duration> {
        let previous = self.previous?;
        let took = now.saturating_sub(previous.since);
        let served = previous.served.saturating_add(self.current.served);
        Some(took.saturating_mul(ahead.saturating_add(1)) / served)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    /// A line of which one is served every `pause` ms, for so long.
    fn measured(pause: u64, until: u64) -> Forecast {
        let mut forecast = Forecast::default();
        forecast.restart(ms(0));
        for now in (pause..=until).step_by(pause as usize) {
            forecast.served(1, ms(now));
        }
        forecast
    }

    #[test]
    fn the_wait_is_the_number_of_those_ahead_over_the_rate() {
        let forecast = measured(10, 1_500);
        assert_eq!(forecast.wait_behind(0, ms(1_500)), Some(ms(10)));
        assert_eq!(forecast.wait_behind(99, ms(1_500)), Some(ms(1_000)));
    }

    #[test]
    fn a_queue_that_has_stood_for_a_moment_only_gives_no_forecast() {
        assert_eq!(measured(10, 990).wait_behind(1_000, ms(990)), None);
    }

    #[test]
    fn a_few_hand_overs_give_no_forecast() {
        assert_eq!(measured(2_000, 14_000).wait_behind(10, ms(14_000)), None);
        let slow = measured(2_000, 16_000);
        assert_eq!(slow.wait_behind(4, ms(16_000)), Some(ms(10_000)));
    }

    #[test]
    fn a_queue_that_stops_moving_lengthens_the_wait() {
        let forecast = measured(10, 1_000);
        assert_eq!(forecast.wait_behind(0, ms(1_000)), Some(ms(10)));
        assert_eq!(forecast.wait_behind(0, ms(10_000)), Some(ms(100)));
    }

    #[test]
    fn a_queue_that_was_empty_in_between_is_measured_anew() {
        let mut forecast = measured(10, 2_000);
        forecast.restart(ms(2_000));
        assert_eq!(forecast.wait_behind(1_000, ms(2_000)), None);
    }
}
