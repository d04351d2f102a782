//! The rows that one statement writes. Invariant: each row has at least one write, and all writes of a row have one key.

use std::ops::Range;

/// Rows of one statement, each made of one or more writes of one key, in order.
#[derive(Debug)]
pub struct Rows<'a, W> {
    writes: &'a [&'a W],
    rows: &'a [Range<usize>],
}

impl<'a, W> Rows<'a, W> {
    pub(super) fn new(writes: &'a [&'a W], rows: &'a [Range<usize>]) -> Self {
        Self { writes, rows }
    }

    /// How many rows there are.
    #[allow(clippy::len_without_is_empty, reason = "there is always one")]
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// The writes of each row. There is at least one.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a [&'a W]> + Clone {
        let writes = self.writes;
        self.rows.iter().map(move |row| &writes[row.clone()])
    }

    /// How many writes there are in all rows.
    pub(super) fn writes(&self) -> usize {
        self.rows.iter().map(Range::len).sum()
    }
}
