//! What may be acted on at present. Invariant: a view is used only for its term, and never gives way to an older one.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use crate::{epoch::View, moment::Moment};

/// The newest view, and a pulse for those who wait for another.
pub(crate) struct Views {
    newest: ArcSwapOption<View>,
    /// Why the row of the epoch cannot be read, if that does not pass by itself.
    unreadable: Mutex<Option<Arc<str>>>,
    pulse: watch::Sender<()>,
}

impl Views {
    pub(crate) fn new() -> Self {
        Self {
            newest: ArcSwapOption::empty(),
            unreadable: Mutex::default(),
            pulse: watch::Sender::new(()),
        }
    }

    /// The view to act on.
    pub(crate) fn valid(&self, now: Moment) -> Option<View> {
        self.newest().filter(|view| view.term.is_running(now))
    }

    /// Takes note of why no view can be had before someone changes something; `None`: one can. Wakes those who wait for
    /// one if that is new.
    pub(crate) fn cannot_be_known(&self, why: Option<Arc<str>>) {
        let mut unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = why.is_some() && unreadable.is_none();
        *unreadable = why;
        drop(unreadable);
        if is_news {
            self.beat();
        }
    }

    /// Why no view can be had, if waiting for one does not help.
    pub(crate) fn unreadable(&self) -> Option<Arc<str>> {
        let unreadable = self.unreadable.lock();
        unreadable.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The newest view, be its term over or not.
    pub(crate) fn newest(&self) -> Option<View> {
        self.newest.load().as_deref().copied()
    }

    /// Replaces the view. At the beginning of an epoch, `between` runs while there is none at all: whoever looks
    /// afterwards acts on the new epoch.
    pub(crate) fn install(&self, view: View, between: impl FnOnce()) {
        if self.newest().is_some_and(|newest| newest.epoch != view.epoch) {
            self.newest.store(None);
            between();
        }
        self.newest.store(Some(Arc::new(view)));
        self.beat();
    }

    /// Wakes those who wait for a change, here or at a connection.
    pub(crate) fn beat(&self) {
        self.pulse.send_replace(());
    }

    pub(crate) fn pulse(&self) -> watch::Receiver<()> {
        self.pulse.subscribe()
    }
}
