//! The current session with Redis, and how long it has been there or not. Invariant: an outage shorter than the patience, or a
//! recovery shorter than that, is not reported.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;

use crate::{
    clock,
    protocol::{
        epoch::{EpochRow, Nonce, Sight},
        time::BootTime,
    },
    redis::session::Session,
};

pub(crate) struct CurrentSession {
    current: ArcSwapOption<Session>,
    /// The last change. Locked for a few instructions, never across an await.
    last: Mutex<Observed>,
}

#[derive(Clone, Copy)]
struct Observed {
    what: Observation,
    since: BootTime,
}

#[derive(Clone, Copy)]
enum Observation {
    Nothing,
    /// A session that does not lead to the trusted keyspace.
    Session,
    /// A session that is used for this keyspace.
    Keyspace(Nonce),
}

impl CurrentSession {
    pub(crate) fn new() -> Self {
        let since = clock::now();
        Self {
            current: ArcSwapOption::empty(),
            last: Mutex::new(Observed {
                what: Observation::Nothing,
                since,
            }),
        }
    }

    /// The session with this keyspace, if there is one that works.
    pub(crate) fn to(&self, keyspace: Nonce) -> Option<Arc<Session>> {
        self.current().filter(|session| session.keyspace() == Some(keyspace))
    }

    pub(crate) fn current(&self) -> Option<Arc<Session>> {
        self.current.load_full().filter(|session| !session.is_broken())
    }

    pub(crate) fn install(&self, session: Arc<Session>) {
        self.note(match session.keyspace() {
            Some(keyspace) => Observation::Keyspace(keyspace),
            None => Observation::Session,
        });
        self.current.store(Some(session));
    }

    /// Notes that the current session is used for this keyspace from now on.
    pub(crate) fn prove(&self, keyspace: Nonce) {
        self.note(Observation::Keyspace(keyspace));
    }

    /// Removes this session, unless another has taken its place.
    pub(crate) fn discard(&self, session: &Arc<Session>) {
        let current = self.current.load();
        let is_it = |it: &Option<Arc<Session>>| it.as_ref().is_some_and(|it| Arc::ptr_eq(it, session));
        if is_it(&current) && is_it(&self.current.compare_and_swap(&current, None)) {
            self.note(Observation::Nothing);
        }
    }

    pub(crate) fn remove(&self) {
        self.current.store(None);
        self.note(Observation::Nothing);
    }

    /// What has been seen of the keyspace that this row trusts, for `patience` at least; `None` if that changed since.
    pub(crate) fn sight(&self, row: &EpochRow, now: BootTime, patience: Duration) -> Option<Sight> {
        let last = *self.observed();
        (now.since(last.since) >= patience).then_some(match last.what {
            Observation::Nothing => Sight::Unreachable,
            Observation::Keyspace(keyspace) if row.keyspace() == Some(keyspace) => Sight::Proves,
            Observation::Session | Observation::Keyspace(_) => Sight::Answers,
        })
    }

    /// How long until [`sight`](Self::sight) returns something; zero if it does.
    pub(crate) fn unsure_for(&self, now: BootTime, patience: Duration) -> Duration {
        patience.saturating_sub(now.since(self.observed().since))
    }

    fn note(&self, what: Observation) {
        let since = clock::now();
        *self.observed() = Observed { what, since };
    }

    fn observed(&self) -> MutexGuard<'_, Observed> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
