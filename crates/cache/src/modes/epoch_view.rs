//! The view of the epoch that may be acted on. Invariant: a view is used only for its term, and is never replaced by an
//! older one.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use crate::protocol::{epoch::View, time::BootTime};

/// The newest view, and a channel that wakes those who wait for another.
pub(crate) struct EpochView {
    newest: ArcSwapOption<View>,
    /// Why the row of the epoch cannot be read, if that does not pass by itself. Locked for a few instructions.
    unreadable: Mutex<Option<Arc<str>>>,
    changed: watch::Sender<()>,
}

impl EpochView {
    pub(crate) fn new() -> Self {
        Self {
            newest: ArcSwapOption::empty(),
            unreadable: Mutex::default(),
            changed: watch::Sender::new(()),
        }
    }

    /// The view to act on.
    pub(crate) fn valid(&self, now: BootTime) -> Option<View> {
        let newest = self.newest.load();
        newest.as_deref().filter(|view| view.term.is_running(now)).copied()
    }

    /// The newest view, even if its term is over.
    pub(crate) fn newest(&self) -> Option<View> {
        self.newest.load().as_deref().copied()
    }

    /// Replaces the view. At the beginning of an epoch, `between` runs while there is no view at all, so that what it drops
    /// is used in neither epoch.
    pub(crate) fn install(&self, view: View, between: impl FnOnce()) {
        if self.newest().is_some_and(|newest| newest.epoch != view.epoch) {
            self.newest.store(None);
            between();
        }
        self.newest.store(Some(Arc::new(view)));
        self.notify();
    }

    /// Notes why no view is possible until someone changes something, or with `None` that one is. Wakes those who wait for a
    /// view if that is new.
    pub(crate) fn set_unreadable(&self, why: Option<Arc<str>>) {
        let mut unreadable = self.unreadable.lock().unwrap_or_else(PoisonError::into_inner);
        let is_news = why.is_some() && unreadable.is_none();
        *unreadable = why;
        drop(unreadable);
        if is_news {
            self.notify();
        }
    }

    /// Why no view is possible, if waiting for one does not help.
    pub(crate) fn unreadable(&self) -> Option<Arc<str>> {
        let unreadable = self.unreadable.lock();
        unreadable.unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Wakes those who wait for a change of the view or of the session.
    pub(crate) fn notify(&self) {
        self.changed.send_replace(());
    }

    /// Receives changes of the view and of the session.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
