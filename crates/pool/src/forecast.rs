//! Predicts how long a newcomer would wait.
//!
//! Invariant: there is no forecast without evidence. The queue must have stood for a second, and some of it must have
//! been served.

use std::time::Duration;

/// The least time and the least number of served callers that give a rate.
const WINDOW: Duration = Duration::from_secs(1);
const ENOUGH: u32 = 8;

/// Measures the rate at which a standing queue moves, and predicts the wait of a newcomer.
///
/// By Little's law the wait is the number of callers ahead divided by that rate. Callers that will give up count too,
/// because nobody knows which ones will. All times are durations since the same moment, which may be any.
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
    /// Forgets all measurements: a queue forms, or moves again after a pause.
    pub fn restart(&mut self, now: Duration) {
        self.previous = None;
        self.current = Window { since: now, served: 0 };
    }

    /// Notes that `many` callers at the head were served.
    pub fn served(&mut self, many: u32, now: Duration) {
        self.current.served = self.current.served.saturating_add(many);
        if self.current.served >= ENOUGH && now >= self.current.since + WINDOW {
            self.previous = Some(self.current);
            self.current = Window { since: now, served: 0 };
        }
    }

    /// Returns how long a caller behind `ahead` others would wait, at the rate of the last two windows. `None` if the
    /// queue has not stood for long enough.
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

    /// A queue of which one caller is served every `pause` ms, up to `until` ms.
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
