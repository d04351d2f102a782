//! Size notes: what a look-up returns, and the cache stores, in place of a large value.
//!
//! Invariant: a look-up that does not know a value's size never returns more than [`SMALL`](crate::response_memory::SMALL)
//! bytes. So small requests cannot make the database send, or Redis store, more than there is memory for.
//!
//! A note is cached like the value would be, and is as current. The value itself is then loaded from the database.

use bytes::Bytes;
use cenote_cache::{Read, Value};

/// The first byte of a note. No value begins with it, because it is not valid in UTF-8.
const MARK: u8 = 0xff;

/// Encodes the size of a value as a note.
fn note(size: u64) -> Bytes {
    let mut note = vec![MARK];
    note.extend(size.to_be_bytes());
    note.into()
}

/// Returns the size in a note; `None` if this is the value itself.
pub(crate) fn noted_size(value: &Value) -> Option<usize> {
    let (first, size) = value.bytes.split_first()?;
    let size = u64::from_be_bytes(size.try_into().ok()?);
    (*first == MARK).then(|| usize::try_from(size).unwrap_or(usize::MAX))
}

/// Whether a read returned only a note.
pub(crate) fn is_size_note(read: &Read) -> bool {
    read.value.as_ref().is_some_and(|value| noted_size(value).is_some())
}

/// Returns the value, or a note of its size if the row has no text.
pub(super) fn value_or_note(text: Option<&str>, version: i64, size: impl FnOnce() -> i32) -> Value {
    let bytes = match text {
        Some(text) => Bytes::copy_from_slice(text.as_bytes()),
        None => note(size().unsigned_abs().into()),
    };
    Value::new(version, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_has_the_size_and_no_text_is_mistaken_for_one() {
        let noted = |text, size| noted_size(&value_or_note(text, 1, || size));
        assert_eq!(noted(None, 1_000_000), Some(1_000_000));
        for text in ["", "x", "\u{ff}12345678", "123456789"] {
            assert_eq!(noted(Some(text), 9), None);
        }
    }
}
