//! What one connection is doing, noted by its socket and its requests, judged by its one timer.
//!
//! Invariant: a note costs a few relaxed atomic operations on memory of this connection alone; no note
//! touches a timer. Notes of an HTTP/1 connection all come from one task. Those of HTTP/2 streams come
//! from other tasks and may be seen late, which delays a verdict until the timer next fires.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use axum::http::Version;
use tokio::time::Instant;

use super::config::HttpConfig;

/// One request in flight, in the upper half of `counts`; the lower half counts those we are busy with.
const IN_FLIGHT: u32 = 1 << 16;
const BUSY: u32 = 1;

/// How long a peer may go on sending a body that is not read, after it was answered.
const LINGER: Duration = Duration::from_secs(1);

/// How often a peer that has ended its side while it waits for an answer is looked after.
const LOOK: Duration = Duration::from_secs(1);

/// How long after its request a peer that only has no more to say ends its side, at most. Later than that it has most
/// likely given up.
const EARLY: Duration = Duration::from_secs(1);

/// How often such a peer is sent something to learn whether it is still there; one that ended its side late is asked at
/// the first look.
const PROBE: Duration = Duration::from_secs(5);

/// Which limit a connection runs into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Limit {
    /// It never sent a byte.
    FirstByte,
    /// It does not finish the head of a request.
    Head,
    /// It sends no further request.
    Idle,
    /// It does not take what is sent to it.
    Stall,
    /// It does not end, though it was answered and told that nothing more is read.
    Linger,
    /// It has ended its side while it waits for an answer: time to look whether it has gone.
    HalfClosed,
}

/// What to do about a peer that has ended its side while it waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Ask the system whether the connection was reset.
    State,
    /// Also send something: if nobody reads any more, it is answered with a reset.
    Probe,
}

/// The notes. Times are microseconds since `epoch`, 0 meaning "not".
#[derive(Debug)]
pub(super) struct Activity {
    epoch: Instant,
    counts: AtomicU32,
    last_read: AtomicU64,
    /// When the head now arriving began. HTTP/1, and HTTP/2 before its first request.
    head_since: AtomicU64,
    /// When the last response, or piece of one, was handed to the peer's side. 0 before the first request.
    progress: AtomicU64,
    /// Since when the socket takes no bytes.
    blocked_since: AtomicU64,
    /// Since when the connection only waits for the peer to end.
    linger_since: AtomicU64,
    /// When the peer that waits for an answer is looked after next. 0 if it has not ended its side.
    look_at: AtomicU64,
    /// When it is sent something next.
    probe_at: AtomicU64,
    /// Whether the time of a look has come.
    look: AtomicBool,
    /// Whether the answer has not begun, and may be preceded by an interim one.
    interim: AtomicBool,
    http2: AtomicBool,
    /// Whether the body of a request is still to be read to its end.
    arriving_body: AtomicBool,
    unread_body: AtomicBool,
    reset: AtomicBool,
}

impl Activity {
    pub(super) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            counts: AtomicU32::new(0),
            last_read: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            progress: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
            linger_since: AtomicU64::new(0),
            look_at: AtomicU64::new(0),
            probe_at: AtomicU64::new(0),
            look: AtomicBool::new(false),
            interim: AtomicBool::new(false),
            http2: AtomicBool::new(false),
            arriving_body: AtomicBool::new(false),
            unread_body: AtomicBool::new(false),
            reset: AtomicBool::new(false),
        }
    }

    fn now(&self) -> u64 {
        micros(self.epoch.elapsed()).max(1)
    }

    fn at(&self, micros: u64, later: Duration) -> Instant {
        after(self.epoch + Duration::from_micros(micros), later)
    }

    /// Bytes came.
    pub(super) fn note_read(&self) {
        let now = self.now();
        self.last_read.store(now, Relaxed);
        if self.counts.load(Relaxed) < IN_FLIGHT && !self.http2.load(Relaxed) && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(now, Relaxed);
        }
    }

    /// The socket took bytes (`true`), or would not (`false`).
    pub(super) fn note_write(&self, taken: bool) {
        let blocked = self.blocked_since.load(Relaxed) != 0;
        if taken && blocked {
            self.blocked_since.store(0, Relaxed);
            self.progress.store(self.now(), Relaxed);
        } else if !taken && !blocked {
            self.blocked_since.store(self.now(), Relaxed);
        }
    }

    /// The body of a request begins to arrive, or is not read any further.
    pub(super) fn note_body(&self, arriving: bool) {
        self.arriving_body.store(arriving, Relaxed);
    }

    /// A request was dropped before its body was read to the end.
    pub(super) fn note_unread_body(&self) {
        self.unread_body.store(true, Relaxed);
    }

    /// Whether the peer may still be sending a body nobody wants.
    pub(super) fn has_unread_body(&self) -> bool {
        self.unread_body.load(Relaxed)
    }

    /// Nothing more is sent or wanted.
    pub(super) fn note_linger(&self) {
        self.linger_since.store(self.now(), Relaxed);
    }

    /// Asks that the socket be reset, so that the kernel frees at once what it has queued.
    pub(super) fn ask_reset(&self) {
        self.reset.store(true, Relaxed);
    }

    pub(super) fn wants_reset(&self) -> bool {
        self.reset.load(Relaxed)
    }

    pub(super) fn is_http2(&self) -> bool {
        self.http2.load(Relaxed)
    }

    /// Whether the peer of an HTTP/1 connection has sent a whole request and waits for the answer.
    pub(super) fn is_awaited(&self) -> bool {
        self.counts.load(Relaxed) >= IN_FLIGHT && !self.http2.load(Relaxed) && !self.arriving_body.load(Relaxed)
    }

    /// The peer has ended its side while it waits for an answer.
    pub(super) fn note_half_close(&self) {
        let now = self.now();
        let early = now.saturating_sub(self.last_read.load(Relaxed)) < micros(EARLY);
        let patience = if early { PROBE } else { LOOK };
        self.probe_at.store(now + micros(patience), Relaxed);
        self.look_at.store(now + micros(LOOK), Relaxed);
    }

    pub(super) fn is_half_closed(&self) -> bool {
        self.look_at.load(Relaxed) != 0
    }

    /// The time of a look has come.
    pub(super) fn ask_look(&self) {
        self.look.store(true, Relaxed);
    }

    /// What is to be done now about a peer that has ended its side.
    pub(super) fn take_look(&self) -> Option<Look> {
        if !self.look.swap(false, Relaxed) {
            return None;
        }
        let now = self.now();
        self.look_at.store(now + micros(LOOK), Relaxed);
        if now < self.probe_at.load(Relaxed) || !self.interim.load(Relaxed) {
            return Some(Look::State);
        }
        self.probe_at.store(now + micros(PROBE), Relaxed);
        Some(Look::Probe)
    }

    /// When the connection runs into which limit, or `None` while the work is ours.
    pub(super) fn due(&self, limits: &HttpConfig) -> Option<(Instant, Limit)> {
        let linger = self.linger_since.load(Relaxed);
        if linger != 0 {
            return Some((self.at(linger, LINGER), Limit::Linger));
        }
        let stall = limits.write_stall_timeout;
        let blocked = self.blocked_since.load(Relaxed);
        if blocked != 0 {
            return Some((self.at(blocked, stall), Limit::Stall));
        }
        let counts = self.counts.load(Relaxed);
        let progress = self.progress.load(Relaxed);
        if counts >= IN_FLIGHT {
            let busy = counts & (IN_FLIGHT - 1) != 0;
            let look = self.look_at.load(Relaxed);
            return match busy {
                false => Some((self.at(progress, stall), Limit::Stall)),
                true if look != 0 => Some((self.at(look, Duration::ZERO), Limit::HalfClosed)),
                true => None,
            };
        }
        let head = self.head_since.load(Relaxed);
        Some(if head != 0 {
            (self.at(head, limits.head_timeout), Limit::Head)
        } else if progress == 0 {
            (self.at(0, limits.first_byte_timeout), Limit::FirstByte)
        } else {
            (self.at(progress, limits.idle_timeout), Limit::Idle)
        })
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// The moment this long after another; for what is beyond the clock, one that never comes.
pub(super) fn after(start: Instant, time: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    start.checked_add(time).unwrap_or_else(|| start + NEVER)
}

/// A request in flight: from its head to the end, or the drop, of its response body.
#[derive(Debug)]
pub(super) struct InFlight {
    activity: Arc<Activity>,
    busy: bool,
    /// When the last bytes of the request's head came.
    started: u64,
}

impl InFlight {
    /// Counts a request whose head has just come.
    pub(super) fn begin(activity: &Arc<Activity>, version: Version) -> Self {
        activity.counts.fetch_add(IN_FLIGHT | BUSY, Relaxed);
        activity.head_since.store(0, Relaxed);
        match version {
            Version::HTTP_2 => activity.http2.store(true, Relaxed),
            // HTTP/1.0 knows no interim answers.
            _ => activity.interim.store(version == Version::HTTP_11, Relaxed),
        }
        Self {
            activity: Arc::clone(activity),
            busy: true,
            started: activity.last_read.load(Relaxed),
        }
    }

    pub(super) fn activity(&self) -> &Arc<Activity> {
        &self.activity
    }

    /// When the last bytes of the request's head came, plus `later`.
    pub(super) fn started_plus(&self, later: Duration) -> Instant {
        self.activity.at(self.started, later)
    }

    /// Something is ready to be sent: from here on the peer is the one to wait for. Returns the time, and how long the
    /// request has taken.
    pub(super) fn hand_over(&mut self) -> (Instant, Duration) {
        let now = self.activity.now();
        self.activity.progress.store(now, Relaxed);
        self.activity.interim.store(false, Relaxed);
        if self.busy {
            self.busy = false;
            self.activity.counts.fetch_sub(BUSY, Relaxed);
        }
        let taken = Duration::from_micros(now.saturating_sub(self.started));
        (self.activity.at(now, Duration::ZERO), taken)
    }

    /// The peer waits for us again.
    pub(super) fn take_back(&mut self) {
        if !self.busy {
            self.busy = true;
            self.activity.counts.fetch_add(BUSY, Relaxed);
        }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.activity.progress.load(Relaxed) == 0 {
            self.activity.progress.store(self.started.max(1), Relaxed);
        }
        let mine = if self.busy { IN_FLIGHT | BUSY } else { IN_FLIGHT };
        self.activity.counts.fetch_sub(mine, Relaxed);
    }
}
