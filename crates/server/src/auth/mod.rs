//! Who calls: API keys, JSON Web Tokens, and certificates of clients.
//!
//! Invariant: a request is somebody's only if it shows a key that the database has, a token that a key of the issuer signed,
//! or a certificate of a trusted authority. Nothing else is asked before the form of the key or token is right.
//!
//! | To find | Look in |
//! |---|---|
//! | what a caller may do, and who it is | `scopes`, `identity` |
//! | the settings | `config` |
//! | the headers | `credentials` |
//! | API keys | `api_key` |
//! | tokens, their signatures and claims | `jwt` |
//! | how either is recognized without its text | `fingerprint` |
//! | certificates of clients | `certificates` |
//! | a request: at once, or after asking | `authenticator` |
//! | how an authentication ended, and its response | `outcome`, `refusal` |

mod api_key;
mod authenticator;
mod certificates;
mod clock;
mod config;
mod credentials;
mod fingerprint;
mod identity;
mod jwt;
mod outcome;
mod refusal;
mod scopes;

#[cfg(fuzzing)]
pub(crate) mod fuzzing;

pub(crate) use self::{
    api_key::{ApiKey, InvalidKey, KeyHasher, Keys, PREFIX as KEY_PREFIX},
    authenticator::{Authenticator, Decision, Pending},
    certificates::Certificates,
    identity::Identity,
    jwt::{LoadError, PreparedKeys, SECRET_BYTES, TokenConfig, TokenStats, Tokens},
    outcome::{Method, Outcome},
    refusal::Refusal,
    scopes::{Scope, Scopes},
};
pub use self::{
    certificates::CertificateScopes,
    config::{AuthConfig, AuthMode},
    jwt::{ClaimRules, JwksUrl, KeySource},
};
