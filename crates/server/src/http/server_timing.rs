//! The response header `Server-Timing`: where the time of one request went.
//!
//! Invariant: a request that is not measured has no [`Timings`], so measuring costs it a look at a `None`.

use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::http::{HeaderName, HeaderValue};
use tokio::time::Instant;

/// The name of the header.
pub(in crate::http) static SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// What the time of a request is spent on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Checking credentials.
    Auth,
    /// Judging rate limits.
    Limit,
    /// Waiting for memory for a large response.
    Wait,
    /// A look-up that a cache answered.
    Cache,
    /// A look-up or a change that the database answered, with the wait for a connection.
    Db,
}

/// In the order of the header.
const STAGES: [(Stage, &str); 5] = [
    (Stage::Auth, "auth"),
    (Stage::Limit, "limit"),
    (Stage::Wait, "wait"),
    (Stage::Cache, "cache"),
    (Stage::Db, "db"),
];

/// The times of one request. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Timings(Arc<[AtomicU64; STAGES.len()]>);

impl Timings {
    /// Adds time to a stage.
    pub fn add(&self, stage: Stage, time: Duration) {
        // At least a microsecond, so that a stage that was entered is in the header.
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX).max(1);
        self.0[stage as usize].fetch_add(micros, Relaxed);
    }

    /// Returns the value of the header: milliseconds for each stage that the request entered, and `total`.
    pub(in crate::http) fn header(&self, total: Duration) -> Option<HeaderValue> {
        let mut text = String::with_capacity(64);
        for (stage, name) in STAGES {
            let micros = self.0[stage as usize].load(Relaxed);
            if micros > 0 {
                // Cannot fail: memory accepts every write.
                let _never = write!(text, "{name};dur={}.{:03}, ", micros / 1000, micros % 1000);
            }
        }
        let total = u64::try_from(total.as_micros()).unwrap_or(u64::MAX);
        let _never = write!(text, "total;dur={}.{:03}", total / 1000, total % 1000);
        HeaderValue::try_from(text).ok()
    }
}

/// Measures from now on, if the request is measured.
#[derive(Debug)]
pub struct Stopwatch<'a>(Option<(&'a Timings, Instant)>);

impl<'a> Stopwatch<'a> {
    /// Starts. Costs nothing without `timings`.
    pub fn start(timings: Option<&'a Timings>) -> Self {
        Self(timings.map(|timings| (timings, Instant::now())))
    }

    /// Adds the time since the start to a stage.
    pub fn stop(self, stage: Stage) {
        if let Some((timings, started)) = self.0 {
            timings.add(stage, started.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_has_the_stages_that_were_entered_and_the_total() {
        let timings = Timings::default();
        let handler = timings.clone();
        handler.add(Stage::Db, Duration::from_micros(1_200));
        handler.add(Stage::Db, Duration::from_micros(300));
        timings.add(Stage::Auth, Duration::from_nanos(10));
        let header = timings.header(Duration::from_micros(2_041)).unwrap();
        assert_eq!(header, "auth;dur=0.001, db;dur=1.500, total;dur=2.041");
    }

    #[test]
    fn the_order_of_the_stages_is_that_of_their_places() {
        for (place, (stage, _)) in STAGES.iter().enumerate() {
            assert_eq!(*stage as usize, place);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stopwatch_adds_its_time_to_the_stage() {
        let timings = Timings::default();
        let watch = Stopwatch::start(Some(&timings));
        tokio::time::advance(Duration::from_millis(3)).await;
        watch.stop(Stage::Cache);
        Stopwatch::start(None).stop(Stage::Db);
        let header = timings.header(Duration::ZERO).unwrap();
        assert_eq!(header, "cache;dur=3.000, total;dur=0.000");
    }
}
