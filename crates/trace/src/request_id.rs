//! Ids of requests. Invariant: an id has at least one character, and the characters `[A-Za-z0-9._-]` alone, so it is safe
//! in any log.

use std::fmt;
use std::sync::Arc;

/// The most bytes that are kept without an allocation: those of a UUID, and some more.
const SHORT: usize = 38;

/// Which bytes an id may have.
const ALLOWED: [bool; 256] = {
    let (mut allowed, mut byte) = ([false; 256], 0);
    while byte < 256 {
        allowed[byte] = (byte as u8).is_ascii_alphanumeric() || matches!(byte as u8, b'.' | b'_' | b'-');
        byte += 1;
    }
    allowed
};

/// The id of a request.
#[derive(Clone, PartialEq, Eq)]
pub struct RequestId(Form);

#[derive(Clone, PartialEq, Eq)]
enum Form {
    /// Written as 16 hexadecimal digits.
    Number(u64),
    Short {
        length: u8,
        text: [u8; SHORT],
    },
    Long(Arc<str>),
}

impl RequestId {
    /// Returns a random id. Ids need not be secret, so the thread's fast generator is enough.
    #[must_use]
    pub fn random() -> Self {
        Self(Form::Number(fastrand::u64(..)))
    }

    /// Returns an id with this text, or `None` if a character of it is not allowed.
    #[must_use]
    pub fn from_text(text: &[u8]) -> Option<Self> {
        // Without a branch for each byte.
        let is_allowed = text.iter().fold(true, |all, byte| all & ALLOWED[usize::from(*byte)]);
        if text.is_empty() || !is_allowed {
            return None;
        }
        let mut short = [0; SHORT];
        if let Some(place) = short.get_mut(..text.len()) {
            place.copy_from_slice(text);
            let length = text.len() as u8;
            return Some(Self(Form::Short { length, text: short }));
        }
        std::str::from_utf8(text).ok().map(|text| Self(Form::Long(text.into())))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Form::Number(number) => write!(f, "{number:016x}"),
            Form::Short { length, text } => {
                let text = std::str::from_utf8(&text[..usize::from(*length)]);
                f.write_str(text.unwrap_or_default())
            }
            Form::Long(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RequestId({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_written_as_it_came() {
        for length in [1, 36, SHORT, SHORT + 1, 128] {
            let text: String = "aZ0._-".chars().cycle().take(length).collect();
            assert_eq!(RequestId::from_text(text.as_bytes()).unwrap().to_string(), text);
        }
    }

    #[test]
    fn an_id_that_a_log_could_misread_is_refused() {
        for text in ["", " ", "a b", "a\n", "\"", "ä", "a\u{1b}[0m", "a\0"] {
            assert_eq!(RequestId::from_text(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn a_random_id_has_sixteen_digits() {
        let id = RequestId::random().to_string();
        assert_eq!(id.len(), 16);
        assert!(RequestId::from_text(id.as_bytes()).is_some());
        assert_eq!(RequestId(Form::Number(10)).to_string(), "000000000000000a");
    }

    #[test]
    fn an_id_is_no_larger_than_a_header() {
        assert!(size_of::<RequestId>() <= 40);
    }
}
