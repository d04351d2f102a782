//! Which writes share a row, and which rows share a statement. Invariant: the rows of one statement have different keys
//! and are sorted by them; the writes of one key stay in the order in which they came.

use std::ops::Range;

use super::{combine::Combine, rows::Rows};

/// The order in which the writes of a batch are made.
pub(super) struct Plan<'a, W> {
    /// The writes, sorted by key.
    writes: Vec<&'a W>,
    /// For each of `writes`: the index of its call.
    pub(super) order: Vec<usize>,
    /// For each of `writes`: the index of the first with the same key.
    firsts: Vec<usize>,
    /// Rows, as ranges of `writes`. Each round is a statement; rounds follow one another.
    pub(super) rounds: Vec<Vec<Range<usize>>>,
}

impl<'a, W> Plan<'a, W> {
    pub(super) fn new<C: Combine<Write = W>>(combine: &C, calls: &'a [W]) -> Self {
        let mut order: Vec<usize> = (0..calls.len()).collect();
        // The sort is stable: writes of one key stay in the order of submission.
        order.sort_by(|&a, &b| combine.key(&calls[a]).cmp(combine.key(&calls[b])));
        let writes: Vec<&W> = order.iter().map(|&call| &calls[call]).collect();
        let mut firsts = Vec::with_capacity(writes.len());
        let mut rounds: Vec<Vec<Range<usize>>> = vec![Vec::with_capacity(writes.len())];
        let (mut start, mut round) = (0, 0);
        for (at, &write) in writes.iter().enumerate() {
            let same_key = at > 0 && combine.key(writes[at - 1]) == combine.key(write);
            firsts.push(match same_key {
                true => firsts[at - 1],
                false => at,
            });
            if at == 0 || same_key && combine.folds(&writes[start..at], write) {
                continue;
            }
            add(&mut rounds, round, start..at);
            start = at;
            round = if same_key { round + 1 } else { 0 };
        }
        if !writes.is_empty() {
            add(&mut rounds, round, start..writes.len());
        }
        Self {
            writes,
            order,
            firsts,
            rounds,
        }
    }

    /// Returns these rows for a statement.
    pub(super) fn rows<'r>(&'r self, rows: &'r [Range<usize>]) -> Rows<'r, W> {
        Rows::new(&self.writes, rows)
    }

    /// Splits a row into several, which are to be made one after the other.
    pub(super) fn split<C: Combine<Write = W>>(&self, combine: &C, row: &Range<usize>) -> Vec<Range<usize>> {
        let middle = row.start + row.len() / 2;
        let mut rows = Vec::with_capacity(2);
        rows.push(row.start..middle);
        let mut start = middle;
        for at in middle + 1..row.end {
            if !combine.folds(&self.writes[start..at], self.writes[at]) {
                rows.push(start..at);
                start = at;
            }
        }
        rows.push(start..row.end);
        rows
    }

    /// Returns a number for the key of a row: the same for all rows of one key.
    pub(super) fn first_of_key(&self, row: &Range<usize>) -> usize {
        self.firsts[row.start]
    }
}

fn add(rounds: &mut Vec<Vec<Range<usize>>>, round: usize, row: Range<usize>) {
    if rounds.len() == round {
        rounds.push(Vec::new());
    }
    rounds[round].push(row);
}
