//! The present link to Redis, and since when it is there or not. Invariant: an outage shorter than the patience, or a
//! return shorter than that, changes nothing for others.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;

use crate::{
    clock,
    epoch::{Identity, Sight},
    link::Link,
    moment::Moment,
};

pub(crate) struct Links {
    current: ArcSwapOption<Link>,
    /// What the last change was: locked for a few instructions, never while waiting.
    seen: Mutex<Seen>,
}

#[derive(Clone, Copy)]
struct Seen {
    identity: Option<Identity>,
    since: Moment,
}

impl Links {
    pub(crate) fn new() -> Self {
        let since = clock::now();
        Self {
            current: ArcSwapOption::empty(),
            seen: Mutex::new(Seen {
                identity: None,
                since,
            }),
        }
    }

    /// The link to this run of a Redis, if there is one that works.
    pub(crate) fn to(&self, identity: Identity) -> Option<Arc<Link>> {
        self.current().filter(|link| link.identity() == identity)
    }

    pub(crate) fn current(&self) -> Option<Arc<Link>> {
        self.current.load_full().filter(|link| !link.is_broken())
    }

    pub(crate) fn install(&self, link: Arc<Link>) {
        self.note(Some(link.identity()));
        self.current.store(Some(link));
    }

    pub(crate) fn remove(&self) {
        self.current.store(None);
        self.note(None);
    }

    /// What has been seen for `patience`; `None` if that changed since.
    pub(crate) fn sight(&self, now: Moment, patience: Duration) -> Option<Sight> {
        let seen = *self.seen();
        (now.since(seen.since) >= patience).then_some(match seen.identity {
            Some(identity) => Sight::Answers(identity),
            None => Sight::Unreachable,
        })
    }

    /// How long until [`sight`](Self::sight) is sure; zero if it is.
    pub(crate) fn unsure_for(&self, now: Moment, patience: Duration) -> Duration {
        patience.saturating_sub(now.since(self.seen().since))
    }

    fn note(&self, identity: Option<Identity>) {
        let since = clock::now();
        *self.seen() = Seen { identity, since };
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
