//! The parameters of a run of the model: the calls, the faults, the properties, and the rule that is removed.

use crate::state::{CALLS, Cell, Faults, INSTANCES, Property};

/// The length of a view, in ticks, the unit of time. A row must be known for as long before it is acted on.
pub(crate) const LEASE: u8 = 2;
/// Statements end within a tick: one that is sent runs in the same tick or not at all.
pub(crate) const DEADLINE: u8 = 1;
/// The bound on the age of an answer in `bounded`, in ticks.
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
    /// The calls, each with its instance. Equal calls begin in their order.
    pub(crate) calls: [Option<(usize, Does)>; CALLS],
    /// Whether instances must renew their view; otherwise it is valid for ever.
    pub(crate) epochs: bool,
    /// Whether time may pass between a poll and its answer, and between a change of the row and its commit.
    pub(crate) slow_postgres: bool,
    /// Which instances poll the row. The others keep the view that they have.
    pub(crate) polls: [bool; INSTANCES],
    /// Whether time passes.
    pub(crate) clock: bool,
    /// The time to live of a fence.
    pub(crate) fence: u8,
    /// Whether the run begins after a split: another Redis has started from the snapshot and holds the other keyspace.
    pub(crate) split: bool,
    /// Which keyspace each instance is connected to at first.
    pub(crate) connected: [u8; INSTANCES],
    /// Whether the two keyspaces are databases of one Redis.
    pub(crate) databases: bool,
    /// Whether nothing has been decided yet at the beginning.
    pub(crate) fresh: bool,
    pub(crate) faults: Faults,
    /// The cell at the beginning.
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

/// A rule of the protocol, which a run can omit to show that it is needed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Rule {
    /// Only the holder of a lease may fill.
    LeaseToken,
    /// A write sets a fence before it commits.
    Fence,
    /// A fence outlasts the statements that it protects.
    FenceOutlastsStatement,
    /// A write is acknowledged only after its release was answered.
    ReleaseBeforeAcknowledgement,
    /// The release was answered under a view that was still valid.
    ReleaseUnderView,
    /// A fence names all its writers. Without the rule, it names only the last one.
    IdsNotLast,
    /// A fence names all its writers. Without the rule, it counts them.
    IdsNotCounter,
    /// A database read that could not be stored removes older values.
    Seal,
    /// A flight is shared with late joiners only if its fill succeeded.
    ShareOnlyFilled,
    /// A value that was invalidated while it was loaded is not kept.
    Generation,
    /// A write drops its own instance's near entry.
    DropOwn,
    /// The nil push of a flush drops everything.
    NilPush,
    /// The end of the connection drops everything.
    DropOnDisconnect,
    /// A PING counts from when it was sent.
    PingBySending,
    /// The tick of the clock is subtracted from the bound.
    ClockTick,
    /// Default tracking instead of broadcasts.
    NoBroadcast,
    /// Only replies to tracked reads are kept.
    TrackedReply,
    /// A near hit needs a valid view.
    NearUnderView,
    /// A row is acted on only once it was known for a lease.
    EpochWaits,
    /// A row is known since it was first seen. Without the rule, since it was written.
    KnownSinceSeen,
    /// Recovery begins a new epoch.
    NewEpochOnRecovery,
    /// A poll counts from when it was sent.
    PollBySending,
    /// A statement ends within its view.
    StatementWithinView,
    /// A keyspace is trusted for the proof in it. Without the rule, for the run of its Redis.
    Keyspace,
    /// The proof names the run for which it was written.
    ProofNamesRun,
    /// Each command reads the proof with its cells. Without the rule, only the connect does.
    ProofInCommand,
    /// A missing proof is put back only where no databases were swapped since it was seen.
    ProofPutBackIfUnswapped,
    /// An undecided row is not acted on.
    UndecidedWaits,
}
