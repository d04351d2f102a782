//! Which changes of the level are logged: pure, with the time passed in.
//!
//! Invariant: the last line always tells the current level, at most twenty minutes late, and an hour of changes makes at
//! most ten lines.

use std::time::Duration;

use tokio::time::Instant;

use super::level::Level;

/// The pause after the first line, and the longest one. Each is three times the one before, until the level has not changed
/// for [`QUIET`].
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const LONGEST_PAUSE: Duration = Duration::from_secs(1200);
const QUIET: Duration = Duration::from_secs(1800);

/// Decides which changes of the level are logged.
#[derive(Debug)]
pub(super) struct Notices {
    said: Level,
    seen: Level,
    /// The changes since the last line.
    changes: u32,
    changed: Option<Instant>,
    /// Until when nothing is logged.
    silent_until: Option<Instant>,
    pause: Duration,
}

impl Notices {
    pub(super) fn new() -> Self {
        Self {
            said: Level::Normal,
            seen: Level::Normal,
            changes: 0,
            changed: None,
            silent_until: None,
            pause: FIRST_PAUSE,
        }
    }

    /// Returns the number of changes since the last line if the level is to be logged now.
    pub(super) fn due(&mut self, level: Level, now: Instant) -> Option<u32> {
        if level != self.seen {
            if self.changed.is_none_or(|changed| now - changed >= QUIET) {
                self.pause = FIRST_PAUSE;
            }
            self.seen = level;
            self.changes += 1;
            self.changed = Some(now);
        }
        if level == self.said || self.silent_until.is_some_and(|until| now < until) {
            return None;
        }
        self.said = level;
        self.silent_until = Some(now + self.pause);
        self.pause = (self.pause * 3).min(LONGEST_PAUSE);
        Some(std::mem::take(&mut self.changes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines of an hour in which the level changes this often, and whether the last one tells the level that stays.
    fn lines(change: Duration) -> usize {
        let mut notices = Notices::new();
        let (start, tick) = (Instant::now(), Duration::from_millis(250));
        let mut lines = Vec::new();
        for n in 0..4 * 3600 {
            let now = start + tick * n;
            let level = match (now - start).as_millis() / change.as_millis() % 2 {
                0 => Level::Critical,
                _ => Level::Warning,
            };
            lines.extend(notices.due(level, now).map(|_| level));
        }
        // Then it is over.
        for n in 0..4 * 1200 {
            let now = start + Duration::from_secs(3600) + tick * n;
            lines.extend(notices.due(Level::Normal, now).map(|_| Level::Normal));
        }
        assert_eq!(lines.pop(), Some(Level::Normal));
        lines.len()
    }

    #[test]
    fn an_hour_of_changes_makes_few_lines_and_the_last_one_is_true() {
        for millis in [250, 1000, 5000, 7000, 20_000, 60_000, 600_000] {
            let lines = lines(Duration::from_millis(millis));
            assert!((3..=10).contains(&lines), "{lines} lines, one change each {millis} ms");
        }
    }

    #[test]
    fn single_changes_are_logged_at_once() {
        let mut notices = Notices::new();
        let now = Instant::now();
        assert_eq!(notices.due(Level::Normal, now), None);
        assert_eq!(notices.due(Level::Warning, now), Some(1));
        let later = now + Duration::from_secs(60);
        assert_eq!(notices.due(Level::Normal, later), Some(1));
        assert_eq!(notices.due(Level::Normal, later + QUIET), None);
        assert_eq!(notices.due(Level::Critical, later + QUIET), Some(1));
    }
}
