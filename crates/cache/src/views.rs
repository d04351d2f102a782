//! What may be acted on at present. Invariant: a view is used only for its term, and never gives way to an older one.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tokio::sync::watch;

use crate::{epoch::View, moment::Moment};

/// The newest view, and a pulse for those who wait for another.
pub(crate) struct Views {
    newest: ArcSwapOption<View>,
    pulse: watch::Sender<()>,
}

impl Views {
    pub(crate) fn new() -> Self {
        Self {
            newest: ArcSwapOption::empty(),
            pulse: watch::Sender::new(()),
        }
    }

    /// The view to act on.
    pub(crate) fn valid(&self, now: Moment) -> Option<View> {
        self.newest().filter(|view| view.term.is_running(now))
    }

    /// The newest view, be its term over or not.
    pub(crate) fn newest(&self) -> Option<View> {
        self.newest.load().as_deref().copied()
    }

    /// Replaces the view. At the beginning of an epoch, `between` runs while there is none at all: whoever looks
    /// afterwards acts on the new epoch.
    pub(crate) fn install(&self, view: View, between: impl FnOnce()) {
        if self
            .newest()
            .is_some_and(|newest| newest.epoch != view.epoch)
        {
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
