//! Packed lists of byte strings: the keys of cells and the arguments of commands. Invariant: a list takes two allocations,
//! however long it is.

use std::mem::replace;

/// The key of a cell: the prefix that all cells of an epoch share, and the caller's key.
#[derive(Clone, Copy)]
pub(crate) struct CellKey<'a> {
    pub(crate) prefix: &'a str,
    pub(crate) key: &'a str,
}

impl CellKey<'_> {
    pub(crate) fn concat(self) -> Vec<u8> {
        [self.prefix.as_bytes(), self.key.as_bytes()].concat()
    }
}

/// Byte strings, one behind the other.
#[derive(Default)]
pub(crate) struct Arguments {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Arguments {
    pub(crate) fn with_capacity(count: usize, bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            ends: Vec::with_capacity(count),
        }
    }

    /// Takes all out, and leaves as much room: the next batch is probably as large.
    pub(crate) fn take(&mut self) -> Self {
        let room = Self::with_capacity(self.ends.len(), self.bytes.len());
        replace(self, room)
    }

    pub(crate) fn push(&mut self, argument: &[u8]) {
        self.bytes.extend_from_slice(argument);
        self.ends.push(self.bytes.len());
    }

    pub(crate) fn push_key(&mut self, cell: CellKey<'_>) {
        self.bytes.extend_from_slice(cell.prefix.as_bytes());
        self.push(cell.key.as_bytes());
    }

    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        let mut start = 0;
        self.ends
            .iter()
            .map(move |end| &self.bytes[replace(&mut start, *end)..*end])
    }
}
