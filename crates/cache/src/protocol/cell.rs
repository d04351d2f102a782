//! The content of a key in Redis, and its bytes. Invariant: an encoded cell parses to itself, and other bytes parse to nothing,
//! which readers treat as a miss.
//!
//! | Cell | Bytes |
//! |---|---|
//! | value | `V`, version as 8 bytes, big-endian, the value |
//! | absent | `N` |
//! | lease | `L`, 16-byte token |
//! | fence | `F`, 16-byte ids of one or more writers |

/// The bytes of a [`Token`] and of a [`WriterId`].
pub const ID_LENGTH: usize = 16;

/// The name of a lease. Unique, so that a token fits no other lease of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Token(pub [u8; ID_LENGTH]);

/// The name of a write. Unique, so that a repeated fence or release has no effect on other writers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WriterId(pub [u8; ID_LENGTH]);

/// The content of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell<'a> {
    /// The row's value.
    Value {
        /// Grows with every write of the key.
        version: i64,
        /// The value itself, possibly empty.
        value: &'a [u8],
    },
    /// The row is known not to exist. It carries no version: a key that was never written has none.
    Absent,
    /// A reader loads the value. Only the holder of the token may store it.
    Lease(Token),
    /// Writers are at work: nothing may be stored until all have released.
    Fence(Writers<'a>),
}

/// The ids in a fence, at least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Writers<'a>(&'a [[u8; ID_LENGTH]]);

impl<'a> Cell<'a> {
    /// Parses the bytes of a key. `None` if they are not a cell.
    #[must_use]
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (kind, rest) = bytes.split_first()?;
        match kind {
            b'V' => {
                let (version, value) = rest.split_first_chunk()?;
                let version = i64::from_be_bytes(*version);
                Some(Self::Value { version, value })
            }
            b'N' if rest.is_empty() => Some(Self::Absent),
            b'L' => Some(Self::Lease(Token(rest.try_into().ok()?))),
            b'F' => match rest.as_chunks() {
                (ids, []) if !ids.is_empty() => Some(Self::Fence(Writers(ids))),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns the bytes to store.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Value { version, value } => [b"V", &version.to_be_bytes()[..], value].concat(),
            Self::Absent => b"N".to_vec(),
            Self::Lease(token) => [b"L", &token.0[..]].concat(),
            Self::Fence(writers) => [b"F", writers.0.as_flattened()].concat(),
        }
    }
}

impl<'a> Writers<'a> {
    /// `None` without ids: a fence always has a writer.
    #[must_use]
    pub fn new(ids: &'a [[u8; ID_LENGTH]]) -> Option<Self> {
        (!ids.is_empty()).then_some(Self(ids))
    }

    /// Returns the writers, in the order in which they came.
    pub fn iter(&self) -> impl Iterator<Item = WriterId> + '_ {
        self.0.iter().copied().map(WriterId)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_encoded_parses_to_itself(
            version: i64,
            value: Vec<u8>,
            ids in prop::collection::vec(any::<[u8; ID_LENGTH]>(), 1..5),
        ) {
            let cells = [
                Cell::Value { version, value: &value },
                Cell::Absent,
                Cell::Lease(Token(ids[0])),
                Cell::Fence(Writers::new(&ids).unwrap()),
            ];
            for cell in cells {
                let bytes = cell.encode();
                prop_assert_eq!(Cell::parse(&bytes), Some(cell));
            }
        }

        #[test]
        fn bytes_parse_to_the_one_cell_that_encodes_to_them(
            kind in prop::sample::select(b"VNLFx".to_vec()),
            rest in prop::collection::vec(any::<u8>(), 0..50),
        ) {
            let bytes = [&[kind][..], &rest].concat();
            if let Some(cell) = Cell::parse(&bytes) {
                prop_assert_eq!(cell.encode(), bytes);
            }
        }
    }

    #[test]
    fn bytes_that_are_not_a_cell_do_not_parse() {
        let too_short = [b'V'; 8];
        let cut_off = [&b"F"[..], &[7; 31]].concat();
        for bytes in [&b""[..], b"N ", b"L", b"L123", b"F", b"42", &too_short, &cut_off] {
            assert_eq!(Cell::parse(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn a_fence_names_its_writers_in_order() {
        let bytes = [&b"F"[..], &[1; 16], &[2; 16]].concat();
        let Some(Cell::Fence(writers)) = Cell::parse(&bytes) else {
            panic!("not a fence");
        };
        let ids: Vec<_> = writers.iter().collect();
        assert_eq!(ids, [WriterId([1; 16]), WriterId([2; 16])]);
    }
}
