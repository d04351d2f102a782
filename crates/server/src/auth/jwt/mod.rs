//! JSON Web Tokens (RFC 7519), verified with ring. Invariant: what a token says is believed only after a key of ours
//! verified its signature with the key's own algorithm.

mod algorithm;
mod cache;
mod claims;
mod key;
mod key_age;
mod key_refresh;
mod key_set;
mod source;
mod token;
mod tokens;
mod verifier;

#[cfg(test)]
mod refresh_tests;
#[cfg(test)]
pub(super) mod signer;
#[cfg(test)]
mod tests;

pub use claims::ClaimRules;
pub(crate) use key::SECRET_BYTES;
pub(crate) use key_refresh::{PreparedKeys, TokenConfig};
#[cfg(fuzzing)]
pub(super) use key_set::KeySet;
pub(crate) use source::LoadError;
pub use source::{JwksUrl, KeySource};
pub(crate) use tokens::{KnownToken, TokenStats, Tokens};
#[cfg(fuzzing)]
pub(super) use verifier::verify;
