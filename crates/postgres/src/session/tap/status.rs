//! The state of one connection, packed into a word anyone may read.
//!
//! Who writes which bit of the word:
//!
//! | Bits | Written by |
//! |---|---|
//! | `WOKEN` | set by any waker on any thread, cleared when a poll begins |
//! | `POLLING`, the wire bits | whoever polls the driver, which its mutex makes one at a time |
//! | `FINISHED` | set once, under the driver's mutex |
//! | dirt, `STALE` | set while polling or by the connection's owner, cleared by the owner |
//! | `WAITERS` | set by those who wait, cleared when a poll ends |
//!
//! Why a plain load is enough: all of it is one atomic, so its changes have one
//! order. Sending a request wakes the driver, so `WOKEN` is in that order before
//! the sender looks. Only the begin of a poll clears it, setting `POLLING` in the
//! same step; only the end of that poll clears `POLLING`, publishing in the same
//! step what the poll did. A reader that sees neither therefore sees the result.
//! Acquire and release only carry along what lies outside the word.
//!
//! The one gap: two threads sending at the same instant. The second finds the
//! channel's waker already taken by the first, which has yet to set the bit. As
//! a client belongs to one owner, only a `Statement` dropped elsewhere can be
//! that first; looking again when the connection is next taken sees it.
//!
//! Invariant: with every bit but `WAITERS` and `STALE` zero the connection is
//! quiet, idle and, as far as can be seen, clean.

use std::fmt;
use std::ops::BitOr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::task::Wake;

use futures_util::task::AtomicWaker;
use tokio::sync::Notify;

const WOKEN: u32 = 1 << 0;
const POLLING: u32 = 1 << 1;
const WAITERS: u32 = 1 << 2;
const FINISHED: u32 = 1 << 3;
/// Comes with `STATEMENTS`, and goes when those who cache statements have been told.
const STALE: u32 = 1 << 4;

/// A request sent and not yet answered by ReadyForQuery.
pub(super) const OWED: u32 = 1 << 8;
/// The last read gave something: answers may sit undelivered in the driver.
pub(super) const UNDRAINED: u32 = 1 << 9;
/// Bytes were written since the last message that ends a request.
pub(super) const OPEN: u32 = 1 << 10;
/// The last write was not accepted.
pub(super) const BLOCKED: u32 = 1 << 11;
/// The conversation is over or no longer makes sense.
pub(super) const BROKEN: u32 = 1 << 12;
/// The server waits for COPY data.
pub(super) const COPY_IN: u32 = 1 << 13;
/// One answer more than expected may be on its way, see [`Dirt::UNPROVEN`].
pub(super) const UNPROVEN: u32 = 1 << 14;
/// In a transaction block.
pub(super) const IN_TRANSACTION: u32 = 1 << 15;
/// In a failed transaction block.
pub(super) const FAILED: u32 = 1 << 16;

const SESSION: u32 = 1 << 24;
const STATEMENTS: u32 = 1 << 25;
const CLAIMED: u32 = 1 << 26;
const DIRT: u32 = SESSION | STATEMENTS | CLAIMED;

/// What a quiet connection's transaction is up to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransactionStatus {
    /// No transaction block.
    Idle,
    /// In a transaction block.
    Open,
    /// In a transaction block that only accepts a rollback.
    Failed,
}

/// A set of reasons not to hand a session to the next user as it is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dirt(u32);

impl Dirt {
    /// Nothing was seen; see the module's words on what cannot be seen.
    pub(crate) const NONE: Self = Self(0);
    /// Settings, listeners, cursors, temporary objects or the like were touched.
    pub(crate) const SESSION: Self = Self(SESSION);
    /// Prepared statements may have gone, or appeared, behind the back of those
    /// who cache them.
    pub(crate) const STATEMENTS: Self = Self(STATEMENTS);
    /// A command completed whose tag speaks of a change to the session. The sender may know from its text that
    /// nothing is left, see [`Status::excuse`].
    pub(crate) const CLAIMED: Self = Self(CLAIMED);
    /// A COPY failed, after which the server sends one ReadyForQuery or two,
    /// depending on whether it had read the COPY's first Sync. Running any
    /// statement settles it: either this goes away or the connection breaks.
    pub(crate) const UNPROVEN: Self = Self(UNPROVEN);

    pub(crate) fn is_none(self) -> bool {
        self.0 == 0
    }

    pub(crate) fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

impl BitOr for Dirt {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
}

impl fmt::Debug for Dirt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::SESSION, "session"),
            (Self::STATEMENTS, "statements"),
            (Self::CLAIMED, "claimed"),
            (Self::UNPROVEN, "unproven"),
        ];
        f.debug_set()
            .entries(
                names
                    .iter()
                    .filter(|(bit, _)| self.contains(*bit))
                    .map(|(_, name)| name),
            )
            .finish()
    }
}

/// The answer to "may someone else have this connection?".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing is in flight in either direction.
    Quiet {
        /// True only because nothing is in flight.
        transaction: TransactionStatus,
        /// What to put right before the next user.
        dirt: Dirt,
    },
    /// The driver was woken, or is being polled on another thread: poll it and
    /// look again.
    Busy,
    /// Something is unfinished, and only the server or a holder of a stream can
    /// finish it.
    Unfinished {
        /// A request was sent whose end has not been seen.
        owed: bool,
        /// All that was received has been delivered. If not, somebody holds a
        /// stream without reading it.
        drained: bool,
        /// The server waits for COPY data, which only its sender can end.
        copy_in: bool,
    },
    /// Destroy it.
    Broken,
}

impl Verdict {
    /// Whether cancelling the running statement can make the connection quiet.
    pub(crate) fn is_cancellable(self) -> bool {
        let hopeful = Self::Unfinished {
            owed: true,
            drained: true,
            copy_in: false,
        };
        self == hopeful
    }

    /// Whether somebody holds the receiving or the sending end of something unfinished.
    pub(crate) fn is_held(self) -> bool {
        matches!(
            self,
            Self::Unfinished { drained: false, .. } | Self::Unfinished { copy_in: true, .. }
        )
    }

    fn of(word: u32) -> Self {
        if word & !(WAITERS | STALE) == 0 {
            return Self::Quiet {
                transaction: TransactionStatus::Idle,
                dirt: Dirt::NONE,
            };
        }
        if word & (BROKEN | FINISHED) != 0 {
            return Self::Broken;
        }
        if word & (WOKEN | POLLING) != 0 {
            return Self::Busy;
        }
        if word & (OWED | UNDRAINED | OPEN | BLOCKED | COPY_IN) != 0 {
            return Self::Unfinished {
                owed: word & OWED != 0,
                drained: word & UNDRAINED == 0,
                copy_in: word & COPY_IN != 0,
            };
        }
        let transaction = match word & (IN_TRANSACTION | FAILED) {
            0 => TransactionStatus::Idle,
            IN_TRANSACTION => TransactionStatus::Open,
            _ => TransactionStatus::Failed,
        };
        Self::Quiet {
            transaction,
            dirt: Dirt(word & (DIRT | UNPROVEN)),
        }
    }
}

/// The five characters of an SQLSTATE.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct SqlStateCode([u8; 5]);

impl SqlStateCode {
    /// The code, if it is what the standard says it is: five letters or digits.
    pub(super) fn new(code: &[u8]) -> Option<Self> {
        let code: [u8; 5] = code.try_into().ok()?;
        code.iter().all(u8::is_ascii_alphanumeric).then_some(Self(code))
    }

    /// Of two errors in a row, the one to remember: one that is about the server
    /// rather than about a statement, else the later.
    pub(super) fn more_telling(first: Option<Self>, second: Option<Self>) -> Option<Self> {
        match (first, second) {
            (Some(first), Some(second)) if first.is_about_server() && !second.is_about_server() => Some(first),
            _ => second.or(first),
        }
    }

    /// Whether it says that the server comes or goes, or has become a standby.
    fn is_about_server(self) -> bool {
        matches!(&self.0, b"25006" | b"25P03") || self.0.starts_with(b"08") || self.0.starts_with(b"57P")
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("XX000")
    }

    fn pack(self) -> u64 {
        let [a, b, c, d, e] = self.0;
        u64::from_be_bytes([0, 0, 0, a, b, c, d, e])
    }

    fn unpack(packed: u64) -> Option<Self> {
        let [_, _, _, a, b, c, d, e] = packed.to_be_bytes();
        Self::new(&[a, b, c, d, e])
    }
}

impl fmt::Debug for SqlStateCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a connection's tap, its driver and its owner share.
pub(super) struct Status {
    word: AtomicU32,
    /// The wire bits as the tap last saw them. Written and read only inside a
    /// poll, that is under the driver's mutex, hence relaxed.
    wire: AtomicU32,
    /// The most telling error's SQLSTATE, or zero. Written by the tap, taken by the owner.
    error: AtomicU64,
    /// The backend's process id, or zero. Written by the tap during start-up.
    process_id: AtomicU32,
    /// Completions that came with `CLAIMED`. Written by the tap.
    claims: AtomicU32,
    /// How many of them are known to have left nothing. Written by the owner.
    excused: AtomicU32,
    /// The task that polls the driver.
    pub(super) task: AtomicWaker,
    /// Notified at the end of a poll if `WAITERS` is set.
    pub(super) changed: Notify,
}

impl Status {
    /// Starts out woken: the driver has yet to be polled for the first time.
    pub(super) fn new() -> Self {
        Self {
            word: AtomicU32::new(WOKEN),
            wire: AtomicU32::new(0),
            error: AtomicU64::new(0),
            process_id: AtomicU32::new(0),
            claims: AtomicU32::new(0),
            excused: AtomicU32::new(0),
            task: AtomicWaker::new(),
            changed: Notify::new(),
        }
    }

    pub(super) fn verdict(&self) -> Verdict {
        Verdict::of(self.word.load(Ordering::Acquire))
    }

    pub(super) fn is_finished(&self) -> bool {
        self.word.load(Ordering::Acquire) & FINISHED != 0
    }

    /// Begins a poll if there is a reason for one. The caller holds the driver's
    /// mutex, passes the wire bits last published, and calls `end_poll`.
    #[must_use]
    pub(super) fn begin_poll(&self) -> bool {
        let woken = self.word.load(Ordering::Relaxed) & WOKEN != 0;
        if woken {
            // Nobody else clears WOKEN or sets POLLING, so this flips both.
            self.word.fetch_xor(WOKEN | POLLING, Ordering::AcqRel);
        }
        woken
    }

    /// Ends a poll, publishing the wire bits. `published` are those of the last
    /// time, which nobody else changes: flipping the difference needs no loop and
    /// leaves alone what others set meanwhile.
    pub(super) fn end_poll(&self, published: &mut u32) {
        let wire = self.wire.load(Ordering::Relaxed);
        let flip = POLLING | (*published ^ wire);
        *published = wire;
        let before = self.word.fetch_xor(flip, Ordering::AcqRel);
        if before & WAITERS != 0 {
            self.tell_waiters();
        }
    }

    /// Called under the driver's mutex, or when it is poisoned: nobody polls
    /// afterwards.
    pub(super) fn finish(&self) {
        self.word.fetch_or(FINISHED, Ordering::AcqRel);
        self.tell_waiters();
    }

    fn tell_waiters(&self) {
        self.word.fetch_and(!WAITERS, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    /// Asks for `changed` to be notified at the end of the next poll. To be
    /// called with the notification already enabled, before looking.
    pub(super) fn expect_change(&self) {
        self.word.fetch_or(WAITERS, Ordering::AcqRel);
    }

    pub(super) fn set_wire(&self, bits: u32) {
        self.wire.store(bits, Ordering::Relaxed);
    }

    pub(super) fn add_dirt(&self, dirt: Dirt) {
        let stale = match dirt.contains(Dirt::STATEMENTS) {
            true => STALE,
            false => 0,
        };
        self.word.fetch_or(dirt.0 & DIRT | stale, Ordering::AcqRel);
    }

    /// Counts completions that come with [`Dirt::CLAIMED`], before that is added.
    pub(super) fn add_claims(&self, claims: u32) {
        self.claims.fetch_add(claims, Ordering::Relaxed);
    }

    /// Tells that so many of them left nothing. Only once they have completed: a command that failed has none.
    pub(super) fn excuse(&self, claims: u32) {
        self.excused.fetch_add(claims, Ordering::Relaxed);
    }

    /// Forgets [`Dirt::CLAIMED`] if all of it is excused. Sound only after a quiet verdict, which carries along what was
    /// counted before it.
    pub(super) fn settle_claims(&self) {
        if self.claims.load(Ordering::Relaxed) == self.excused.load(Ordering::Relaxed) {
            self.clear_dirt(Dirt::CLAIMED);
        }
    }

    /// Sound only after a quiet verdict: before it, the dirt of statements whose
    /// answer was delivered may not be published yet.
    pub(super) fn clear_dirt(&self, dirt: Dirt) {
        if dirt.contains(Dirt::CLAIMED) {
            self.excused
                .store(self.claims.load(Ordering::Relaxed), Ordering::Relaxed);
        }
        self.word.fetch_and(!(dirt.0 & DIRT), Ordering::AcqRel);
    }

    pub(super) fn take_stale(&self) -> bool {
        self.word.load(Ordering::Relaxed) & STALE != 0 && self.word.fetch_and(!STALE, Ordering::AcqRel) & STALE != 0
    }

    pub(super) fn set_error(&self, code: SqlStateCode) {
        let before = SqlStateCode::unpack(self.error.load(Ordering::Relaxed));
        if let Some(code) = SqlStateCode::more_telling(before, Some(code)) {
            self.error.store(code.pack(), Ordering::Relaxed);
        }
    }

    pub(super) fn take_error(&self) -> Option<SqlStateCode> {
        // Most returns find nothing; a load costs them less than a swap.
        if self.error.load(Ordering::Relaxed) == 0 {
            return None;
        }
        SqlStateCode::unpack(self.error.swap(0, Ordering::Relaxed))
    }

    /// The same, and leaves it.
    pub(super) fn error(&self) -> Option<SqlStateCode> {
        SqlStateCode::unpack(self.error.load(Ordering::Relaxed))
    }

    pub(super) fn set_process_id(&self, id: u32) {
        self.process_id.store(id, Ordering::Relaxed);
    }

    pub(super) fn process_id(&self) -> u32 {
        self.process_id.load(Ordering::Relaxed)
    }
}

/// The waker tokio-postgres and the socket get to see.
impl Wake for Status {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // Set already: the task was woken then and has not polled since.
        if self.word.fetch_or(WOKEN, Ordering::AcqRel) & WOKEN == 0 {
            self.task.wake();
        }
    }
}
