//! Authenticates requests: first without waiting, then, where something has to be asked or verified, with a bounded wait.
//!
//! Invariant: every request that is looked at is counted once, with its outcome.

use std::{sync::Arc, time::Instant};

use axum::http::HeaderMap;

use super::{
    api_key::{ApiKey, Found, KeyStats, Keys},
    certificates::Certificates,
    clock::Now,
    credentials::{self, Accepted, Credential},
    identity::Identity,
    jwt::{KnownToken, TokenStats, Tokens},
    outcome::{Method, Outcome, Outcomes},
    refusal::{Refusal, forbidden},
    scopes::Scope,
};
use crate::http::Problem;

/// Authenticates requests. All cores share one.
pub(crate) struct Authenticator {
    keys: Option<Keys>,
    tokens: Option<Tokens>,
    /// `Some` if certificates authenticate; keys and tokens are not looked at then.
    certificates: Option<Arc<Certificates>>,
    outcomes: Outcomes,
}

/// What can be said at once.
#[derive(Debug)]
pub(crate) enum Decision {
    /// The key or token is known and valid.
    Known(Arc<Identity>),
    Refused(Refusal),
    /// [`Authenticator::resolve`] tells.
    Unknown(Pending),
}

/// A well-formed key, or a token of any form, that is not known.
#[derive(Debug)]
pub(crate) struct Pending(Unresolved);

#[derive(Debug)]
enum Unresolved {
    Key(ApiKey),
    Token(Token),
}

/// The text of a token, which is not to be seen.
struct Token(Box<str>);

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Token({} bytes)", self.0.len())
    }
}

/// Statistics.
#[derive(Debug)]
pub(crate) struct AuthStats<'a> {
    /// How often each outcome occurred.
    pub(crate) outcomes: &'a Outcomes,
    /// `None` if no keys are accepted.
    pub(crate) keys: Option<KeyStats>,
    /// `None` if no tokens are accepted.
    pub(crate) tokens: Option<TokenStats>,
}

impl Authenticator {
    /// Accepts API keys, tokens or both.
    pub(crate) fn new(keys: Option<Keys>, tokens: Option<Tokens>) -> Self {
        Self {
            keys,
            tokens,
            certificates: None,
            outcomes: Outcomes::default(),
        }
    }

    /// Accepts the certificate that the transport has verified.
    pub(crate) fn by_certificate(certificates: Arc<Certificates>) -> Self {
        Self {
            certificates: Some(certificates),
            ..Self::new(None, None)
        }
    }

    /// Looks at the subject of the client's certificate, or else at `Authorization` and `X-API-Key`, of a request that was
    /// received at this time. Neither waits nor asks anybody.
    pub(crate) fn authenticate(&self, headers: &HeaderMap, subject: Option<&Arc<str>>, received: Instant) -> Decision {
        if let Some(certificates) = &self.certificates {
            return match subject {
                Some(subject) => self.know(Method::Certificate, certificates.owner(subject)),
                None => self.refuse(Refusal::new(Method::Certificate, Outcome::Missing)),
            };
        }
        let accepted = Accepted {
            keys: self.keys.is_some(),
            tokens: self.tokens.is_some(),
        };
        let credential = match credentials::find(headers, accepted) {
            Ok(credential) => credential,
            Err(refusal) => return self.refuse(refusal),
        };
        let now = Now::at(received);
        match (credential, &self.keys, &self.tokens) {
            (Credential::Key(key), Some(keys), _) => match keys.look_up(key, now) {
                Found::Valid(identity) => self.know(Method::ApiKey, identity),
                Found::Refused(outcome) => self.refuse(Refusal::new(Method::ApiKey, outcome)),
                Found::Unknown => match key.check() {
                    Ok(key) => Decision::Unknown(Pending(Unresolved::Key(key))),
                    Err(invalid) => self.refuse(invalid.into()),
                },
            },
            (Credential::Token(text), _, Some(tokens)) => match tokens.look_up(text, now) {
                KnownToken::Valid(identity) => self.know(Method::Token, identity),
                KnownToken::Refused(outcome) => self.refuse(Refusal::new(Method::Token, outcome)),
                KnownToken::Unknown => Decision::Unknown(Pending(Unresolved::Token(Token(text.into())))),
            },
            // Not reached: only what is accepted is found.
            _ => self.refuse(Refusal::new(Method::Nothing, Outcome::Malformed)),
        }
    }

    /// Asks the database for a key, or verifies a token.
    ///
    /// # Cancel safety
    ///
    /// Safe. The request is not counted if the future is dropped.
    pub(crate) async fn resolve(&self, pending: Pending) -> Result<Arc<Identity>, Refusal> {
        let (method, result) = match (pending.0, &self.keys, &self.tokens) {
            (Unresolved::Key(key), Some(keys), _) => (Method::ApiKey, keys.resolve(&key).await),
            (Unresolved::Token(Token(text)), _, Some(tokens)) => (Method::Token, tokens.verify(&text).await),
            _ => (Method::Nothing, Err(Outcome::Malformed)),
        };
        let outcome = result.as_ref().err().copied().unwrap_or(Outcome::Accepted);
        self.outcomes.count(method, outcome);
        result.map_err(|outcome| Refusal::new(method, outcome))
    }

    fn know(&self, method: Method, identity: Arc<Identity>) -> Decision {
        self.outcomes.count(method, Outcome::Accepted);
        Decision::Known(identity)
    }

    fn refuse(&self, refusal: Refusal) -> Decision {
        self.outcomes.count(refusal.method(), refusal.outcome());
        Decision::Refused(refusal)
    }

    /// What verifies tokens, if they are accepted.
    pub(crate) fn tokens(&self) -> Option<&Tokens> {
        self.tokens.as_ref()
    }

    /// What verifies API keys, if they are accepted.
    pub(crate) fn keys(&self) -> Option<&Keys> {
        self.keys.as_ref()
    }

    /// The response to a caller who lacks a scope.
    pub(crate) fn forbid(&self, identity: &Identity, scope: Scope) -> Problem {
        self.outcomes.count(identity.method, Outcome::Scope);
        forbidden(scope)
    }

    /// What an operator should know: keys of tokens that are missing or old, or API keys that the database does not
    /// confirm.
    pub(crate) fn problem(&self) -> Option<String> {
        let AuthStats { keys, tokens, .. } = self.stats();
        let tokens = tokens.and_then(|tokens| tokens.keys.problem());
        tokens.or_else(|| keys.and_then(KeyStats::problem))
    }

    /// Keeps known keys, and the keys of tokens, up to date. Never returns; call it once.
    pub(crate) async fn follow(&self) {
        let keys = async {
            if let Some(keys) = &self.keys {
                keys.follow().await;
            }
        };
        let tokens = async {
            if let Some(tokens) = &self.tokens {
                tokens.follow_keys().await;
            }
        };
        tokio::join!(keys, tokens, std::future::pending::<()>());
    }

    pub(crate) fn stats(&self) -> AuthStats<'_> {
        AuthStats {
            outcomes: &self.outcomes,
            keys: self.keys.as_ref().map(Keys::stats),
            tokens: self.tokens.as_ref().map(Tokens::stats),
        }
    }

    /// Closes the connection to the database.
    pub(crate) async fn close(&self) {
        if let Some(keys) = &self.keys {
            keys.close().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderValue, header::AUTHORIZATION};
    use serde_json::json;

    use super::*;
    use crate::auth::jwt::{
        ClaimRules, KeySource, TokenConfig,
        signer::{SECRET, Signer},
    };

    async fn of_tokens() -> Authenticator {
        let secret = String::from_utf8(SECRET.to_vec()).unwrap();
        let rules = ClaimRules {
            issuer: None,
            audiences: Vec::new(),
            leeway: 30,
            scopes: None,
        };
        let tokens = Tokens::new(TokenConfig {
            source: KeySource::Secret(secret.into()),
            rules,
        });
        tokens.load_keys().await.unwrap();
        Authenticator::new(None, Some(tokens))
    }

    fn bearer(token: &str) -> HeaderMap {
        let value = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
        HeaderMap::from_iter([(AUTHORIZATION, value)])
    }

    #[tokio::test]
    async fn a_token_is_verified_once_and_then_known() {
        let authenticator = of_tokens().await;
        let headers = bearer(&Signer::hs256().token(None, &json!({"sub": "ada", "exp": 4_000_000_000u64})));
        let Decision::Unknown(pending) = authenticator.authenticate(&headers, None, Instant::now()) else {
            panic!("it was never seen");
        };
        assert!(!format!("{pending:?}").contains("ey"), "{pending:?}");
        assert_eq!(&*authenticator.resolve(pending).await.unwrap().name, "jwt:#ada");
        let known = authenticator.authenticate(&headers, None, Instant::now());
        assert!(matches!(known, Decision::Known(_)));
        let stats = authenticator.stats();
        assert_eq!(stats.outcomes.of(Method::Token, Outcome::Accepted), 2);
        assert_eq!(stats.tokens.unwrap().cache.cached, 1);
    }

    #[test]
    fn a_certificate_is_all_that_is_looked_at_where_it_authenticates() {
        let authenticator = Authenticator::by_certificate(Arc::new(Certificates::new(Default::default())));
        let headers = bearer("a.b.c");
        let Decision::Known(owner) = authenticator.authenticate(&headers, Some(&"CN=ada".into()), Instant::now())
        else {
            panic!("its owner is known");
        };
        assert_eq!(
            (&*owner.name, owner.method),
            ("certificate:CN=ada", Method::Certificate)
        );
        let Decision::Refused(refusal) = authenticator.authenticate(&headers, None, Instant::now()) else {
            panic!("it names nobody");
        };
        assert_eq!(refusal.problem().into_full_response().status(), 401);
    }

    #[tokio::test]
    async fn a_refusal_is_counted_once_by_its_cause() {
        let authenticator = of_tokens().await;
        let Decision::Unknown(pending) = authenticator.authenticate(&bearer("a.b.c"), None, Instant::now()) else {
            panic!("its form is not looked at yet");
        };
        assert_eq!(
            authenticator.resolve(pending).await.unwrap_err().outcome(),
            Outcome::Malformed
        );
        assert!(matches!(
            authenticator.authenticate(&HeaderMap::new(), None, Instant::now()),
            Decision::Refused(_)
        ));
        let outcomes = authenticator.stats().outcomes;
        let all: u64 = Outcome::ALL
            .iter()
            .flat_map(|of| Method::ALL.map(|method| outcomes.of(method, *of)))
            .sum();
        assert_eq!(all, 2);
        assert_eq!(outcomes.of(Method::Token, Outcome::Malformed), 1);
        assert_eq!(outcomes.of(Method::Nothing, Outcome::Missing), 1);
    }
}
