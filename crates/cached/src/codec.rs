//! Values to bytes and back. Invariant: bytes that a codec does not know are a miss, never an error.

use bytes::Bytes;

/// Turns values to the bytes that Redis keeps, and back.
pub trait Codec<V>: Send + Sync + 'static {
    /// Returns the bytes of a value. `None` if it cannot be encoded: then only this process can keep it.
    fn encode(&self, value: &V) -> Option<Bytes>;

    /// Returns the value of bytes. `None` if they are of another form, such as that of an earlier version of the program:
    /// then the row is read from the database.
    fn decode(&self, bytes: &Bytes) -> Option<V>;
}

/// Keeps values as JSON, by serde.
///
/// A program of an earlier version may have written the bytes: a type that has gained a field does not decode from them, and
/// the row is read from the database until the old bytes expire. If a change keeps the form but not the meaning, give the
/// table another name.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

impl<V: serde::Serialize + serde::de::DeserializeOwned> Codec<V> for Json {
    fn encode(&self, value: &V) -> Option<Bytes> {
        serde_json::to_vec(value).ok().map(Bytes::from)
    }

    fn decode(&self, bytes: &Bytes) -> Option<V> {
        serde_json::from_slice(bytes).ok()
    }
}
