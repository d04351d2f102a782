//! The present link to Redis, and since when it is there or not, and proves what is trusted. Invariant: an outage shorter
//! than the patience, or a return shorter than that, changes nothing for others.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwapOption;

use crate::{
    clock,
    epoch::{Nonce, Row, Sight},
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
    what: What,
    since: Moment,
}

#[derive(Clone, Copy)]
enum What {
    Nothing,
    /// A link, which does not prove what is trusted.
    Link,
    /// A link that is used for this keyspace.
    Keyspace(Nonce),
}

impl Links {
    pub(crate) fn new() -> Self {
        let since = clock::now();
        Self {
            current: ArcSwapOption::empty(),
            seen: Mutex::new(Seen {
                what: What::Nothing,
                since,
            }),
        }
    }

    /// The link to this keyspace, if there is one that works.
    pub(crate) fn to(&self, keyspace: Nonce) -> Option<Arc<Link>> {
        self.current().filter(|link| link.keyspace() == Some(keyspace))
    }

    pub(crate) fn current(&self) -> Option<Arc<Link>> {
        self.current.load_full().filter(|link| !link.is_broken())
    }

    pub(crate) fn install(&self, link: Arc<Link>) {
        self.note(match link.keyspace() {
            Some(keyspace) => What::Keyspace(keyspace),
            None => What::Link,
        });
        self.current.store(Some(link));
    }

    /// Notes that the present link is used for this keyspace now.
    pub(crate) fn prove(&self, keyspace: Nonce) {
        self.note(What::Keyspace(keyspace));
    }

    /// Takes this link away, unless another has taken its place.
    pub(crate) fn discard(&self, link: &Arc<Link>) {
        let current = self.current.load();
        let is_it = |it: &Option<Arc<Link>>| it.as_ref().is_some_and(|it| Arc::ptr_eq(it, link));
        if is_it(&current) && is_it(&self.current.compare_and_swap(&current, None)) {
            self.note(What::Nothing);
        }
    }

    pub(crate) fn remove(&self) {
        self.current.store(None);
        self.note(What::Nothing);
    }

    /// What has been seen for `patience`, with a view to this row; `None` if that changed since.
    pub(crate) fn sight(&self, row: &Row, now: Moment, patience: Duration) -> Option<Sight> {
        let seen = *self.seen();
        (now.since(seen.since) >= patience).then_some(match seen.what {
            What::Nothing => Sight::Unreachable,
            What::Keyspace(keyspace) if row.keyspace() == Some(keyspace) => Sight::Proves,
            What::Link | What::Keyspace(_) => Sight::Answers,
        })
    }

    /// How long until [`sight`](Self::sight) is sure; zero if it is.
    pub(crate) fn unsure_for(&self, now: Moment, patience: Duration) -> Duration {
        patience.saturating_sub(now.since(self.seen().since))
    }

    fn note(&self, what: What) {
        let since = clock::now();
        *self.seen() = Seen { what, since };
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
