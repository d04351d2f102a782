//! The five scripts as functions from a cell to a cell and an answer. Invariant: on any bytes, each does what its script in
//! [`scripts`](super::scripts) does; `tests/scripts.rs` compares the two on a real Redis.
//!
//! The model explores this form. It is also the easier one to read.

use crate::protocol::cell::{Cell, ID_LENGTH, Token, WriterId};

/// A key's bytes and when they expire, in milliseconds of the server's clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// What `GET` returns.
    pub bytes: Vec<u8>,
    /// `None` for never; no script stores that.
    pub expires_at: Option<u64>,
}

/// What a key holds; `None` when there is no such key.
pub type Slot = Option<Stored>;

fn stored(bytes: Vec<u8>, milliseconds: u64, now: u64) -> Slot {
    let expires_at = Some(now + milliseconds);
    Some(Stored { bytes, expires_at })
}

/// The ids of a fence, well-formed or not.
fn writers(slot: &Slot) -> Option<&[u8]> {
    slot.as_ref()?.bytes.strip_prefix(b"F")
}

/// The ids without this one.
fn without(ids: &[u8], id: WriterId) -> Vec<u8> {
    let others: Vec<&[u8]> = ids.chunks(ID_LENGTH).filter(|other| *other != id.0).collect();
    others.concat()
}

/// [`LEASE`](super::scripts::LEASE): returns what the key held; an empty key now holds the lease.
#[must_use]
pub fn lease(slot: Slot, token: Token, milliseconds: u64, now: u64) -> (Slot, Option<Vec<u8>>) {
    match slot {
        Some(found) => {
            let bytes = found.bytes.clone();
            (Some(found), Some(bytes))
        }
        None => (stored(Cell::Lease(token).encode(), milliseconds, now), None),
    }
}

/// [`FENCE`](super::scripts::FENCE): returns the number of writers of the fence.
#[must_use]
pub fn fence(slot: Slot, id: WriterId, milliseconds: u64, now: u64) -> (Slot, u64) {
    let mut ids = Vec::new();
    let mut lasts = milliseconds;
    if let Some(present) = writers(&slot) {
        ids = without(present, id);
        let expires_at = slot.as_ref().and_then(|stored| stored.expires_at);
        lasts = lasts.max(expires_at.map_or(0, |at| at.saturating_sub(now)));
    }
    ids.extend(id.0);
    let count = ids.len().div_ceil(ID_LENGTH) as u64;
    (stored([b"F", &ids[..]].concat(), lasts, now), count)
}

/// [`RELEASE`](super::scripts::RELEASE): returns whether the writer was still in the fence.
#[must_use]
pub fn release(slot: Slot, id: WriterId) -> (Slot, bool) {
    let present = writers(&slot).unwrap_or_default();
    let others = without(present, id);
    let held = others.len() < present.len();
    let slot = match slot {
        Some(stored) if !others.is_empty() => Some(Stored {
            bytes: [b"F", &others[..]].concat(),
            ..stored
        }),
        _ => None,
    };
    (slot, held)
}

/// [`FILL`](super::scripts::FILL): returns whether `cell`, a value or an absence from the database, was stored. Without a
/// token it only removes: that seals a read that cannot be stored.
#[must_use]
pub fn fill(slot: Slot, token: Option<Token>, cell: Cell<'_>, milliseconds: u64, now: u64) -> (Slot, bool) {
    let Some(present) = &slot else {
        return (None, false);
    };
    if present.bytes.starts_with(b"F") {
        return (slot, false);
    }
    let keep = match (Cell::parse(&present.bytes), cell) {
        (Some(Cell::Lease(holder)), _) if Some(holder) == token => {
            return (stored(cell.encode(), milliseconds, now), true);
        }
        (Some(Cell::Value { version, .. }), Cell::Value { version: mine, .. }) => version >= mine,
        (Some(Cell::Absent), Cell::Absent) => true,
        _ => false,
    };
    (if keep { slot } else { None }, false)
}

/// [`INVAL`](super::scripts::INVAL): returns whether something was deleted.
#[must_use]
pub fn inval(slot: Slot) -> (Slot, bool) {
    match &slot {
        Some(stored) if !stored.bytes.starts_with(b"F") => (None, true),
        _ => (slot, false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: WriterId = WriterId([1; 16]);
    const B: WriterId = WriterId([2; 16]);
    const T: Token = Token([7; 16]);

    const fn value(version: i64) -> Cell<'static> {
        Cell::Value { version, value: b"v" }
    }

    #[test]
    fn a_lease_is_filled_once_and_by_its_holder_alone() {
        let (slot, found) = lease(None, T, 10, 0);
        assert_eq!(found, None);
        let (taken, stored) = fill(slot.clone(), Some(Token([8; 16])), value(1), 10, 0);
        assert!(!stored);
        assert_eq!(taken, None, "a lease older than what was seen is void");
        let (slot, stored) = fill(slot, Some(T), value(1), 10, 0);
        assert!(stored);
        let (again, stored) = fill(slot.clone(), Some(T), value(1), 10, 0);
        assert_eq!((again, stored), (slot, false));
    }

    #[test]
    fn a_fence_stands_until_the_last_writer_has_released() {
        let (slot, _) = fence(None, A, 10, 0);
        let (slot, count) = fence(slot, B, 5, 0);
        assert_eq!(count, 2);
        assert_eq!(slot.as_ref().unwrap().expires_at, Some(10));
        let (slot, held) = release(slot, A);
        assert!(held);
        let (slot, held) = release(slot, A);
        assert!(!held, "a repeated release takes nothing from the other writer");
        assert!(fill(slot.clone(), Some(T), value(1), 10, 0).0 == slot);
        assert_eq!(release(slot, B), (None, true));
    }

    #[test]
    fn a_seal_removes_what_may_be_older_than_what_was_seen() {
        let holding = |cell: Cell<'_>| stored(cell.encode(), 10, 0);
        for (present, seen, stays) in [
            (value(1), value(2), false),
            (value(2), value(2), true),
            (value(3), value(2), true),
            (value(9), Cell::Absent, false),
            (Cell::Absent, value(1), false),
            (Cell::Absent, Cell::Absent, true),
            (Cell::Lease(T), value(1), false),
        ] {
            let (slot, _) = fill(holding(present), None, seen, 10, 0);
            assert_eq!(slot.is_some(), stays, "{present:?} after {seen:?}");
        }
    }
}
