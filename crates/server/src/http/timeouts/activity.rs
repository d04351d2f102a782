//! A record of what one connection is doing: its socket and its requests write it, its timer reads it.
//!
//! Invariant: a write costs a few relaxed atomic operations on memory of this connection alone, and touches no timer.
//!
//! Relaxed ordering is enough: no field guards other memory, and a late read only delays a timeout until the timer next
//! fires. All writes of an HTTP/1 connection come from one task; those of HTTP/2 streams come from several.

use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::time::Instant;

use crate::http::config::HttpConfig;

/// `counts` holds two numbers: requests in flight in the upper 16 bits, those that wait for a handler in the lower.
pub(super) const IN_FLIGHT: u32 = 1 << 16;
pub(super) const BUSY: u32 = 1;

/// How long a peer may continue to send a body that nobody reads, after the response was sent.
const LINGER: Duration = Duration::from_secs(1);

/// How often a half-closed peer that waits for its response is checked.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// A peer that closes its side within this time after its request most likely only has nothing more to send. A peer
/// that closes later has most likely given up.
const EARLY: Duration = Duration::from_secs(1);

/// How often a half-closed peer is sent a probe. A peer that closed late gets one at the first check.
const PROBE_INTERVAL: Duration = Duration::from_secs(5);

/// The timeout that a connection reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Timeout {
    /// The peer does not finish what precedes HTTP, such as the TLS handshake.
    Opening,
    /// The peer never sent a byte.
    FirstByte,
    /// The peer does not finish the head of a request.
    Head,
    /// The peer sends no further request.
    Idle,
    /// The peer takes none of the bytes that wait for it.
    Stall,
    /// The peer keeps its side open after the response and the end of the stream were sent.
    Linger,
    /// The peer has closed its side while it waits for a response: time to check whether it is still there.
    HalfClosed,
}

/// How to check whether a half-closed peer is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum PeerCheck {
    /// Ask the kernel whether the connection was reset.
    SocketError,
    /// Also send bytes: the kernel of a peer that has gone answers them with a reset.
    Probe,
}

/// The record. Times are microseconds since `epoch`; 0 means "not set".
#[derive(Debug)]
pub(in crate::http) struct Activity {
    epoch: Instant,
    /// When what precedes HTTP must have ended. 0 if nothing precedes it, and afterwards.
    opening_until: AtomicU64,
    /// When the connection was ready for its first request. 0 if it was from the start.
    open_since: AtomicU64,
    pub(super) counts: AtomicU32,
    pub(super) last_read: AtomicU64,
    /// When the head that is arriving began. Used on HTTP/1, and on HTTP/2 before its first request.
    pub(super) head_since: AtomicU64,
    /// When the last response, or piece of one, was ready to send. 0 before the first request.
    pub(super) progress: AtomicU64,
    /// Since when the socket accepts no bytes.
    blocked_since: AtomicU64,
    /// Since when the connection only waits for the peer to close.
    linger_since: AtomicU64,
    /// When a half-closed peer is checked next. 0 while the peer has not closed its side.
    check_at: AtomicU64,
    /// When a half-closed peer is sent a probe next.
    probe_at: AtomicU64,
    /// Set by the timer when `check_at` has come; the socket clears it.
    check_requested: AtomicBool,
    /// Whether an interim response may still precede the response.
    pub(super) may_send_interim: AtomicBool,
    pub(super) http2: AtomicBool,
    /// Whether a request's body is still being read.
    arriving_body: AtomicBool,
    /// Whether a request was dropped before its body was read to the end.
    unread_body: AtomicBool,
    /// Whether the socket is to be reset when it is closed.
    reset: AtomicBool,
    /// Whether the connection is closed because no request came.
    idle_end: AtomicBool,
}

impl Activity {
    pub(in crate::http) fn new() -> Self {
        Self {
            epoch: Instant::now(),
            opening_until: AtomicU64::new(0),
            open_since: AtomicU64::new(0),
            counts: AtomicU32::new(0),
            last_read: AtomicU64::new(0),
            head_since: AtomicU64::new(0),
            progress: AtomicU64::new(0),
            blocked_since: AtomicU64::new(0),
            linger_since: AtomicU64::new(0),
            check_at: AtomicU64::new(0),
            probe_at: AtomicU64::new(0),
            check_requested: AtomicBool::new(false),
            may_send_interim: AtomicBool::new(false),
            http2: AtomicBool::new(false),
            arriving_body: AtomicBool::new(false),
            unread_body: AtomicBool::new(false),
            reset: AtomicBool::new(false),
            idle_end: AtomicBool::new(false),
        }
    }

    /// Microseconds since `epoch`, at least 1: 0 stands for "not set".
    pub(super) fn now(&self) -> u64 {
        micros(self.epoch.elapsed()).max(1)
    }

    pub(super) fn instant(&self, micros: u64, later: Duration) -> Instant {
        after(self.epoch + Duration::from_micros(micros), later)
    }

    /// Records that a step begins that precedes HTTP, and how long it may take.
    pub(in crate::http) fn note_opening(&self, within: Duration) {
        self.opening_until.store(self.now() + micros(within), Relaxed);
    }

    /// Records that the connection is ready for its first request.
    pub(in crate::http) fn note_open(&self) {
        self.opening_until.store(0, Relaxed);
        self.open_since.store(self.now(), Relaxed);
        // A handshake that had to wait for the peer counts as progress of a response.
        self.progress.store(0, Relaxed);
    }

    /// Records that bytes arrived.
    pub(in crate::http) fn note_read(&self) {
        let now = self.now();
        self.last_read.store(now, Relaxed);
        if self.counts.load(Relaxed) < IN_FLIGHT && !self.http2.load(Relaxed) && self.head_since.load(Relaxed) == 0 {
            self.head_since.store(now, Relaxed);
        }
    }

    /// Records that the socket accepted bytes (`true`) or was full (`false`).
    pub(in crate::http) fn note_write(&self, accepted: bool) {
        let blocked = self.blocked_since.load(Relaxed) != 0;
        if accepted && blocked {
            self.blocked_since.store(0, Relaxed);
            self.progress.store(self.now(), Relaxed);
        } else if !accepted && !blocked {
            self.blocked_since.store(self.now(), Relaxed);
        }
    }

    /// Records that a request's body begins to arrive (`true`) or is no longer read (`false`).
    pub(in crate::http) fn note_body(&self, arriving: bool) {
        self.arriving_body.store(arriving, Relaxed);
    }

    /// Records that a request was dropped before its body was read to the end.
    pub(in crate::http) fn note_unread_body(&self) {
        self.unread_body.store(true, Relaxed);
    }

    /// Whether the peer may still be sending a body that nobody reads.
    pub(in crate::http) fn has_unread_body(&self) -> bool {
        self.unread_body.load(Relaxed)
    }

    /// Records that the end of the stream was sent, and nothing more is expected.
    pub(in crate::http) fn note_linger(&self) {
        self.linger_since.store(self.now(), Relaxed);
    }

    /// Asks the socket to reset the connection when it is closed, so that the kernel frees its send queue at once.
    pub(super) fn request_reset(&self) {
        self.reset.store(true, Relaxed);
    }

    pub(in crate::http) fn wants_reset(&self) -> bool {
        self.reset.load(Relaxed)
    }

    /// Records that the connection is closed because no request came.
    pub(super) fn note_idle_end(&self) {
        self.idle_end.store(true, Relaxed);
    }

    pub(in crate::http) fn ended_idle(&self) -> bool {
        self.idle_end.load(Relaxed)
    }

    pub(super) fn is_http2(&self) -> bool {
        self.http2.load(Relaxed)
    }

    /// Whether the peer of an HTTP/1 connection has sent a whole request and waits for the response.
    pub(in crate::http) fn is_awaiting_response(&self) -> bool {
        self.counts.load(Relaxed) >= IN_FLIGHT && !self.http2.load(Relaxed) && !self.arriving_body.load(Relaxed)
    }

    /// Records that the peer closed its side while it waits for a response.
    pub(in crate::http) fn note_half_close(&self) {
        let now = self.now();
        let early = now.saturating_sub(self.last_read.load(Relaxed)) < micros(EARLY);
        let until_probe = if early { PROBE_INTERVAL } else { CHECK_INTERVAL };
        self.probe_at.store(now + micros(until_probe), Relaxed);
        self.check_at.store(now + micros(CHECK_INTERVAL), Relaxed);
    }

    pub(in crate::http) fn is_half_closed(&self) -> bool {
        self.check_at.load(Relaxed) != 0
    }

    /// Asks the socket to check the peer at its next poll.
    pub(super) fn request_peer_check(&self) {
        self.check_requested.store(true, Relaxed);
    }

    /// Takes the timer's request to check a half-closed peer, and schedules the next check.
    pub(in crate::http) fn take_peer_check(&self) -> Option<PeerCheck> {
        if !self.check_requested.swap(false, Relaxed) {
            return None;
        }
        let now = self.now();
        self.check_at.store(now + micros(CHECK_INTERVAL), Relaxed);
        if now < self.probe_at.load(Relaxed) || !self.may_send_interim.load(Relaxed) {
            return Some(PeerCheck::SocketError);
        }
        self.probe_at.store(now + micros(PROBE_INTERVAL), Relaxed);
        Some(PeerCheck::Probe)
    }

    /// Returns the connection's next deadline; `None` while the peer waits for a handler.
    pub(super) fn due(&self, limits: &HttpConfig) -> Option<(Instant, Timeout)> {
        let linger = self.linger_since.load(Relaxed);
        if linger != 0 {
            return Some((self.instant(linger, LINGER), Timeout::Linger));
        }
        let opening_until = self.opening_until.load(Relaxed);
        if opening_until != 0 {
            return Some((self.instant(opening_until, Duration::ZERO), Timeout::Opening));
        }
        let stall = limits.write_stall_timeout;
        let blocked = self.blocked_since.load(Relaxed);
        if blocked != 0 {
            return Some((self.instant(blocked, stall), Timeout::Stall));
        }
        let counts = self.counts.load(Relaxed);
        let progress = self.progress.load(Relaxed);
        if counts >= IN_FLIGHT {
            let busy = counts & (IN_FLIGHT - 1) != 0;
            let check = self.check_at.load(Relaxed);
            return match busy {
                false => Some((self.instant(progress, stall), Timeout::Stall)),
                true if check != 0 => Some((self.instant(check, Duration::ZERO), Timeout::HalfClosed)),
                true => None,
            };
        }
        let head = self.head_since.load(Relaxed);
        Some(if head != 0 {
            (self.instant(head, limits.head_timeout), Timeout::Head)
        } else if progress == 0 {
            let open_since = self.open_since.load(Relaxed);
            (self.instant(open_since, limits.first_byte_timeout), Timeout::FirstByte)
        } else {
            (self.instant(progress, limits.idle_timeout), Timeout::Idle)
        })
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Returns `start + time`, or a moment 30 years later where the clock cannot represent it.
pub(super) fn after(start: Instant, time: Duration) -> Instant {
    const NEVER: Duration = Duration::from_secs(30 * 365 * 24 * 3600);
    start.checked_add(time).unwrap_or_else(|| start + NEVER)
}
