//! The text of an API key: `cnk_`, 30 random base62 characters (178 bits) and six of their CRC-32.
//!
//! Invariant: an [`ApiKey`] has the right prefix, length, alphabet and checksum, so that nobody is asked about other texts. The
//! checksum finds typing errors and garbage; it is no proof of anything.

use cenote_secret::Secret;
use ring::{error::Unspecified, rand::SecureRandom};

/// Every key starts with it, so that scanners of source code find lost keys.
pub(crate) const PREFIX: &str = "cnk_";
/// The number of random characters.
const RANDOM: usize = 30;
const CHECKSUM: usize = 6;
/// Characters of a key.
const LENGTH: usize = PREFIX.len() + RANDOM + CHECKSUM;
/// Where the checksum begins.
const BODY_END: usize = PREFIX.len() + RANDOM;
const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// The largest multiple of 62 in a byte. Larger bytes are drawn again, so that every character is equally likely.
const UNBIASED: u8 = 62 * 4;
/// Characters of a key in its hint: too few to help anybody guess the rest.
const HINT: usize = PREFIX.len() + 2;

/// A well-formed key. Whether it is valid, only the database knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ApiKey(Secret<[u8; LENGTH]>);

/// A text that may be a key: its prefix and length are right. To look a known key up takes no more, and costs less than
/// the rest of the check.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyText<'a>(&'a [u8; LENGTH]);

/// Why a text is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidKey {
    /// The prefix, the length or a character is wrong.
    #[error("an API key is cnk_ and 36 letters and digits")]
    Malformed,
    /// A character was changed, added or lost.
    #[error("the checksum of the API key is wrong: it was not copied completely")]
    Checksum,
}

impl ApiKey {
    /// Creates a new key.
    ///
    /// # Errors
    ///
    /// The system has no random numbers.
    pub(crate) fn generate(random: &dyn SecureRandom) -> Result<Self, Unspecified> {
        let mut key = [0; LENGTH];
        key[..PREFIX.len()].copy_from_slice(PREFIX.as_bytes());
        let mut at = PREFIX.len();
        while at < BODY_END {
            let mut drawn = [0; 2 * RANDOM];
            random.fill(&mut drawn)?;
            for byte in drawn.into_iter().filter(|byte| *byte < UNBIASED) {
                if at < BODY_END {
                    key[at] = ALPHABET[usize::from(byte % 62)];
                    at += 1;
                }
            }
        }
        let checksum = checksum(&key[PREFIX.len()..BODY_END]);
        key[BODY_END..].copy_from_slice(&checksum);
        Ok(Self(Secret::new(key)))
    }

    /// Checks prefix, length, alphabet and checksum.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, InvalidKey> {
        KeyText::new(text)?.check()
    }

    /// The key's text. Show it once, to the person who created it.
    pub(crate) fn expose(&self) -> &str {
        // All characters are ASCII.
        std::str::from_utf8(self.0.expose()).unwrap_or_default()
    }

    /// The text, to look the key up.
    pub(crate) fn text(&self) -> KeyText<'_> {
        KeyText(self.0.expose())
    }

    /// The first characters, by which people recognize a key in a list.
    pub(crate) fn hint(&self) -> &str {
        &self.expose()[..HINT]
    }
}

impl<'a> KeyText<'a> {
    /// Checks prefix and length.
    pub(crate) fn new(text: &'a [u8]) -> Result<Self, InvalidKey> {
        let text = <&[u8; LENGTH]>::try_from(text).map_err(|_| InvalidKey::Malformed)?;
        match text.starts_with(PREFIX.as_bytes()) {
            true => Ok(Self(text)),
            false => Err(InvalidKey::Malformed),
        }
    }

    /// Checks alphabet and checksum.
    pub(crate) fn check(self) -> Result<ApiKey, InvalidKey> {
        let (random, sum) = self.0[PREFIX.len()..].split_at(RANDOM);
        if !self.0[PREFIX.len()..].iter().all(u8::is_ascii_alphanumeric) {
            return Err(InvalidKey::Malformed);
        }
        match sum == checksum(random) {
            true => Ok(ApiKey(Secret::new(*self.0))),
            false => Err(InvalidKey::Checksum),
        }
    }

    /// The text. Not to be shown.
    pub(crate) fn expose(self) -> &'a [u8] {
        self.0
    }
}

/// It may be a key.
impl std::fmt::Debug for KeyText<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyText")
    }
}

/// The CRC-32 in base62, with leading zeros.
fn checksum(body: &[u8]) -> [u8; CHECKSUM] {
    let mut rest = crc32fast::hash(body);
    let mut text = [0; CHECKSUM];
    for character in text.iter_mut().rev() {
        *character = ALPHABET[(rest % 62) as usize];
        rest /= 62;
    }
    text
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use ring::rand::SystemRandom;

    use super::*;

    fn generated() -> ApiKey {
        ApiKey::generate(&SystemRandom::new()).unwrap()
    }

    #[test]
    fn a_generated_key_is_what_the_documents_tell_scanners_to_look_for() {
        let pattern = regex::Regex::new("^cnk_[0-9A-Za-z]{36}$").unwrap();
        for _ in 0..100 {
            let key = generated();
            assert!(pattern.is_match(key.expose()), "{}", key.expose());
            assert_eq!(ApiKey::parse(key.expose().as_bytes()).unwrap(), key);
            assert_eq!(key.hint().len(), 6);
        }
        assert_ne!(generated(), generated());
    }

    #[test]
    fn every_character_is_equally_likely() {
        let mut counts = [0u32; 62];
        for _ in 0..2_000 {
            for byte in &generated().0.expose()[PREFIX.len()..BODY_END] {
                let at = ALPHABET.iter().position(|it| it == byte).unwrap();
                counts[at] += 1;
            }
        }
        // 968 expected of each; modulo 62 alone would give eight of them 1,172. The bounds are six standard deviations.
        for (at, count) in counts.iter().enumerate() {
            assert!((780..1_156).contains(count), "{}: {count}", char::from(ALPHABET[at]));
        }
    }

    #[test]
    fn the_checksum_is_fixed_because_keys_outlive_versions() {
        // From Python: zlib.crc32(b"0"*30) in base62 with six digits.
        assert_eq!(checksum(&[b'0'; 30]), *b"2C8GjS");
        let key = [b"cnk_".as_slice(), &[b'0'; 30], b"2C8GjS"].concat();
        assert!(ApiKey::parse(&key).is_ok());
    }

    #[test]
    fn the_key_is_not_in_debug_output() {
        let key = generated();
        assert!(!format!("{key:?}").contains(key.expose()));
    }

    proptest! {
        #[test]
        fn no_text_makes_the_parser_panic(text in proptest::collection::vec(any::<u8>(), 0..60)) {
            prop_assert_eq!(ApiKey::parse(&text), Err(InvalidKey::Malformed));
        }

        #[test]
        fn one_changed_character_is_noticed(at in 0..LENGTH, with in 0x20u8..0x7f) {
            let key = generated();
            let mut text = *key.0.expose();
            prop_assume!(text[at] != with);
            text[at] = with;
            prop_assert!(ApiKey::parse(&text).is_err());
        }

        #[test]
        fn another_length_is_malformed(cut in 0..LENGTH, added in "[0-9A-Za-z]{1,5}") {
            let key = generated();
            prop_assert_eq!(ApiKey::parse(&key.0.expose()[..cut]), Err(InvalidKey::Malformed));
            let longer = format!("{}{added}", key.expose());
            prop_assert_eq!(ApiKey::parse(longer.as_bytes()), Err(InvalidKey::Malformed));
        }
    }
}
