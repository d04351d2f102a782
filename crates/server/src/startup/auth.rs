//! Who may call: from the settings to what authenticates requests.
//!
//! Invariant: a service that others can reach authenticates them, unless its operator says that it need not.

use std::{fmt, net::SocketAddr, sync::Arc};

use cenote_postgres::InvalidConfig;

use super::backend::Backend;
use crate::{
    auth::{AuthConfig, AuthMode, Authenticator, Certificates, KeyHasher, Keys, LoadError, TokenConfig, Tokens},
    settings::Settings,
    store::api_keys::ApiKeys,
};

/// Why requests cannot be authenticated.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthError {
    #[error(transparent)]
    Pool(#[from] InvalidConfig),
    #[error(transparent)]
    TokenKeys(#[from] LoadError),
}

/// A service without authentication that others can reach.
#[derive(Debug)]
pub(super) struct Exposed(Vec<SocketAddr>);

impl Exposed {
    /// Finds addresses that other machines can reach although nobody has to show anything.
    pub(super) fn find(auth: &AuthConfig, addresses: &[SocketAddr]) -> Option<Self> {
        let reachable = addresses
            .iter()
            .filter(|address| !address.ip().to_canonical().is_loopback());
        let reachable: Vec<_> = reachable.copied().collect();
        let asks_nothing = auth.mode == AuthMode::Off && auth.certificates.is_none();
        (asks_nothing && !reachable.is_empty()).then_some(Self(reachable))
    }
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<_> = self.0.iter().map(ToString::to_string).collect();
        write!(
            f,
            "HOST is not a loopback address and AUTH is off: everybody who reaches {} could read and change all data\n  \
             set AUTH=keys, and create a key with `cenote key create --name NAME --scope read,write`\n  \
             or set AUTH=none-i-know if something else keeps strangers away",
            addresses.join(" and ")
        )
    }
}

/// Computes what is stored of API keys.
pub(crate) fn key_hasher(auth: &AuthConfig) -> KeyHasher {
    match &auth.pepper {
        Some(pepper) => KeyHasher::peppered(pepper.expose().as_bytes()),
        None => KeyHasher::default(),
    }
}

/// What verifies tokens, if they are accepted.
pub(crate) fn tokens(auth: &AuthConfig) -> Option<Tokens> {
    let source = auth.token_keys.clone()?;
    let rules = auth.claims.clone();
    Some(Tokens::new(TokenConfig { source, rules }))
}

/// Who the owners of certificates are, if clients are asked for them.
pub(super) fn certificates(settings: &Settings) -> Option<Arc<Certificates>> {
    settings.tls.as_ref()?.clients.as_ref()?;
    let scopes = settings.auth.certificates.clone().unwrap_or_default();
    Some(Arc::new(Certificates::new(scopes)))
}

impl Backend {
    /// What authenticates requests, if anything does. Keys of tokens that are on this machine must be there; an issuer need
    /// not answer yet.
    pub(super) async fn authenticator(
        &self,
        certificates: Option<&Arc<Certificates>>,
    ) -> Result<Option<Arc<Authenticator>>, AuthError> {
        let auth = &self.settings.auth;
        if let Some(certificates) = certificates
            && auth.certificates.is_some()
        {
            return Ok(Some(Arc::new(Authenticator::by_certificate(certificates.clone()))));
        }
        let tokens = tokens(auth);
        if let Some(tokens) = &tokens
            && !tokens.are_remote()
        {
            tokens.load_keys().await?;
        }
        let keys = match auth.mode.has_keys() {
            true => {
                let table = ApiKeys::beside(&self.pool, &self.settings.schema)?;
                Some(Keys::new(key_hasher(auth), auth.stale, table))
            }
            false => None,
        };
        match (&keys, &tokens) {
            (None, None) => Ok(None),
            _ => Ok(Some(Arc::new(Authenticator::new(keys, tokens)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::CertificateScopes;

    fn auth(mode: AuthMode) -> AuthConfig {
        AuthConfig {
            mode,
            ..AuthConfig::default()
        }
    }

    #[test]
    fn only_loopback_addresses_need_no_authentication() {
        let is_exposed = |mode, address: &str| Exposed::find(&auth(mode), &[address.parse().unwrap()]).is_some();
        for address in ["127.0.0.1:1", "127.3.2.1:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(!is_exposed(AuthMode::Off, address), "{address}");
        }
        for address in ["0.0.0.0:1", "[::]:1", "10.0.0.1:1", "192.0.2.1:1", "[fd00::1]:1"] {
            assert!(is_exposed(AuthMode::Off, address), "{address}");
            for mode in [
                AuthMode::Keys,
                AuthMode::Tokens,
                AuthMode::KeysAndTokens,
                AuthMode::NoneIKnow,
            ] {
                assert!(!is_exposed(mode, address), "{address} {mode:?}");
            }
        }
    }

    #[test]
    fn certificates_that_clients_must_show_are_authentication() {
        let auth = AuthConfig {
            certificates: Some(CertificateScopes::default()),
            ..auth(AuthMode::Off)
        };
        assert!(Exposed::find(&auth, &["0.0.0.0:1".parse().unwrap()]).is_none());
    }

    #[test]
    fn the_message_says_what_is_exposed_and_both_ways_out() {
        let exposed = Exposed::find(&auth(AuthMode::Off), &["0.0.0.0:8000".parse().unwrap()])
            .unwrap()
            .to_string();
        let lines: Vec<_> = exposed.lines().collect();
        assert_eq!(lines.len(), 3, "{exposed}");
        assert!(lines[0].contains("0.0.0.0:8000"), "{exposed}");
        assert!(
            lines[1].contains("AUTH=keys") && lines[1].contains("cenote key create"),
            "{exposed}"
        );
        assert!(lines[2].contains("AUTH=none-i-know"), "{exposed}");
    }
}
