//! One key for verifying signatures. Invariant: its algorithm is fixed when it is loaded; the token cannot choose
//! another. A key that is loaded has verified a first signature.

use std::fmt;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{
    hmac,
    signature::{
        ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
    },
};
use serde::Deserialize;

use super::algorithm::Algorithm;

/// Fewest bytes of a secret for HMAC (RFC 7518, section 3.2).
pub(crate) const SECRET_BYTES: usize = 32;
/// Sizes of RSA moduli in bits that are accepted, as ring does.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;
/// The first byte of an uncompressed point.
const UNCOMPRESSED: u8 = 4;
/// What the first signature is of.
const FIRST_MESSAGE: &[u8] = b"cenote";

/// A key that verifies.
pub(super) struct VerificationKey {
    pub(super) id: Option<String>,
    material: Material,
}

enum Material {
    Secret(hmac::Key),
    /// Modulus and exponent.
    Rsa(RsaPublicKeyComponents<Vec<u8>>),
    P256(UnparsedPublicKey<Vec<u8>>),
    Ed25519(UnparsedPublicKey<Vec<u8>>),
}

/// Why a key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnusableKey {
    /// A field is missing or has the wrong type or encoding.
    #[error("a field is missing or malformed")]
    Malformed,
    /// The key is not for verifying signatures.
    #[error("it is not for verifying signatures")]
    Purpose,
    /// The key's type, curve or algorithm is not supported, or they contradict each other.
    #[error("its type, curve or algorithm is not supported")]
    Unsupported,
    /// The key is too short to be safe, or longer than is reasonable.
    #[error("its length is not allowed: RSA needs 2048 to 8192 bits, a secret at least 32 bytes")]
    Length,
    /// A secret, or a private key, in a document that others can read.
    #[error("it is a secret in a public document")]
    Exposed,
    /// The cryptography of this build does not do what it should.
    #[error("signatures cannot be verified with it on this machine")]
    Defective,
}

/// A JSON Web Key (RFC 7517), as far as it is used.
#[derive(Deserialize)]
pub(super) struct Jwk {
    kty: String,
    kid: Option<String>,
    alg: Option<String>,
    #[serde(rename = "use")]
    usage: Option<String>,
    key_ops: Option<Vec<String>>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
    k: Option<String>,
    d: Option<serde::de::IgnoredAny>,
}

impl VerificationKey {
    /// A shared secret.
    pub(super) fn of_secret(id: Option<String>, secret: &[u8]) -> Result<Self, UnusableKey> {
        if secret.len() < SECRET_BYTES {
            return Err(UnusableKey::Length);
        }
        let material = Material::Secret(hmac::Key::new(hmac::HMAC_SHA256, secret));
        Self { id, material }.tried_out()
    }

    /// A key of a set. If the set is public, secrets and private keys in it are refused: everybody may have them.
    pub(super) fn of_jwk(jwk: Jwk, is_public: bool) -> Result<Self, UnusableKey> {
        let for_signatures = jwk.usage.as_deref().is_none_or(|usage| usage == "sig");
        let for_verifying = jwk
            .key_ops
            .as_ref()
            .is_none_or(|all| all.iter().any(|it| it == "verify"));
        if !for_signatures || !for_verifying {
            return Err(UnusableKey::Purpose);
        }
        if is_public && (jwk.d.is_some() || jwk.kty == "oct") {
            return Err(UnusableKey::Exposed);
        }
        let key = match (jwk.kty.as_str(), jwk.crv.as_deref()) {
            ("oct", _) => Self::of_secret(jwk.kid, &decode(jwk.k.as_deref())?)?,
            ("RSA", _) => Self {
                material: rsa(decode(jwk.n.as_deref())?, decode(jwk.e.as_deref())?)?,
                id: jwk.kid,
            },
            ("EC", Some("P-256")) => Self {
                material: p256(&decode(jwk.x.as_deref())?, &decode(jwk.y.as_deref())?)?,
                id: jwk.kid,
            },
            ("OKP", Some("Ed25519")) => Self {
                material: ed25519(decode(jwk.x.as_deref())?)?,
                id: jwk.kid,
            },
            _ => return Err(UnusableKey::Unsupported),
        };
        match jwk.alg.as_deref().map(Algorithm::of_name) {
            None => key.tried_out(),
            Some(Some(named)) if named == key.algorithm() => key.tried_out(),
            Some(_) => Err(UnusableKey::Unsupported),
        }
    }

    /// Verifies a first signature, so that a defect shows at the start and not at the first request. Of a secret it is one of
    /// its own; of a public key, whose private key is elsewhere, it is a wrong one.
    fn tried_out(self) -> Result<Self, UnusableKey> {
        let works = match &self.material {
            Material::Secret(key) => self.verifies(FIRST_MESSAGE, hmac::sign(key, FIRST_MESSAGE).as_ref()),
            Material::Rsa(_) | Material::P256(_) | Material::Ed25519(_) => !self.verifies(FIRST_MESSAGE, &[0; 64]),
        };
        works.then_some(self).ok_or(UnusableKey::Defective)
    }

    /// The only algorithm that this key is used with.
    pub(super) fn algorithm(&self) -> Algorithm {
        match self.material {
            Material::Secret(_) => Algorithm::Hs256,
            Material::Rsa(_) => Algorithm::Rs256,
            Material::P256(_) => Algorithm::Es256,
            Material::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    /// Whether the signature of the message is right. Takes constant time for a secret.
    pub(super) fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let verified = match &self.material {
            Material::Secret(key) => hmac::verify(key, message, signature),
            Material::Rsa(key) => key.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature),
            Material::P256(key) | Material::Ed25519(key) => key.verify(message, signature),
        };
        verified.is_ok()
    }
}

impl fmt::Debug for VerificationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerificationKey")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm())
            .finish_non_exhaustive()
    }
}

fn decode(field: Option<&str>) -> Result<Vec<u8>, UnusableKey> {
    let field = field.ok_or(UnusableKey::Malformed)?;
    URL_SAFE_NO_PAD.decode(field).map_err(|_| UnusableKey::Malformed)
}

fn rsa(mut n: Vec<u8>, mut e: Vec<u8>) -> Result<Material, UnusableKey> {
    // Some issuers send the sign byte of a big integer.
    for number in [&mut n, &mut e] {
        let zeros = number.iter().take_while(|byte| **byte == 0).count();
        number.drain(..zeros);
    }
    let leading_zeros = n.first().map_or(0, |byte| byte.leading_zeros() as usize);
    match RSA_BITS.contains(&(8 * n.len() - leading_zeros)) {
        true => Ok(Material::Rsa(RsaPublicKeyComponents { n, e })),
        false => Err(UnusableKey::Length),
    }
}

fn p256(x: &[u8], y: &[u8]) -> Result<Material, UnusableKey> {
    if x.len() != 32 || y.len() != 32 {
        return Err(UnusableKey::Malformed);
    }
    let point = [&[UNCOMPRESSED], x, y].concat();
    Ok(Material::P256(UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)))
}

fn ed25519(x: Vec<u8>) -> Result<Material, UnusableKey> {
    match x.len() {
        32 => Ok(Material::Ed25519(UnparsedPublicKey::new(&ED25519, x))),
        _ => Err(UnusableKey::Malformed),
    }
}
