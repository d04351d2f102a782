//! The state of one connection, packed into one atomic word.
//!
//! Who writes which bit of the word:
//!
//! | Bits | Written by |
//! |---|---|
//! | `WOKEN` | set by any waker on any thread, cleared when a poll begins |
//! | `POLLING`, the wire bits | the thread that polls the driver; the driver's mutex allows one at a time |
//! | `FINISHED` | set once, under the driver's mutex |
//! | dirt, `STALE` | set while polling or by the connection's owner, cleared by the owner |
//! | `WAITERS` | set by waiting tasks, cleared when a poll ends |
//!
//! Why one load is enough: the whole state is one atomic, so its changes have one order. Sending a request wakes the
//! driver, so `WOKEN` precedes the sender's look in that order. Only the begin of a poll clears `WOKEN`, and sets
//! `POLLING` in the same step. Only the end of that poll clears `POLLING`, and publishes its result in the same step.
//! So a reader that sees neither sees the result. Acquire and release order only the memory outside the word.
//!
//! One gap remains: two threads send at the same instant, the first has taken the channel's waker and not yet set the
//! bit, and the second finds no waker. A client has one owner, so the first can only be a `Statement` that is dropped
//! elsewhere. The inspection at the next acquire sees it.
//!
//! Invariant: if all bits except `WAITERS` and `STALE` are zero, the connection is quiet, idle and, as far as can be
//! seen, clean.

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
/// Set together with `STATEMENTS`, cleared when the statement cache has been told.
const STALE: u32 = 1 << 4;

/// A request was sent that ReadyForQuery has not answered.
pub(super) const OWED: u32 = 1 << 8;
/// The last read returned data: answers may be undelivered in the driver.
pub(super) const UNDRAINED: u32 = 1 << 9;
/// Bytes were written since the last message that ends a request.
pub(super) const OPEN: u32 = 1 << 10;
/// The last write was not accepted.
pub(super) const BLOCKED: u32 = 1 << 11;
/// The conversation is over or no longer makes sense.
pub(super) const BROKEN: u32 = 1 << 12;
/// The server waits for COPY data.
pub(super) const COPY_IN: u32 = 1 << 13;
/// One more answer than expected may come. See [`Dirt::UNPROVEN`].
pub(super) const UNPROVEN: u32 = 1 << 14;
/// In a transaction block.
pub(super) const IN_TRANSACTION: u32 = 1 << 15;
/// In a failed transaction block.
pub(super) const FAILED: u32 = 1 << 16;

const SESSION: u32 = 1 << 24;
const STATEMENTS: u32 = 1 << 25;
const CLAIMED: u32 = 1 << 26;
const DIRT: u32 = SESSION | STATEMENTS | CLAIMED;

/// The transaction status of a quiet connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransactionStatus {
    /// No transaction block.
    Idle,
    /// In a transaction block.
    Open,
    /// In a transaction block that only accepts a rollback.
    Failed,
}

/// A set of reasons to clean a session before its next user.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dirt(u32);

impl Dirt {
    /// No reason was seen. The module `tap` lists what cannot be seen.
    pub(crate) const NONE: Self = Self(0);
    /// Settings, listeners, cursors, temporary objects or similar may have changed.
    pub(crate) const SESSION: Self = Self(SESSION);
    /// Prepared statements may have been dropped or created without the statement cache.
    pub(crate) const STATEMENTS: Self = Self(STATEMENTS);
    /// A command completed whose tag is that of a change to the session. The sender may know from its text that nothing
    /// has changed. See [`Status::excuse`].
    pub(crate) const CLAIMED: Self = Self(CLAIMED);
    /// A COPY failed. The server then sends one ReadyForQuery or two, depending on whether it had read the COPY's first
    /// Sync. Running any statement settles it: this bit is cleared, or the connection breaks.
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

/// Whether a connection may go to its next user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing is in flight in either direction.
    Quiet {
        /// Valid only because nothing is in flight.
        transaction: TransactionStatus,
        /// What to clean before the next user.
        dirt: Dirt,
    },
    /// The driver was woken, or another thread polls it. Poll it and look again.
    Busy,
    /// Something is unfinished that only the server or the holder of a stream can finish.
    Unfinished {
        /// A request was sent and is not fully answered.
        owed: bool,
        /// All received data was delivered. If not, somebody holds a stream without reading it.
        drained: bool,
        /// The server waits for COPY data, which only its sender can end.
        copy_in: bool,
    },
    /// The connection cannot be used. Close it.
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

    /// Whether somebody holds an unfinished stream or COPY.
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
    /// Returns the code, if it is five letters or digits as in the standard.
    pub(super) fn new(code: &[u8]) -> Option<Self> {
        let code: [u8; 5] = code.try_into().ok()?;
        code.iter().all(u8::is_ascii_alphanumeric).then_some(Self(code))
    }

    /// Returns the error to remember of two in a row: one about the server rather than about a statement, otherwise the
    /// later one.
    pub(super) fn more_telling(first: Option<Self>, second: Option<Self>) -> Option<Self> {
        match (first, second) {
            (Some(first), Some(second)) if first.is_about_server() && !second.is_about_server() => Some(first),
            _ => second.or(first),
        }
    }

    /// Whether it says that the server starts, stops or has become a standby.
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

/// The state that the tap, the driver and the owner of a connection share.
pub(super) struct Status {
    word: AtomicU32,
    /// The wire bits that the tap saw last. Accessed only inside a poll, under the driver's mutex, so `Relaxed` is
    /// enough.
    wire: AtomicU32,
    /// The SQLSTATE of the most important error, or zero. Written by the tap, taken by the owner.
    error: AtomicU64,
    /// The backend's process id, or zero. Written by the tap during start-up.
    process_id: AtomicU32,
    /// The number of completions with `CLAIMED`. Written by the tap.
    claims: AtomicU32,
    /// How many of them the owner has excused.
    excused: AtomicU32,
    /// The task that polls the driver.
    pub(super) task: AtomicWaker,
    /// Notified at the end of a poll if `WAITERS` is set.
    pub(super) changed: Notify,
}

impl Status {
    /// Creates a status that is woken: the driver was not polled yet.
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

    /// Begins a poll, if the driver was woken. The caller holds the driver's mutex and calls `end_poll` afterwards.
    #[must_use]
    pub(super) fn begin_poll(&self) -> bool {
        let woken = self.word.load(Ordering::Relaxed) & WOKEN != 0;
        if woken {
            // Nothing else clears WOKEN or sets POLLING, so one xor flips both.
            self.word.fetch_xor(WOKEN | POLLING, Ordering::AcqRel);
        }
        woken
    }

    /// Ends a poll and publishes the wire bits. `published` are those of the last poll, which nothing else changes. So
    /// flipping the difference needs no loop, and keeps the bits that others set meanwhile.
    pub(super) fn end_poll(&self, published: &mut u32) {
        let wire = self.wire.load(Ordering::Relaxed);
        let flip = POLLING | (*published ^ wire);
        *published = wire;
        let before = self.word.fetch_xor(flip, Ordering::AcqRel);
        if before & WAITERS != 0 {
            self.tell_waiters();
        }
    }

    /// Marks the connection as ended. Called under the driver's mutex, or when it is poisoned; nothing polls
    /// afterwards.
    pub(super) fn finish(&self) {
        self.word.fetch_or(FINISHED, Ordering::AcqRel);
        self.tell_waiters();
    }

    fn tell_waiters(&self) {
        self.word.fetch_and(!WAITERS, Ordering::AcqRel);
        self.changed.notify_waiters();
    }

    /// Has `changed` notified at the end of the next poll. Enable the notification first, then call this, then look at
    /// the state; otherwise a change in between is missed.
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

    /// Counts completions with [`Dirt::CLAIMED`], before the dirt is added.
    pub(super) fn add_claims(&self, claims: u32) {
        self.claims.fetch_add(claims, Ordering::Relaxed);
    }

    /// Excuses `claims` of them. Only after the commands have completed: a failed command has no tag.
    pub(super) fn excuse(&self, claims: u32) {
        self.excused.fetch_add(claims, Ordering::Relaxed);
    }

    /// Clears [`Dirt::CLAIMED`] if all of it is excused. Valid only after a quiet verdict, whose acquire load makes the
    /// earlier counts visible.
    pub(super) fn settle_claims(&self) {
        if self.claims.load(Ordering::Relaxed) == self.excused.load(Ordering::Relaxed) {
            self.clear_dirt(Dirt::CLAIMED);
        }
    }

    /// Clears dirt. Valid only after a quiet verdict: before it, the dirt of a delivered answer may not be published
    /// yet.
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
        // Most returns find no error, and a load costs less than a swap.
        if self.error.load(Ordering::Relaxed) == 0 {
            return None;
        }
        SqlStateCode::unpack(self.error.swap(0, Ordering::Relaxed))
    }

    /// Returns the error and keeps it.
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

/// The waker of tokio-postgres and of the socket.
impl Wake for Status {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // If it is set, the task was woken and has not polled since.
        if self.word.fetch_or(WOKEN, Ordering::AcqRel) & WOKEN == 0 {
            self.task.wake();
        }
    }
}
