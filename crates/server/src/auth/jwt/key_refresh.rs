//! Keeps the keys of tokens up to date.
//!
//! Invariant: one task loads them, so there is never more than one load at a time. Loaded keys stay in use until others
//! replace them, however long the source fails. A token with an unknown key id causes at most one load in 30 s.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout},
};

use super::{
    claims::ClaimRules,
    key_age::KeyAge,
    key_set::KeySet,
    source::{KeySource, LOAD_TIMEOUT, LoadError, Loader},
};

/// Shortest time between two loads for tokens with an unknown key id.
const UNKNOWN_ID_INTERVAL: Duration = Duration::from_secs(30);

/// What tokens are verified with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct TokenConfig {
    pub(crate) source: KeySource,
    pub(crate) rules: ClaimRules,
}

/// Keys and rules with their number, which grows whenever they change. They have no `Debug`, because the document may be a
/// secret.
pub(super) struct CurrentKeys {
    pub(super) number: u64,
    pub(super) set: Arc<KeySet>,
    /// Where the keys came from, and what else a token must meet.
    config: Arc<TokenConfig>,
    /// The document, by which a change is noticed.
    document: Vec<u8>,
}

impl CurrentKeys {
    pub(super) fn rules(&self) -> &ClaimRules {
        &self.config.rules
    }
}

/// Keys that were loaded and are not in use yet.
#[derive(Debug)]
pub(crate) struct PreparedKeys {
    config: Arc<TokenConfig>,
    /// `None`: the issuer did not answer, and its keys are in use already.
    loaded: Option<(Arc<KeySet>, Vec<u8>)>,
}

/// The keys in use, and what keeps them up to date.
pub(super) struct KeyRefresh {
    loader: Loader,
    current: ArcSwapOption<CurrentKeys>,
    state: Mutex<State>,
    /// Wakes the task for a token with an unknown key id.
    wanted: Notify,
    /// The number of loads that have ended.
    ended: watch::Sender<u64>,
}

struct State {
    config: Arc<TokenConfig>,
    is_loading: bool,
    /// Whether a load is wanted that has not begun.
    is_wanted: bool,
    /// When an unknown key id last caused a load.
    asked: Option<Instant>,
    /// Whether that load is wanted or runs.
    is_for_unknown_id: bool,
    succeeded: Option<Instant>,
    /// Why the last load failed.
    problem: Option<String>,
}

/// The load that a token with an unknown key id waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Awaited {
    None,
    /// The one that runs, or is wanted already.
    Next,
    /// One of its own.
    New,
}

impl State {
    fn succeed(&mut self) {
        self.succeeded = Some(Instant::now());
        self.problem = None;
    }

    /// Within the interval only a load for an unknown id is worth the wait: random ids may not make requests wait for
    /// other loads while the source hangs.
    fn awaited(&self, now: Instant) -> Awaited {
        let is_due = self
            .asked
            .is_none_or(|asked| now.duration_since(asked) >= UNKNOWN_ID_INTERVAL);
        match (self.is_for_unknown_id || self.is_loading && is_due, is_due) {
            (true, _) => Awaited::Next,
            (false, true) => Awaited::New,
            (false, false) => Awaited::None,
        }
    }
}

impl KeyRefresh {
    pub(super) fn new(config: TokenConfig) -> Self {
        Self {
            loader: Loader::default(),
            current: ArcSwapOption::empty(),
            state: Mutex::new(State {
                config: Arc::new(config),
                is_loading: false,
                is_wanted: false,
                asked: None,
                is_for_unknown_id: false,
                succeeded: None,
                problem: None,
            }),
            wanted: Notify::new(),
            ended: watch::channel(0).0,
        }
    }

    /// The keys in use; `None` until the first load succeeded.
    pub(super) fn current(&self) -> arc_swap::Guard<Option<Arc<CurrentKeys>>> {
        self.current.load()
    }

    fn config(&self) -> Arc<TokenConfig> {
        self.state().config.clone()
    }

    pub(super) fn is_remote(&self) -> bool {
        self.state().config.source.is_remote()
    }

    /// How old the keys are.
    pub(super) fn age(&self) -> KeyAge {
        let keys = self.current().as_ref().map_or(0, |current| current.set.len());
        let state = self.state();
        let age = match state.config.source.is_fixed() && keys > 0 {
            true => Some(Duration::ZERO),
            false => state.succeeded.map(|at| at.elapsed()),
        };
        KeyAge {
            keys,
            age,
            problem: state.problem.clone(),
        }
    }

    /// Loads the keys now. Returns whether they are others than before.
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the keys stay as they were.
    pub(super) async fn load(&self) -> Result<bool, LoadError> {
        let config = {
            let mut state = self.state();
            (state.is_loading, state.is_wanted) = (true, false);
            state.config.clone()
        };
        let _loading = Loading(self);
        let loaded = self.loader.load(&config.source).await;
        let mut state = self.state();
        // Meanwhile a reload may have named another source.
        let is_in_force = Arc::ptr_eq(&config, &state.config);
        match loaded {
            Ok((set, document)) if is_in_force => {
                state.succeed();
                Ok(self.replace(&mut state, config, Arc::new(set), document))
            }
            Ok(_) => Ok(false),
            Err(error) => {
                if is_in_force {
                    state.problem = Some(error.to_string());
                }
                Err(error)
            }
        }
    }

    /// Loads the keys of another source, or of the same with other rules, for [`adopt`](Self::adopt). An issuer that does
    /// not answer is an error only if its keys are not in use yet.
    pub(super) async fn prepare(&self, config: TokenConfig) -> Result<PreparedKeys, LoadError> {
        let before = self.config();
        let loaded = match self.loader.load(&config.source).await {
            Ok((set, document)) => Some((Arc::new(set), document)),
            Err(error) if config.source.is_remote() && config.source == before.source => {
                tracing::warn!(%error, "cannot load the keys of tokens; trying again");
                None
            }
            Err(error) => return Err(error),
        };
        // The same value is the same allocation, so that a load which is under way counts.
        let config = match config == *before {
            true => before,
            false => Arc::new(config),
        };
        Ok(PreparedKeys { config, loaded })
    }

    /// Lets other keys and rules be in use. Returns whether the keys are others than before.
    pub(super) fn adopt(&self, prepared: PreparedKeys) -> bool {
        let PreparedKeys { config, loaded } = prepared;
        let mut state = self.state();
        let document = loaded.as_ref().map(|(_, document)| document);
        let differs = document.is_some_and(|new| self.current().as_ref().is_none_or(|it| it.document != *new));
        let is_new = !Arc::ptr_eq(&config, &state.config);
        state.config = config.clone();
        let kept = || {
            let current = self.current();
            let current = current.as_ref().filter(|_| is_new)?;
            Some((current.set.clone(), current.document.clone()))
        };
        if loaded.is_some() {
            state.succeed();
        }
        if let Some((set, document)) = loaded.or_else(kept) {
            self.replace(&mut state, config, set, document);
        }
        if is_new {
            // The task follows the source that it knew.
            state.is_wanted = true;
            drop(state);
            self.wanted.notify_one();
        }
        differs
    }

    /// Returns whether the keys or the rules are others than before. It needs the lock, so that the load of a source that is
    /// no longer in force replaces nothing.
    fn replace(&self, _locked: &mut State, config: Arc<TokenConfig>, set: Arc<KeySet>, document: Vec<u8>) -> bool {
        let current = self.current();
        let number = match &*current {
            Some(current) if current.document == document && current.config == config => return false,
            Some(current) => current.number + 1,
            None => 0,
        };
        self.current.store(Some(Arc::new(CurrentKeys {
            number,
            set,
            config,
            document,
        })));
        true
    }

    /// Loads the keys whenever they are due. `changed` is called after each change. Never returns.
    pub(super) async fn run(&self, changed: impl Fn()) {
        let mut failing = false;
        loop {
            let loaded = self.load().await;
            match &loaded {
                Ok(true) => {
                    tracing::info!(source = %self.config().source, keys = self.age().keys, "keys of tokens loaded");
                    changed();
                }
                Ok(false) => {}
                Err(error) if !failing => tracing::warn!(%error, "cannot load the keys of tokens; trying again"),
                Err(error) => tracing::debug!(%error, "cannot load the keys of tokens"),
            }
            failing = loaded.is_err();
            self.ended.send_modify(|loads| *loads += 1);
            let has_keys = self.current().is_some();
            let due = self.config().source.next_load(Instant::now(), !failing, has_keys);
            let is_due = async {
                match due {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = is_due => {}
                () = self.is_wanted() => {}
            }
        }
    }

    /// Waits until a load is wanted. A wish from before the last load began was fulfilled by it.
    async fn is_wanted(&self) {
        while !self.state().is_wanted {
            self.wanted.notified().await;
        }
    }

    /// Waits for a load, because a token names a key that is not there. Returns `false` at once if there will be none.
    ///
    /// # Cancel safety
    ///
    /// The load goes on if the future is dropped.
    pub(super) async fn load_for_unknown_id(&self) -> bool {
        if !self.is_remote() {
            return false;
        }
        let mut ended = self.ended.subscribe();
        {
            let mut state = self.state();
            let now = Instant::now();
            match state.awaited(now) {
                Awaited::None => return false,
                Awaited::Next => {}
                Awaited::New => {
                    (state.asked, state.is_for_unknown_id) = (Some(now), true);
                    state.is_wanted = true;
                    self.wanted.notify_one();
                }
            }
        }
        // The task bounds the load; it may be a moment late.
        timeout(2 * LOAD_TIMEOUT, ended.changed()).await.is_ok()
    }

    /// Panics under this lock leave only a report, so a poisoned one is used on.
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Marks the end of a load, also if it is dropped.
struct Loading<'a>(&'a KeyRefresh);

impl Drop for Loading<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        (state.is_loading, state.is_for_unknown_id) = (false, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_id_waits_for_a_load_that_is_due_and_otherwise_only_for_one_with_its_cause() {
        let now = Instant::now();
        let source = KeySource::File("jwks.json".into());
        let refresh = KeyRefresh::new(TokenConfig {
            source,
            rules: ClaimRules::default(),
        });
        let mut state = refresh.state();
        assert_eq!(state.awaited(now), Awaited::New);
        state.is_loading = true;
        assert_eq!(state.awaited(now), Awaited::Next, "then for one of its own");
        state.asked = Some(now);
        assert_eq!(state.awaited(now), Awaited::None, "others waited lately");
        assert_eq!(state.awaited(now + UNKNOWN_ID_INTERVAL), Awaited::Next);
        for is_loading in [false, true] {
            (state.is_loading, state.is_for_unknown_id) = (is_loading, true);
            assert_eq!(state.awaited(now), Awaited::Next, "{is_loading}");
        }
        (state.is_loading, state.is_for_unknown_id) = (false, false);
        assert_eq!(state.awaited(now), Awaited::None);
        assert_eq!(state.awaited(now + UNKNOWN_ID_INTERVAL), Awaited::New);
    }
}
