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
    key_set::KeySet,
    source::{KeySource, LOAD_TIMEOUT, LoadError, Loader},
};

/// Shortest time between two loads for tokens with an unknown key id.
const UNKNOWN_ID_INTERVAL: Duration = Duration::from_secs(30);
/// Keys that are older than this are reported as a problem.
const DEGRADED_AFTER: Duration = Duration::from_secs(3600);

/// Keys with their number, which grows whenever they change.
#[derive(Debug)]
pub(super) struct CurrentKeys {
    pub(super) number: u64,
    pub(super) set: KeySet,
    /// The document, by which a change is noticed.
    document: Vec<u8>,
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

#[derive(Default)]
struct State {
    is_loading: bool,
    /// Whether a load is wanted that has not begun.
    is_wanted: bool,
    /// When an unknown key id last caused a load.
    asked: Option<Instant>,
    succeeded: Option<Instant>,
    /// Why the last load failed.
    problem: Option<String>,
}

/// How old the keys are, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyAge {
    /// The number of keys.
    pub(crate) keys: usize,
    /// The time since the keys were last read. `None` if they never were.
    pub(crate) age: Option<Duration>,
    /// Why they could not be read lately.
    pub(crate) problem: Option<String>,
}

impl KeyAge {
    /// What an operator should know: there are no keys, or they could not be read for an hour.
    pub(crate) fn problem(&self) -> Option<String> {
        let what = match self.age {
            None => "there are no keys of tokens yet, so no token is accepted".to_owned(),
            Some(age) if age > DEGRADED_AFTER => {
                format!("the keys of tokens were last read {} minutes ago", age.as_secs() / 60)
            }
            Some(_) => return None,
        };
        Some(match &self.problem {
            Some(problem) => format!("{what}: {problem}"),
            None => what,
        })
    }
}

impl KeyRefresh {
    pub(super) fn new(source: KeySource) -> Self {
        Self {
            loader: Loader::new(source),
            current: ArcSwapOption::empty(),
            state: Mutex::default(),
            wanted: Notify::new(),
            ended: watch::channel(0).0,
        }
    }

    /// The keys in use; `None` until the first load succeeded.
    pub(super) fn current(&self) -> arc_swap::Guard<Option<Arc<CurrentKeys>>> {
        self.current.load()
    }

    pub(super) fn is_remote(&self) -> bool {
        self.loader.source().is_remote()
    }

    /// How old the keys are.
    pub(super) fn age(&self) -> KeyAge {
        let keys = self.current().as_ref().map_or(0, |current| current.set.len());
        let state = self.state();
        let age = match self.loader.source().is_fixed() && keys > 0 {
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
        {
            let mut state = self.state();
            (state.is_loading, state.is_wanted) = (true, false);
        }
        let _loading = Loading(self);
        let loaded = self.loader.load().await;
        let mut state = self.state();
        match loaded {
            Ok((set, document)) => {
                state.succeeded = Some(Instant::now());
                state.problem = None;
                drop(state);
                Ok(self.replace(set, document))
            }
            Err(error) => {
                state.problem = Some(error.to_string());
                Err(error)
            }
        }
    }

    fn replace(&self, set: KeySet, document: Vec<u8>) -> bool {
        let current = self.current();
        let number = match &*current {
            Some(current) if current.document == document => return false,
            Some(current) => current.number + 1,
            None => 0,
        };
        self.current
            .store(Some(Arc::new(CurrentKeys { number, set, document })));
        true
    }

    /// Loads the keys whenever they are due. `changed` is called after each change. Never returns.
    pub(super) async fn run(&self, changed: impl Fn()) {
        let mut failing = false;
        loop {
            let loaded = self.load().await;
            match &loaded {
                Ok(true) => {
                    tracing::info!(source = %self.loader.source(), keys = self.age().keys, "keys of tokens loaded");
                    changed();
                }
                Ok(false) => {}
                Err(error) if !failing => tracing::warn!(%error, "cannot load the keys of tokens; trying again"),
                Err(error) => tracing::debug!(%error, "cannot load the keys of tokens"),
            }
            failing = loaded.is_err();
            self.ended.send_modify(|loads| *loads += 1);
            let has_keys = self.current().is_some();
            match self.loader.source().next_load(Instant::now(), !failing, has_keys) {
                Some(at) => tokio::select! {
                    () = sleep_until(at) => {}
                    () = self.is_wanted() => {}
                },
                None => std::future::pending().await,
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
            let is_due = state
                .asked
                .is_none_or(|asked| now.duration_since(asked) >= UNKNOWN_ID_INTERVAL);
            match (state.is_loading, is_due) {
                (true, _) => {}
                (false, true) => {
                    (state.asked, state.is_wanted) = (Some(now), true);
                    self.wanted.notify_one();
                }
                (false, false) => return false,
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
        self.0.state().is_loading = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_missing_or_an_hour_old_are_a_problem_and_a_recent_failure_is_none() {
        let problem = |age| {
            let problem = Some("cannot connect".to_owned());
            KeyAge { keys: 1, age, problem }.problem()
        };
        assert_eq!(problem(Some(DEGRADED_AFTER)), None);
        let old = problem(Some(DEGRADED_AFTER + Duration::from_secs(60)));
        assert_eq!(
            old.as_deref(),
            Some("the keys of tokens were last read 61 minutes ago: cannot connect")
        );
        assert!(problem(None).unwrap().contains("no token is accepted"));
    }
}
