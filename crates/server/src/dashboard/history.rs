//! The rows of the past ten minutes. Invariant: at most [`MOST`] rows of fixed size, allocated at once: 108 KiB.

use std::collections::VecDeque;

use super::figures::Row;

/// How far back the rows go, in milliseconds.
pub(super) const SPAN: u64 = 10 * 60 * 1000;
/// Ten minutes of a row a second, with both ends.
const MOST: usize = 601;

/// The past, oldest first.
pub(super) struct History(VecDeque<Row>);

impl History {
    pub(super) fn new() -> Self {
        Self(VecDeque::with_capacity(MOST))
    }

    /// Adds a row, and drops those that are too old. A row whose time lies before that of the row before it, because the
    /// clock was set back, makes the rows before it useless: they are dropped.
    pub(super) fn push(&mut self, row: Row) {
        let now = row[0];
        if self.0.back().is_some_and(|last| last[0] > now) {
            self.0.clear();
        }
        while self.0.len() >= MOST || self.0.front().is_some_and(|first| first[0] + SPAN < now) {
            self.0.pop_front();
        }
        self.0.push_back(row);
    }

    /// Appends the rows later than `since`, in milliseconds since 1970, as JSON.
    pub(super) fn write_later(&self, since: u64, json: &mut Vec<u8>) {
        json.push(b'[');
        let begin = json.len();
        for row in self.0.iter().filter(|row| row[0] > since) {
            if json.len() > begin {
                json.push(b',');
            }
            write_row(row, json);
        }
        json.push(b']');
    }
}

/// Appends a row as JSON.
pub(super) fn write_row(row: &Row, json: &mut Vec<u8>) {
    let mut number = itoa::Buffer::new();
    for (at, value) in row.iter().enumerate() {
        json.push(if at == 0 { b'[' } else { b',' });
        json.extend_from_slice(number.format(*value).as_bytes());
    }
    json.push(b']');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(time: u64) -> Row {
        let mut row = Row::default();
        row[0] = time;
        row
    }

    fn times(history: &History, since: u64) -> Vec<u64> {
        let mut json = Vec::new();
        history.write_later(since, &mut json);
        let rows: Vec<Vec<u64>> = serde_json::from_slice(&json).unwrap();
        rows.iter().map(|row| row[0]).collect()
    }

    #[test]
    fn rows_of_the_past_ten_minutes_are_kept_and_no_more() {
        let mut history = History::new();
        let capacity = history.0.capacity();
        for time in 0..100_000 {
            history.push(row(time * 500));
        }
        let kept = times(&history, 0);
        assert_eq!((kept.len(), history.0.capacity()), (MOST, capacity));
        assert_eq!(kept.last(), Some(&49_999_500));
        assert_eq!(times(&history, 49_998_500), [49_999_000, 49_999_500]);
        // Rows that are rare.
        let mut history = History::new();
        for time in [0, 5_000, SPAN, SPAN + 1, SPAN + 5_000] {
            history.push(row(time));
        }
        assert_eq!(times(&history, 0), [5_000, SPAN, SPAN + 1, SPAN + 5_000]);
    }

    #[test]
    fn a_clock_that_is_set_back_begins_a_new_past() {
        let mut history = History::new();
        for time in [1_000, 2_000, 500] {
            history.push(row(time));
        }
        assert_eq!(times(&history, 0), [500]);
    }
}
