//! Authenticates callers by their tokens. Invariant: the wall clock is read for every judgement and never remembered.

use std::sync::Arc;

use super::super::{clock::Now, identity::Identity, outcome::Outcome};
use super::{
    cache::{TokenCache, TokenCacheStats},
    claims::ClaimRules,
    key_age::KeyAge,
    key_refresh::{CurrentKeys, KeyRefresh, PreparedKeys, TokenConfig},
    source::LoadError,
    verifier::{self, Verified},
};

/// Authenticates tokens.
pub(crate) struct Tokens {
    keys: KeyRefresh,
    cache: TokenCache,
}

/// What is known about a token without verifying it.
#[derive(Debug)]
pub(crate) enum KnownToken {
    Valid(Arc<Identity>),
    Refused(Outcome),
    /// [`Tokens::verify`] tells.
    Unknown,
}

/// Statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenStats {
    pub(crate) keys: KeyAge,
    pub(crate) cache: TokenCacheStats,
}

impl Tokens {
    pub(crate) fn new(config: TokenConfig) -> Self {
        Self {
            keys: KeyRefresh::new(config),
            cache: TokenCache::new(),
        }
    }

    /// Looks a token up in the cache, and judges its times.
    pub(crate) fn look_up(&self, token: &str, now: Now) -> KnownToken {
        let keys = self.keys.current();
        let Some(keys) = keys.as_ref() else {
            return KnownToken::Unknown;
        };
        match self.cache.get(token, keys.number, now.instant) {
            Some(Ok(verified)) => match judge(verified, keys.rules(), now) {
                Ok(identity) => KnownToken::Valid(identity),
                Err(outcome) => KnownToken::Refused(outcome),
            },
            Some(Err(outcome)) => KnownToken::Refused(outcome),
            None => KnownToken::Unknown,
        }
    }

    /// Verifies a token. Waits only if it names a key that is not known yet and the source of the keys may be asked.
    pub(crate) async fn verify(&self, token: &str) -> Result<Arc<Identity>, Outcome> {
        // The load that runs already may have begun before the issuer had the key; the next one did not.
        for _ in 0..2 {
            match self.verify_now(token, Now::read()) {
                Err(Outcome::Kid) if self.keys.load_for_unknown_id().await => {}
                result => return result,
            }
        }
        self.verify_now(token, Now::read())
    }

    fn verify_now(&self, token: &str, now: Now) -> Result<Arc<Identity>, Outcome> {
        let keys = self.keys.current();
        // Nobody can say whether the token is good.
        let keys = keys.as_deref().ok_or(Outcome::Unavailable)?;
        let CurrentKeys { number, set, .. } = keys;
        match verifier::verify(token, set, keys.rules()) {
            Ok(verified) => {
                self.cache.accept(token, *number, verified.clone());
                judge(verified, keys.rules(), now)
            }
            Err(outcome) => {
                if outcome == Outcome::Signature {
                    self.cache.refuse(token, *number, now.instant);
                }
                Err(outcome)
            }
        }
    }

    /// Whether the keys are on another machine, which may be away.
    pub(crate) fn are_remote(&self) -> bool {
        self.keys.is_remote()
    }

    /// Loads the keys once, to find out whether that works.
    pub(crate) async fn load_keys(&self) -> Result<usize, LoadError> {
        self.keys.load().await?;
        Ok(self.keys.age().keys)
    }

    /// Loads the keys of other settings, for [`adopt`](Self::adopt). An issuer that does not answer is an error only if its
    /// keys are not in use yet.
    pub(crate) async fn prepare(&self, config: TokenConfig) -> Result<PreparedKeys, LoadError> {
        self.keys.prepare(config).await
    }

    /// Lets other keys and rules be in use; tokens that were verified with others are verified again. Returns whether the keys
    /// are others than before.
    pub(crate) fn adopt(&self, prepared: PreparedKeys) -> bool {
        self.keys.adopt(prepared)
    }

    /// Keeps the keys up to date. Never returns.
    pub(crate) async fn follow_keys(&self) {
        self.keys.run(|| self.cache.clear()).await;
    }

    pub(crate) fn stats(&self) -> TokenStats {
        TokenStats {
            keys: self.keys.age(),
            cache: self.cache.stats(),
        }
    }
}

fn judge(verified: Verified, rules: &ClaimRules, now: Now) -> Result<Arc<Identity>, Outcome> {
    verified.lifetime.judge(now.unix, rules.leeway)?;
    Ok(verified.identity)
}
