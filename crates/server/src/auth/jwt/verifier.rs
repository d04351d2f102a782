//! From the text of a token to the caller. Invariant: claims are looked at only after the signature was verified.

use std::sync::Arc;

use super::super::{identity::Identity, outcome::Outcome};
use super::{
    claims::{ClaimRules, Lifetime},
    key_set::{KeySet, SignatureError},
    token::Token,
};

/// A token with a good signature and good claims; its times are judged at each use.
#[derive(Clone, Debug)]
pub(in crate::auth) struct Verified {
    pub(super) identity: Arc<Identity>,
    pub(super) lifetime: Lifetime,
}

/// Verifies the signature, then the claims but for the times.
pub(in crate::auth) fn verify(text: &str, keys: &KeySet, rules: &ClaimRules) -> Result<Verified, Outcome> {
    let token = Token::parse(text).map_err(|_| Outcome::Malformed)?;
    keys.verify(&token).map_err(|error| match error {
        SignatureError::UnknownKey => Outcome::Kid,
        SignatureError::Algorithm => Outcome::Algorithm,
        SignatureError::Wrong => Outcome::Signature,
    })?;
    let claims = token.payload().map_err(|_| Outcome::Malformed)?;
    let (identity, lifetime) = rules.judge(&claims)?;
    Ok(Verified {
        identity: Arc::new(identity),
        lifetime,
    })
}
