//! The value of a row, and its decoded form. Invariant: the decoded form was made from these bytes, or these bytes from it.

use std::{
    any::Any,
    fmt,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;

type Decoded = Arc<dyn Any + Send + Sync>;

/// The value of a row. Equal are values of the same version and bytes.
#[derive(Clone)]
pub struct Value {
    /// Grows with every write of the key and never starts again.
    pub version: i64,
    /// The value itself, possibly empty.
    pub bytes: Bytes,
    /// Room for the decoded form, which clones share.
    decoded: Option<Arc<OnceLock<Decoded>>>,
}

impl Value {
    /// Creates a value.
    #[must_use]
    pub const fn new(version: i64, bytes: Bytes) -> Self {
        Self {
            version,
            bytes,
            decoded: None,
        }
    }

    /// Creates a value together with what its bytes decode to. It is counted as if it took as much memory as they do.
    #[must_use]
    pub fn with_decoded(version: i64, bytes: Bytes, decoded: Arc<dyn Any + Send + Sync>) -> Self {
        Self {
            version,
            bytes,
            decoded: Some(Arc::new(OnceLock::from(decoded))),
        }
    }

    /// Makes room for the decoded form, if there is none.
    pub(crate) fn make_room(&mut self) {
        self.decoded.get_or_insert_default();
    }

    /// Returns the decoded form, which `decode` makes of the bytes. A value that is kept in this process keeps it, if
    /// [`Config::keeps_decoded`](crate::Config::keeps_decoded), so that `decode` is not called again. `None` if `decode`
    /// refuses, which is not kept.
    pub fn decoded<T: Any + Send + Sync>(&self, decode: impl FnOnce(&Bytes) -> Option<T>) -> Option<Arc<T>> {
        if let Some(kept) = self.decoded.as_ref().and_then(|room| room.get())
            && let Ok(kept) = kept.clone().downcast()
        {
            return Some(kept);
        }
        let decoded = Arc::new(decode(&self.bytes)?);
        if let Some(room) = &self.decoded {
            // If another reader was faster, its form stays: both came from the same bytes.
            let _ = room.set(decoded.clone());
        }
        Some(decoded)
    }

    /// The bytes that the value takes, its decoded form included.
    pub(crate) fn weight(&self) -> usize {
        let forms = 1 + usize::from(self.decoded.is_some());
        forms * self.bytes.len()
    }
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        (self.version, &self.bytes) == (other.version, &other.bytes)
    }
}

impl Eq for Value {}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Value")
            .field("version", &self.version)
            .field("bytes", &self.bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn length(bytes: &Bytes) -> Option<usize> {
        Some(bytes.len())
    }

    #[test]
    fn clones_of_a_value_with_room_are_decoded_once() {
        let mut value = Value::new(1, Bytes::from_static(b"four"));
        value.make_room();
        let kept = value.clone();
        let first = value.decoded(length).unwrap();
        let again = kept.decoded(|_| -> Option<usize> { panic!("decoded again") });
        assert!(Arc::ptr_eq(&first, &again.unwrap()));
    }

    #[test]
    fn without_room_and_after_a_refusal_it_is_decoded_each_time() {
        let value = Value::new(1, Bytes::from_static(b"four"));
        assert!(!Arc::ptr_eq(
            &value.decoded(length).unwrap(),
            &value.decoded(length).unwrap()
        ));
        let mut value = value;
        value.make_room();
        assert_eq!(value.decoded(|_| None::<usize>), None);
        assert_eq!(value.decoded(length), Some(Arc::new(4)));
    }

    #[test]
    fn the_form_of_another_type_is_not_returned() {
        let value = Value::with_decoded(1, Bytes::from_static(b"four"), Arc::new("four"));
        assert_eq!(value.decoded(length), Some(Arc::new(4)));
        assert_eq!(value.decoded(|_| None), Some(Arc::new("four")));
        assert_eq!(value.weight(), 8);
    }
}
