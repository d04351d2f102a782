//! Log lines about a row of the epoch that cannot be read or changed. Invariant: each problem is logged once, with the
//! database's error, and so is its end.

use std::{fmt::Display, sync::Arc, time::Duration};

use crate::protocol::time::BootTime;

/// The problems of one poller.
#[derive(Default)]
pub(crate) struct RowReports {
    unread_since: Option<BootTime>,
    is_reported: bool,
    unchanged: bool,
}

impl RowReports {
    /// The row was read.
    pub(crate) fn read(&mut self) {
        self.unread_since = None;
        if std::mem::take(&mut self.is_reported) {
            tracing::info!("the row of the epoch can be read again");
        }
    }

    /// The row could not be read. Returns why, once that has lasted for a lease and does not pass by itself. A shorter
    /// failure is not unusual: the database may be restarting, or the table about to be created.
    pub(crate) fn not_read(
        &mut self,
        error: &dyn Display,
        is_permanent: bool,
        now: BootTime,
        lease: Duration,
    ) -> Option<Arc<str>> {
        let since = *self.unread_since.get_or_insert(now);
        if now.since(since) < lease {
            tracing::debug!(%error, "the epoch could not be read");
            return None;
        }
        if !std::mem::replace(&mut self.is_reported, true) {
            tracing::warn!(
                %error,
                "the row of the epoch cannot be read; until it can, nothing is cached and writes are refused"
            );
        }
        is_permanent.then(|| error.to_string().into())
    }

    /// Whether a change of the row is to be logged: not if the try before it failed.
    pub(crate) fn says_change(&self) -> bool {
        !self.unchanged
    }

    /// The row could not be changed, as in a database that is read-only.
    pub(crate) fn not_changed(&mut self, error: &dyn Display) {
        match std::mem::replace(&mut self.unchanged, true) {
            false => {
                tracing::warn!(%error, "the epoch could not be moved on; trying again until it can")
            }
            true => tracing::debug!(%error, "the epoch could not be moved on"),
        }
    }

    /// The row was changed, or need not be.
    pub(crate) fn changed(&mut self) {
        if std::mem::take(&mut self.unchanged) {
            tracing::info!("the epoch was moved on, or need not be any more");
        }
    }
}
