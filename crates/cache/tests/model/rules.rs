//! The parameters of a run of the model: the calls, the faults, the properties, and the rule that is removed.

use crate::state::{CALLS, Cell, Faults, INSTANCES, Property};

/// A tick is the unit of time. A view lasts this long, and a row must be known for as long to be acted on.
pub(crate) const LEASE: u8 = 2;
/// Statements are cut off after less than a tick: one that is dispatched runs in the same tick or not at all.
pub(crate) const DEADLINE: u8 = 1;
/// How old an answer may be in bounded mode.
pub(crate) const BOUND: u8 = 2;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Mode {
    Local,
    Strong,
    Bounded,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Does {
    Read,
    Write,
    Delete,
}

/// One run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) mode: Mode,
    /// Who calls what. Calls of one instance that are alike begin in their order.
    pub(crate) calls: [Option<(usize, Does)>; CALLS],
    /// Whether instances must renew their view; otherwise it is valid for ever.
    pub(crate) epochs: bool,
    /// Whether time may pass between a poll and its answer, and between a change of the row and its commit.
    pub(crate) slow_postgres: bool,
    /// Which instances poll the row. Another is left with the view it has.
    pub(crate) polls: [bool; INSTANCES],
    /// Whether time passes.
    pub(crate) clock: bool,
    /// The time to live of a fence.
    pub(crate) fence: u8,
    /// Whether it begins after a split: the other keyspace is there, in another Redis, which started from the snapshot.
    pub(crate) split: bool,
    /// Which keyspace each instance is connected to at first.
    pub(crate) connected: [u8; INSTANCES],
    /// Whether the two keyspaces are databases of one Redis.
    pub(crate) databases: bool,
    /// Whether nothing has been decided yet at the beginning.
    pub(crate) fresh: bool,
    pub(crate) faults: Faults,
    /// What the cell holds at the beginning.
    pub(crate) start: Cell,
    /// What must hold.
    pub(crate) holds: &'static [Property],
    pub(crate) without: Option<Rule>,
}

impl Scenario {
    pub(crate) fn lacks(&self, rule: Rule) -> bool {
        self.without == Some(rule)
    }

    pub(crate) fn promises(&self, property: Property) -> bool {
        self.holds.contains(&property)
    }
}

/// A rule of the protocol that can be taken away. Each is there because without it something breaks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rule {
    /// Only the holder of a lease may fill.
    LeaseToken,
    /// A write puts up a fence before it commits.
    Fence,
    /// A fence outlasts the statements behind it.
    FenceOutlastsStatement,
    /// A write is acknowledged only after its release was answered.
    ReleaseBeforeAcknowledgement,
    /// The release was answered under a view that was still valid.
    ReleaseUnderView,
    /// The fence names all its writers: taken away, it knows the last one only.
    IdsNotLast,
    /// The fence names all its writers: taken away, it counts them.
    IdsNotCounter,
    /// A database read that could not be stored removes what is older.
    Seal,
    /// A flight is shared with late joiners only if its fill succeeded.
    ShareOnlyFilled,
    /// What was invalidated on its way is not kept.
    Generation,
    /// A write drops its own instance's near entry.
    DropOwn,
    /// The nil push of a flush drops everything.
    NilPush,
    /// The end of the connection drops everything.
    DropOnDisconnect,
    /// A PING counts from when it was sent.
    PingBySending,
    /// The tick of the clock is taken off the bound.
    ClockTick,
    /// Default tracking instead of broadcasts.
    NoBroadcast,
    /// Only replies to tracked reads are kept.
    TrackedReply,
    /// A near hit needs a valid view.
    NearUnderView,
    /// A row is acted on only once it was known for a lease.
    EpochWaits,
    /// A row is known from when it was first seen: taken away, from when it was written.
    KnownSinceSeen,
    /// Recovery begins a new epoch.
    NewEpochOnRecovery,
    /// A poll counts from when it was sent.
    PollBySending,
    /// A statement ends within its view.
    StatementWithinView,
    /// A keyspace is trusted for what was written there: taken away, for the run of the Redis that it belongs to.
    Keyspace,
    /// The proof names the run for which it was written.
    ProofNamesRun,
    /// The proof is asked for in the same command as the cells: taken away, only when connecting.
    ProofInCommand,
    /// A proof that is gone is put back only where no databases were swapped since it was seen.
    ProofPutBackIfUnswapped,
    /// Nobody acts on a row about which nothing has been decided.
    UndecidedWaits,
}
