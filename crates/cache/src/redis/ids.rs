//! Creates tokens and writer ids. Invariant: no two are equal, in this process or any other: the first half is random, drawn
//! when the cache is created, and the second half counts.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::protocol::cell::{ID_LENGTH, Token, WriterId};

pub(crate) struct Ids {
    instance: u64,
    /// Relaxed: only uniqueness matters, not order.
    next: AtomicU64,
}

impl Ids {
    pub(crate) fn new() -> Self {
        Self {
            instance: RandomState::new().hash_one("instance"),
            next: AtomicU64::new(0),
        }
    }

    /// The random half, which identifies this instance.
    pub(crate) fn instance(&self) -> u64 {
        self.instance
    }

    pub(crate) fn token(&self) -> Token {
        Token(self.next())
    }

    pub(crate) fn writer(&self) -> WriterId {
        WriterId(self.next())
    }

    fn next(&self) -> [u8; ID_LENGTH] {
        let next = self.next.fetch_add(1, Relaxed);
        (u128::from(self.instance) << 64 | u128::from(next)).to_be_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_ids_are_equal() {
        let (one, other) = (Ids::new(), Ids::new());
        let mut made: Vec<_> = [&one, &other, &one, &other].iter().map(|ids| ids.next()).collect();
        made.sort_unstable();
        made.dedup();
        assert_eq!(made.len(), 4);
    }
}
