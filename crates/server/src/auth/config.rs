//! What the settings say about authentication. Invariant: `Debug` shows no secret.

use std::{path::PathBuf, time::Duration};

use cenote_secret::Secret;

use super::{
    certificates::CertificateScopes,
    jwt::{ClaimRules, KeySource},
};

/// What a caller must show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AuthMode {
    /// Nothing, on this machine, or a certificate if TLS requires one. Otherwise other addresses are refused at the start.
    #[default]
    Off,
    /// Nothing, wherever the service listens.
    NoneIKnow,
    /// An API key.
    Keys,
    /// A token.
    Tokens,
    /// An API key or a token.
    KeysAndTokens,
}

impl AuthMode {
    pub(crate) const WORDS: &[(&'static str, Self)] = &[
        ("off", Self::Off),
        ("keys", Self::Keys),
        ("jwt", Self::Tokens),
        ("keys+jwt", Self::KeysAndTokens),
        ("none-i-know", Self::NoneIKnow),
    ];

    /// Whether API keys are accepted.
    #[must_use]
    pub fn has_keys(self) -> bool {
        matches!(self, Self::Keys | Self::KeysAndTokens)
    }

    /// Whether tokens are accepted.
    #[must_use]
    pub fn has_tokens(self) -> bool {
        matches!(self, Self::Tokens | Self::KeysAndTokens)
    }
}

/// The settings of authentication.
#[derive(Clone, Debug, Default)]
pub struct AuthConfig {
    /// What a caller must show.
    pub mode: AuthMode,
    /// How long known keys are accepted while the database is away.
    pub stale: Duration,
    /// The key of the HMAC that is stored of API keys. `None`: their SHA-256 is stored.
    pub pepper: Option<Secret<String>>,
    /// The file of the first API key.
    pub bootstrap_key: Option<PathBuf>,
    /// Where the keys of tokens are. `Some` if tokens are accepted.
    pub token_keys: Option<KeySource>,
    /// What the owners of certificates may do. `Some` if their certificates are what authenticates them.
    pub certificates: Option<CertificateScopes>,
    /// What is demanded of tokens.
    pub claims: ClaimRules,
}
