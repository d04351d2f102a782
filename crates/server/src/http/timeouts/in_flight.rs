//! A request in flight, as the connection's [`Activity`] counts it.
//!
//! Invariant: the counts of an [`Activity`] are those of the [`InFlight`]s alive.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::http::Version;
use tokio::time::Instant;

use super::activity::{Activity, BUSY, IN_FLIGHT};

/// A request in flight, from its head to the end, or the drop, of its response body.
#[derive(Debug)]
pub(in crate::http) struct InFlight {
    activity: Arc<Activity>,
    /// Whether the peer waits for a handler; otherwise we wait for the peer to take bytes.
    busy: bool,
    /// When the last bytes of the request's head arrived, as [`Activity`] counts time.
    started: u64,
}

impl InFlight {
    /// Counts a request whose head has just arrived.
    pub(in crate::http) fn begin(activity: &Arc<Activity>, version: Version) -> Self {
        activity.counts.fetch_add(IN_FLIGHT | BUSY, Relaxed);
        activity.head_since.store(0, Relaxed);
        match version {
            Version::HTTP_2 => activity.http2.store(true, Relaxed),
            // HTTP/1.0 has no interim responses.
            _ => activity.may_send_interim.store(version == Version::HTTP_11, Relaxed),
        }
        Self {
            activity: Arc::clone(activity),
            busy: true,
            started: activity.last_read.load(Relaxed),
        }
    }

    pub(in crate::http) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// Returns the moment `later` after the last bytes of the request's head.
    pub(in crate::http) fn started_plus(&self, later: Duration) -> Instant {
        self.activity.instant(self.started, later)
    }

    /// Records that bytes are ready to send: from now on we wait for the peer. Returns the time, and how long the
    /// request has taken.
    pub(in crate::http) fn wait_for_peer(&mut self) -> (Instant, Duration) {
        let now = self.activity.now();
        self.activity.progress.store(now, Relaxed);
        self.activity.may_send_interim.store(false, Relaxed);
        if self.busy {
            self.busy = false;
            self.activity.counts.fetch_sub(BUSY, Relaxed);
        }
        let taken = Duration::from_micros(now.saturating_sub(self.started));
        (self.activity.instant(now, Duration::ZERO), taken)
    }

    /// Records that the response body has no bytes ready: the peer waits for us again.
    pub(in crate::http) fn wait_for_handler(&mut self) {
        if !self.busy {
            self.busy = true;
            self.activity.counts.fetch_add(BUSY, Relaxed);
        }
    }

    pub(in crate::http) fn is_busy(&self) -> bool {
        self.busy
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        // A request that was dropped unanswered still starts the idle timeout.
        if self.activity.progress.load(Relaxed) == 0 {
            self.activity.progress.store(self.started.max(1), Relaxed);
        }
        let mine = if self.busy { IN_FLIGHT | BUSY } else { IN_FLIGHT };
        self.activity.counts.fetch_sub(mine, Relaxed);
    }
}
