//! The header `Date`, formatted once a second.
//!
//! Invariant: it is at most a second behind the system's clock, even after that clock was set back: the monotonic clock
//! decides when to read the system's again.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::http::HeaderValue;
use httpdate::HttpDate;
use tokio::time::Instant;

/// The first second whose year has five digits (10000-01-01), which the format cannot express.
const YEAR_10000: u64 = 253_402_300_800;

thread_local!(static DATE: RefCell<Date> = const { RefCell::new(Date(None)) });

/// Returns the value for this time; `None` if the system's clock shows a time that the format cannot express.
pub(super) fn at(now: Instant) -> Option<HeaderValue> {
    DATE.with_borrow_mut(|date| date.at(now, SystemTime::now))
}

/// The last value, and until when it is valid.
struct Date(Option<(Instant, Option<HeaderValue>)>);

impl Date {
    fn at(&mut self, now: Instant, system: impl FnOnce() -> SystemTime) -> Option<HeaderValue> {
        match &self.0 {
            Some((until, value)) if now < *until => value.clone(),
            _ => {
                let system = system();
                let since = system.duration_since(UNIX_EPOCH).unwrap_or_default();
                let rest = Duration::from_secs(1) - Duration::from_nanos(since.subsec_nanos().into());
                let value = (1..YEAR_10000)
                    .contains(&since.as_secs())
                    .then(|| render(system))
                    .flatten();
                self.0 = Some((now + rest, value.clone()));
                value
            }
        }
    }
}

fn render(time: SystemTime) -> Option<HeaderValue> {
    HeaderValue::try_from(HttpDate::from(time).to_string()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Duration = Duration::from_secs(784_123_200);
    const HOUR: Duration = Duration::from_secs(3600);

    /// Returns the header some seconds after `start`, when the system's clock shows `shows` since 1970.
    fn sent(date: &mut Date, start: Instant, seconds: f64, shows: Duration) -> String {
        let now = start + Duration::from_secs_f64(seconds);
        let value = date.at(now, || UNIX_EPOCH + shows);
        value.map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
    }

    #[test]
    fn the_date_follows_the_clock_within_a_second_even_when_it_is_set_back() {
        let (mut date, start) = (Date(None), Instant::now());
        let half = Duration::from_millis(500);
        assert_eq!(
            sent(&mut date, start, 0.0, NOON + half),
            "Sun, 06 Nov 1994 12:00:00 GMT"
        );
        assert_eq!(
            sent(&mut date, start, 0.4, NOON),
            "Sun, 06 Nov 1994 12:00:00 GMT",
            "not asked"
        );
        assert_eq!(
            sent(&mut date, start, 0.5, NOON + half * 2),
            "Sun, 06 Nov 1994 12:00:01 GMT"
        );
        assert_eq!(
            sent(&mut date, start, 1.5, NOON - HOUR),
            "Sun, 06 Nov 1994 11:00:00 GMT"
        );
        assert_eq!(
            sent(&mut date, start, 2.5, NOON + HOUR),
            "Sun, 06 Nov 1994 13:00:00 GMT"
        );
    }

    #[test]
    fn a_clock_outside_the_format_gives_no_header_and_no_panic() {
        let (mut date, start) = (Date(None), Instant::now());
        assert_eq!(sent(&mut date, start, 0.0, Duration::ZERO), "");
        assert_eq!(sent(&mut date, start, 1.0, Duration::from_secs(YEAR_10000)), "");
        assert_eq!(sent(&mut date, start, 2.0, NOON), "Sun, 06 Nov 1994 12:00:00 GMT");
    }
}
