//! Keys of tables. Invariant: two keys have the same text only if they are equal.

use std::{fmt::Display, hash::Hash, str::FromStr};

/// The key of a table: any type whose text parses back to an equal value, such as `i64`, `String`, a UUID, or a struct of your
/// own for a key of several columns.
///
/// With [`Sql`](crate::Sql) it must be a `ToSql` of the driver as well.
pub trait Key: Display + FromStr + Eq + Hash + Clone + Send + Sync + 'static {}

impl<K: Display + FromStr + Eq + Hash + Clone + Send + Sync + 'static> Key for K {}

/// Returns the text of a key if it parses back.
pub(crate) fn round_trips<K: Key>(key: &K, text: &str) -> bool {
    text.parse::<K>().is_ok_and(|parsed| parsed == *key)
}
