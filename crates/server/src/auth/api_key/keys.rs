//! Authenticates callers by their API keys.
//!
//! Invariant: twice a second the database confirms all known keys, so a revoked key is refused within a second while the
//! database answers. It is asked over a connection of its own: neither Redis, the service's load nor look-ups of other keys delay that.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval, timeout};

use super::{
    digest::{KeyDigest, KeyHasher},
    directory::{Directory, Found, KnownKey},
    format::{ApiKey, KeyText},
    lookup_limit::{LookupLimit, NoPermit},
};
use crate::{
    auth::{clock::Now, fingerprint::Fingerprints, identity::Identity, outcome::Outcome, scopes::Scopes},
    limits::Overrides,
    store::api_keys::{ApiKeys, KeyRow},
};

/// How often the database is asked which known keys have changed.
const CONFIRM_INTERVAL: Duration = Duration::from_millis(500);
/// Longest wait of a request for the database.
const LOOK_UP_TIMEOUT: Duration = Duration::from_secs(2);

/// From when on a missing confirmation is reported.
const UNCONFIRMED_TOO_LONG: Duration = Duration::from_secs(5);

/// Authenticates API keys.
pub(crate) struct Keys {
    hasher: KeyHasher,
    fingerprints: Fingerprints,
    directory: Directory,
    limit: LookupLimit,
    table: ApiKeys,
}

/// Statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeyStats {
    /// Keys in memory.
    pub(crate) known: usize,
    /// The time since the database last confirmed them.
    pub(crate) unconfirmed: Duration,
}

impl KeyStats {
    /// What an operator should know: the database has not confirmed the known keys lately.
    pub(crate) fn problem(self) -> Option<String> {
        (self.unconfirmed > UNCONFIRMED_TOO_LONG).then(|| {
            let seconds = self.unconfirmed.as_secs();
            format!("the database has not confirmed API keys for {seconds} s; known ones are accepted for AUTH_STALE")
        })
    }
}

impl Keys {
    /// Known keys go on for `stale` while the database is away.
    pub(crate) fn new(hasher: KeyHasher, stale: Duration, table: ApiKeys) -> Self {
        Self {
            hasher,
            fingerprints: Fingerprints::new(),
            directory: Directory::new(stale, Instant::now()),
            limit: LookupLimit::default(),
            table,
        }
    }

    /// Lets known keys go on for another time while the database is away.
    pub(crate) fn set_stale(&self, stale: Duration) {
        self.directory.set_stale(stale);
    }

    /// Looks a key up in memory.
    pub(crate) fn look_up(&self, key: KeyText<'_>, now: Now) -> Found {
        self.directory.get(self.fingerprints.of(key.expose()), now)
    }

    /// Looks a key up in the database. Waits about three seconds at the most.
    pub(crate) async fn resolve(&self, key: &ApiKey) -> Result<Arc<Identity>, Outcome> {
        let fingerprint = self.fingerprints.of(key.text().expose());
        let permit = self.limit.permit().await.map_err(|none| match none {
            NoPermit::TooMany => Outcome::Throttled,
            NoPermit::TooSlow => Outcome::Unavailable,
        })?;
        // Another request may have looked it up meanwhile.
        match self.directory.get(fingerprint, Now::read()) {
            Found::Valid(identity) => {
                permit.give_back();
                return Ok(identity);
            }
            Found::Refused(outcome) => {
                permit.give_back();
                return Err(outcome);
            }
            Found::Unknown => {}
        }
        let (asked, digest) = (Instant::now(), self.hasher.digest(key));
        let found = match timeout(LOOK_UP_TIMEOUT, self.table.find(&digest.0)).await {
            Ok(Ok(found)) => found,
            Ok(Err(error)) => {
                permit.give_back();
                tracing::debug!(%error, "cannot look up an API key");
                return Err(Outcome::Unavailable);
            }
            Err(_) => {
                permit.give_back();
                return Err(Outcome::Unavailable);
            }
        };
        let Some(row) = found else {
            self.directory.refuse(fingerprint, Outcome::Unknown, asked);
            return Err(Outcome::Unknown);
        };
        permit.give_back();
        if row.is_revoked {
            self.directory.refuse(fingerprint, Outcome::Revoked, asked);
            return Err(Outcome::Revoked);
        }
        self.directory.add(fingerprint, known(digest, &row), asked);
        match self.directory.get(fingerprint, Now::read()) {
            Found::Valid(identity) => Ok(identity),
            Found::Refused(outcome) => Err(outcome),
            // Evicted at once by the keys of others.
            Found::Unknown => Ok(known(digest, &row).identity()),
        }
    }

    /// Asks the database twice a second which known keys have changed, and notes which were used. Never returns.
    pub(crate) async fn follow(&self) {
        let mut ticks = interval(CONFIRM_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            ticks.tick().await;
            let confirmed = self.confirm().await;
            match &confirmed {
                Ok(()) if failing => tracing::info!("API keys are confirmed by the database again"),
                Ok(()) => {}
                Err(error) if !failing && self.directory.len() > 0 => {
                    tracing::warn!(%error, "the database does not confirm API keys; known ones go on for AUTH_STALE");
                }
                Err(error) => tracing::debug!(%error, "the database does not confirm API keys"),
            }
            failing = confirmed.is_err() && self.directory.len() > 0;
            if confirmed.is_ok() {
                self.note_uses().await;
            }
        }
    }

    async fn confirm(&self) -> Result<(), cenote_postgres::Error> {
        let asked = Instant::now();
        let known: Vec<_> = self
            .directory
            .stamps()
            .into_iter()
            .map(|(digest, stamp)| (digest.0, stamp))
            .collect();
        if known.is_empty() {
            return Ok(());
        }
        let changed = self.table.changed(&known).await?;
        self.directory.forget(&changed.into_iter().map(KeyDigest).collect());
        self.directory.confirm(asked);
        Ok(())
    }

    async fn note_uses(&self) {
        let used: Vec<_> = self
            .directory
            .take_used(Instant::now())
            .iter()
            .map(|digest| digest.0)
            .collect();
        if used.is_empty() {
            return;
        }
        // A standby cannot note it. The next use is noted in a minute.
        if let Err(error) = self.table.used(&used).await {
            tracing::debug!(%error, "cannot note which API keys are used");
        }
    }

    pub(crate) fn stats(&self) -> KeyStats {
        KeyStats {
            known: self.directory.len(),
            unconfirmed: match self.directory.len() {
                0 => Duration::ZERO,
                _ => self.directory.unconfirmed(Instant::now()),
            },
        }
    }

    pub(crate) async fn close(&self) {
        self.table.close().await;
    }
}

fn known(digest: KeyDigest, row: &KeyRow) -> KnownKey {
    let scopes = Scopes::of_known(&row.scopes);
    // `cenote key` stores only limits that can be parsed; of others the general ones hold.
    let limits = row.limits.as_deref().map(Overrides::parse).and_then(Result::ok);
    let identity = Identity::of_key(row.owner, &row.name, scopes, limits);
    KnownKey::new(digest, identity, row.expires, row.stamp)
}
