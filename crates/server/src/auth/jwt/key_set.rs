//! The keys that tokens may be signed with, from a secret or a JWK set (RFC 7517).
//!
//! Invariant: a set has at least one usable key. A key that cannot be used is skipped and does not spoil the others.

use serde::Deserialize;
use serde_json::Value;

use super::{
    algorithm::Algorithm,
    key::{Jwk, UnusableKey, VerificationKey},
    token::Token,
};

/// Longest document in bytes.
pub(crate) const DOCUMENT_BYTES: usize = 256 << 10;
/// Most keys of a document: without an id in the token, each of them may have to be tried.
const KEYS: usize = 64;

/// Keys with which signatures are verified.
#[derive(Debug)]
pub(crate) struct KeySet(Vec<VerificationKey>);

/// Why a document holds no keys that can be used.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidKeySet {
    #[error("it is longer than {DOCUMENT_BYTES} bytes")]
    TooLong,
    #[error("it is not a JSON object with a list \"keys\"")]
    Malformed,
    #[error("it has {0} keys, more than {KEYS}")]
    TooMany(usize),
    #[error("it has no keys")]
    Empty,
    /// Why the first key cannot be used.
    #[error("none of its keys can be used; the first: {0}")]
    Unusable(UnusableKey),
}

/// Why a signature was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SignatureError {
    /// No key has the id that the token names.
    UnknownKey,
    /// No key that may have signed the token has the algorithm that it names.
    Algorithm,
    Wrong,
}

#[derive(Deserialize)]
struct Document {
    keys: Vec<Value>,
}

impl KeySet {
    /// One shared secret, for tokens with any key id or none.
    pub(crate) fn of_secret(secret: &[u8]) -> Result<Self, UnusableKey> {
        Ok(Self(vec![VerificationKey::of_secret(None, secret)?]))
    }

    /// The keys of a document. In a public document, secrets are skipped.
    pub(crate) fn parse(document: &[u8], is_public: bool) -> Result<Self, InvalidKeySet> {
        if document.len() > DOCUMENT_BYTES {
            return Err(InvalidKeySet::TooLong);
        }
        let Document { keys } = serde_json::from_slice(document).map_err(|_| InvalidKeySet::Malformed)?;
        if keys.len() > KEYS {
            return Err(InvalidKeySet::TooMany(keys.len()));
        }
        let mut usable = Vec::with_capacity(keys.len());
        let mut first_problem = None;
        for key in keys {
            let jwk: Result<Jwk, _> = serde_json::from_value(key);
            let key = jwk.map_err(|_| UnusableKey::Malformed);
            match key.and_then(|jwk| VerificationKey::of_jwk(jwk, is_public)) {
                Ok(key) => usable.push(key),
                Err(problem) => first_problem = first_problem.or(Some(problem)),
            }
        }
        match (usable.is_empty(), first_problem) {
            (false, _) => Ok(Self(usable)),
            (true, Some(problem)) => Err(InvalidKeySet::Unusable(problem)),
            (true, None) => Err(InvalidKeySet::Empty),
        }
    }

    /// The number of keys.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Checks the signature with the keys that may have made it: those with the token's key id and those without any. A
    /// token without an id is tried with every key of its algorithm.
    pub(super) fn verify(&self, token: &Token<'_>) -> Result<(), SignatureError> {
        let algorithm = Algorithm::of_name(&token.header.alg).ok_or(SignatureError::Algorithm)?;
        let id = token.header.kid.as_deref();
        let may_have_signed = |key: &&VerificationKey| match (id, key.id.as_deref()) {
            (Some(named), Some(id)) => named == id,
            (None, _) | (_, None) => true,
        };
        let mut has_algorithm = false;
        for key in self.0.iter().filter(may_have_signed) {
            if key.algorithm() == algorithm {
                has_algorithm = true;
                if key.verifies(token.signed.as_bytes(), &token.signature) {
                    return Ok(());
                }
            }
        }
        match has_algorithm {
            _ if id.is_some_and(|id| self.lacks(id)) => Err(SignatureError::UnknownKey),
            true => Err(SignatureError::Wrong),
            false => Err(SignatureError::Algorithm),
        }
    }

    /// Whether the keys have ids, but none has this one.
    fn lacks(&self, id: &str) -> bool {
        let mut ids = self.0.iter().filter_map(|key| key.id.as_deref()).peekable();
        ids.peek().is_some() && ids.all(|other| other != id)
    }
}
