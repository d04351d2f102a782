//! What is stored of a key: its SHA-256, or with a pepper its HMAC-SHA-256.
//!
//! Invariant: neither the database nor its backups tell a key. No salt and no slow hash: the key has 178 random bits, so
//! there is nothing to guess, and a slow hash would cost milliseconds a request.

use std::fmt;

use ring::{digest, hmac};

use super::format::ApiKey;

/// The digest of a key, under which the database has it. Digests are compared without care for time: nobody can choose
/// the bits of a SHA-256 one by one.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct KeyDigest(pub(crate) [u8; 32]);

/// The first bytes are enough to tell digests apart.
impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "{a:02x}{b:02x}{c:02x}{d:02x}…")
    }
}

/// Computes digests.
#[derive(Clone, Default)]
pub(crate) struct KeyHasher {
    pepper: Option<hmac::Key>,
}

impl KeyHasher {
    /// With a pepper, a copy of the database is useless even to somebody who can guess keys. If the pepper is lost, all
    /// keys are.
    pub(crate) fn peppered(pepper: &[u8]) -> Self {
        Self {
            pepper: Some(hmac::Key::new(hmac::HMAC_SHA256, pepper)),
        }
    }

    /// The digest of a key.
    pub(crate) fn digest(&self, key: &ApiKey) -> KeyDigest {
        let text = key.expose().as_bytes();
        let mut bytes = [0; 32];
        // Both have 32 bytes.
        match &self.pepper {
            None => bytes.copy_from_slice(digest::digest(&digest::SHA256, text).as_ref()),
            Some(pepper) => bytes.copy_from_slice(hmac::sign(pepper, text).as_ref()),
        }
        KeyDigest(bytes)
    }
}

impl fmt::Debug for KeyHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pepper = self.pepper.is_some();
        f.debug_struct("KeyHasher").field("pepper", &pepper).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ApiKey {
        ApiKey::parse(b"cnk_0000000000000000000000000000002C8GjS").unwrap()
    }

    fn hex(digest: KeyDigest) -> String {
        digest.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_digest_is_fixed_because_keys_outlive_versions() {
        // printf %s cnk_… | sha256sum, and | openssl dgst -sha256 -hmac pepper
        assert_eq!(
            hex(KeyHasher::default().digest(&key())),
            "7967689537155b6406c2818df4b72c254ea7ccb57c9ceb4e0bbd2614e7809481"
        );
        assert_eq!(
            hex(KeyHasher::peppered(b"pepper").digest(&key())),
            "1905764b5e48e2846662b91ed23157a1fde1a5df784ac39af4d0346714d9c8c0"
        );
    }

    #[test]
    fn neither_the_pepper_nor_a_whole_digest_is_in_debug_output() {
        let hasher = KeyHasher::peppered(b"pepper");
        assert_eq!(format!("{hasher:?}"), "KeyHasher { pepper: true }");
        assert_eq!(format!("{:?}", hasher.digest(&key())).chars().count(), 9);
    }
}
