//! Lists of byte strings, packed: names of cells and arguments of commands. Invariant: a list takes two pieces of memory,
//! however long it is.

use std::mem::replace;

/// The key of a cell: what all of an epoch begin with, and the caller's.
#[derive(Clone, Copy)]
pub(crate) struct Name<'a> {
    pub(crate) prefix: &'a str,
    pub(crate) key: &'a str,
}

impl Name<'_> {
    pub(crate) fn concat(self) -> Vec<u8> {
        [self.prefix.as_bytes(), self.key.as_bytes()].concat()
    }
}

/// Byte strings, one behind the other.
#[derive(Default)]
pub(crate) struct Words {
    bytes: Vec<u8>,
    ends: Vec<usize>,
}

impl Words {
    pub(crate) fn with_capacity(words: usize, bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes),
            ends: Vec::with_capacity(words),
        }
    }

    /// Takes all out, and leaves as much room.
    pub(crate) fn take(&mut self) -> Self {
        let room = Self::with_capacity(self.ends.len(), self.bytes.len());
        replace(self, room)
    }

    pub(crate) fn push(&mut self, word: &[u8]) {
        self.bytes.extend_from_slice(word);
        self.ends.push(self.bytes.len());
    }

    pub(crate) fn push_name(&mut self, name: Name<'_>) {
        self.bytes.extend_from_slice(name.prefix.as_bytes());
        self.push(name.key.as_bytes());
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
