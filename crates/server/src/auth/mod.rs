//! Who calls: API keys and JSON Web Tokens.
//!
//! Invariant: a request is somebody's only if it shows a key that the database has, or a token that a key of the issuer
//! signed. Nothing else is asked before the form of the key or token is right.
//!
//! | To find | Look in |
//! |---|---|
//! | what a caller may do, and who it is | `scopes`, `identity` |
//! | the settings | `config` |
//! | the headers | `credentials` |
//! | API keys | `api_key` |
//! | tokens, their signatures and claims | `jwt` |
//! | a request: at once, or after asking | `authenticator` |
//! | how an authentication ended, and its response | `outcome`, `refusal` |

mod api_key;
mod authenticator;
mod clock;
mod config;
mod credentials;
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
    identity::Identity,
    jwt::{LoadError, SECRET_BYTES, TokenConfig, Tokens},
    refusal::Refusal,
    scopes::{Scope, Scopes},
};
pub use self::{
    config::{AuthConfig, AuthMode},
    jwt::{ClaimRules, JwksUrl, KeySource},
};
