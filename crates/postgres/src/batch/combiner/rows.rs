//! The rows that one statement writes. Invariant: each row has at least one write, and all writes of a row have one key.

use std::ops::Range;

/// The rows of one statement. Each has one or more writes of one key, in order.
#[derive(Debug)]
pub struct Rows<'a, W> {
    writes: &'a [&'a W],
    rows: &'a [Range<usize>],
}

impl<'a, W> Rows<'a, W> {
    pub(super) fn new(writes: &'a [&'a W], rows: &'a [Range<usize>]) -> Self {
        Self { writes, rows }
    }

    /// Returns the number of rows.
    #[allow(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Iterates over the writes of each row; there is at least one.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [&'a W]> + Clone {
        let writes = self.writes;
        self.rows.iter().map(move |row| &writes[row.clone()])
    }

    /// Returns the number of writes in all rows.
    pub(super) fn writes(&self) -> usize {
        self.rows.iter().map(Range::len).sum()
    }
}
