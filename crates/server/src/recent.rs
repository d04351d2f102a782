//! The newest entries of a kind, for people who ask what happened just now.
//!
//! Invariant: at most [`CAPACITY`] entries are kept, and texts in them are cut to [`LONGEST_TEXT`] bytes, whatever happens.

use std::collections::VecDeque;
use std::fmt::{self, Display, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The number of entries.
pub const CAPACITY: usize = 50;
/// The most bytes of a text.
pub const LONGEST_TEXT: usize = 300;

/// The newest entries.
#[derive(Debug)]
pub struct Recent<T>(Mutex<VecDeque<T>>);

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(Mutex::new(VecDeque::with_capacity(CAPACITY)))
    }
}

impl<T> Recent<T> {
    /// Adds an entry, in place of the oldest if there are [`CAPACITY`].
    pub fn push(&self, entry: T) {
        let mut entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let oldest = (entries.len() >= CAPACITY).then(|| entries.pop_front()).flatten();
        entries.push_back(entry);
        drop(entries);
        drop(oldest);
    }
}

impl<T: Clone> Recent<T> {
    /// Returns the entries, the newest first.
    pub fn newest_first(&self) -> Vec<T> {
        let entries = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().rev().cloned().collect()
    }
}

/// Formats a value up to [`LONGEST_TEXT`] bytes.
pub(crate) fn text_of(value: impl Display) -> String {
    let mut text = Cut(String::new());
    // Fails when the text is full.
    let _full = write!(text, "{value}");
    text.0.shrink_to_fit();
    text.0
}

/// A text that takes no more than [`LONGEST_TEXT`] bytes.
struct Cut(String);

impl Write for Cut {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = LONGEST_TEXT - self.0.len();
        let end = part.floor_char_boundary(room);
        self.0.push_str(&part[..end]);
        match end == part.len() {
            true => Ok(()),
            false => Err(fmt::Error),
        }
    }
}

/// Returns milliseconds since 1970.
pub(crate) fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Returns whole microseconds.
pub(crate) fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hundred_thousand_different_errors_leave_fifty_short_texts() {
        let recent = Recent::default();
        for number in 0..100_000 {
            recent.push(text_of(format_args!("{number} {}", "é".repeat(1_000))));
        }
        let kept = recent.newest_first();
        assert_eq!(kept.len(), CAPACITY);
        assert!(kept[0].starts_with("99999 é"));
        assert!(kept[CAPACITY - 1].starts_with("99950 é"));
        assert!(kept.iter().all(|text| text.len() <= LONGEST_TEXT));
    }

    #[test]
    fn a_short_text_is_kept_whole() {
        assert_eq!(text_of("it broke"), "it broke");
        assert_eq!(text_of("x".repeat(LONGEST_TEXT)).len(), LONGEST_TEXT);
    }
}
