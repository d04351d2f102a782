//! Values that are too large to be loaded together with others, or cached. Invariant: what is looked up without knowing
//! its size is never longer than [`SMALL`](crate::memory::SMALL); of a larger value only a note is looked up, which has its size.
//!
//! So small requests cannot make the database send, or Redis keep, more than there is memory for. The note is cached
//! as the value would be, and is as current; the value itself then comes from the database.

use bytes::Bytes;
use cenote_cache::{origin::Value, read::Read};
use cenote_postgres::{Error, tokio_postgres::Row};

use super::Store;

/// Begins a note. No text does: it is not UTF-8.
const NOTE: u8 = 0xff;

/// Values that were found to be large, if they still have the size that there is room for; about the bounds see the query
/// for keys.
pub(super) const LARGE: &str = "SELECT wanted.position, CASE WHEN octet_length(kv.value) <= wanted.size THEN kv.value END, \
     kv.version, octet_length(kv.value) \
     FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS wanted (key, size, position) \
     JOIN {schema}.kv ON kv.key = wanted.key COLLATE \"C\" \
     WHERE wanted.position BETWEEN 1 AND 1000000000 AND kv.value IS NOT NULL";

/// A note of a value with this number of bytes.
fn note(size: u64) -> Bytes {
    let mut note = vec![NOTE];
    note.extend(size.to_be_bytes());
    note.into()
}

/// The size of the value that this is a note of; `None` if it is the value itself.
pub(crate) fn noted_size(value: &Value) -> Option<usize> {
    let (first, size) = value.bytes.split_first()?;
    let size = u64::from_be_bytes(size.try_into().ok()?);
    (*first == NOTE).then(|| usize::try_from(size).unwrap_or(usize::MAX))
}

/// A value, or a note of it where the row has only its size.
pub(super) fn value_or_note(text: Option<&str>, version: i64, size: impl FnOnce() -> i32) -> Value {
    let bytes = match text {
        Some(text) => Bytes::copy_from_slice(text.as_bytes()),
        None => note(size().unsigned_abs().into()),
    };
    Value { version, bytes }
}

impl Store {
    /// Reads large values from the database: each that has not grown beyond the size that there is room for, and a note of
    /// one that has.
    pub(crate) async fn read_large(&self, wanted: &[(&str, usize)]) -> Result<Vec<Read>, Error> {
        let (keys, sizes): (Vec<&str>, Vec<i64>) = wanted
            .iter()
            .map(|(key, size)| (*key, i64::try_from(*size).unwrap_or(i64::MAX)))
            .unzip();
        let (pool, large) = (&self.pool, &self.statements.large);
        let rows = pool
            .retry_idempotent(|| async { pool.get().await?.query(large, &[&keys, &sizes]).await })
            .await?;
        let mut values = vec![None; wanted.len()];
        for row in rows {
            let position: i64 = row.get(0);
            let place = usize::try_from(position - 1).ok();
            if let Some(place) = place.and_then(|place| values.get_mut(place)) {
                *place = Some(value_of(&row));
            }
        }
        Ok(values.into_iter().map(super::keys::uncached).collect())
    }
}

fn value_of(row: &Row) -> Value {
    value_or_note(row.get(1), row.get(2), || row.get(3))
}

/// Whether a read brought no more than a note.
pub(crate) fn is_note(read: &Read) -> bool {
    read.value.as_ref().is_some_and(|value| noted_size(value).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_tells_the_size_and_no_text_is_taken_for_one() {
        let noted = |text, size| noted_size(&value_or_note(text, 1, || size));
        assert_eq!(noted(None, 1_000_000), Some(1_000_000));
        for text in ["", "x", "\u{ff}12345678", "123456789"] {
            assert_eq!(noted(Some(text), 9), None);
        }
    }
}
