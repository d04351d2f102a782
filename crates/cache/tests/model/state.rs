//! The state of the model: one key, two instances, two keyspaces of one Redis or of two, one PostgreSQL, and up to five calls.
//! Invariant: states with the same possible futures are equal. So times are ages, which stop growing once they no longer
//! matter.

/// How many instances there are; A has number 0, B number 1.
pub(crate) const INSTANCES: usize = 2;
/// At most this many calls.
pub(crate) const CALLS: usize = 5;
/// Versions in the database: the first, and one for each write.
pub(crate) const VERSIONS: usize = 5;
/// Messages on their way to an instance.
pub(crate) const WIRE: usize = 8;
/// No age: it never happened, or long enough ago not to matter.
pub(crate) const NEVER: u8 = u8::MAX;
/// No epoch: the call goes to the database alone.
pub(crate) const NO_EPOCH: u8 = u8::MAX;
/// Nonces that name a keyspace: the one of the beginning, and one that each instance may propose.
pub(crate) const NONCES: usize = 1 + INSTANCES;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct State {
    pub(crate) database: Database,
    pub(crate) servers: [Server; 2],
    /// The number of swaps of their contents.
    pub(crate) swaps: u8,
    /// The cell of the first server in its last snapshot.
    pub(crate) saved: Cell,
    pub(crate) instances: [Instance; INSTANCES],
    pub(crate) calls: [Call; CALLS],
    /// A command whose sender has given up and which may still arrive.
    pub(crate) stray: Option<(Target, Command)>,
    /// The faults that may still happen.
    pub(crate) left: Faults,
    pub(crate) history: History,
    pub(crate) broken: Option<Property>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Database {
    pub(crate) version: u8,
    /// One bit for each version that is a delete.
    pub(crate) deletes: u8,
    pub(crate) row: Row,
    /// A change of the row that is not yet visible, and how long ago it was written.
    pub(crate) uncommitted: Option<(Row, u8)>,
    /// How long ago the row was written. No rule may depend on it.
    pub(crate) row_age: u8,
}

/// The row of the epoch.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Row {
    pub(crate) epoch: u8,
    pub(crate) trust: Trust,
    pub(crate) is_first: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Trust {
    Undecided,
    Nothing,
    /// The number of a nonce.
    Keyspace(u8),
}

/// What the ended calls require of later ones.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct History {
    pub(crate) acknowledged: u8,
    pub(crate) acknowledged_by: [u8; INSTANCES],
    /// How long ago each version was acknowledged.
    pub(crate) acknowledged_ago: [u8; VERSIONS],
    /// The newest version that a read has returned.
    pub(crate) read: u8,
}

/// One database of a Redis, as its clients see it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Server {
    pub(crate) alive: bool,
    /// Which run of which Redis it belongs to.
    pub(crate) run: u8,
    /// One for each epoch that may have a Redis: the first and the third.
    pub(crate) cells: [Cell; 2],
    /// For each nonce the cell that proves it: it holds the run for which it was written.
    pub(crate) proofs: [Option<u8>; NONCES],
    /// Whether it must tell instance A of the next change.
    pub(crate) tracked: bool,
    /// Whether it holds back a broadcast. Only without the rule that forbids broadcasts.
    pub(crate) held_back: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Cell {
    Empty,
    Value(u8),
    Absent,
    Lease(u8),
    /// `writers` has a bit for each.
    Fence {
        writers: u8,
        ttl: u8,
    },
}

/// The version that a read found in the database or in a cell.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Seen {
    Value(u8),
    Absent,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Target {
    pub(crate) server: u8,
    pub(crate) epoch: u8,
    pub(crate) nonce: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Command {
    Lease(u8),
    Fence(u8),
    Release(u8),
    Fill { token: Option<u8>, seen: Seen },
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Instance {
    pub(crate) view: Option<View>,
    pub(crate) poll: Option<Poll>,
    pub(crate) known: Option<Known>,
    /// The server it is connected to, or was last.
    pub(crate) server: u8,
    /// Which proof it has seen there, and how many swaps of databases there had been by then.
    pub(crate) sighting: Option<(u8, u8)>,
    pub(crate) connection: Connection,
    pub(crate) near: Option<Seen>,
    /// Messages that the server has sent and the instance has not yet handled.
    pub(crate) wire: [Option<Message>; WIRE],
    /// When the PING under way was sent.
    pub(crate) ping: u8,
    /// When the newest PING that was answered was sent.
    pub(crate) proof: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct View {
    pub(crate) epoch: u8,
    pub(crate) keyspace: Option<u8>,
    pub(crate) age: u8,
}

/// A poll that was answered; the answer is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Poll {
    pub(crate) row: Row,
    pub(crate) row_age: u8,
    pub(crate) age: u8,
}

/// The newest row an instance has seen, and for how long it has known it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Known {
    pub(crate) row: Row,
    pub(crate) age: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Connection {
    Up,
    /// It has ended and the instance does not know it yet.
    Cut,
    Down,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Message {
    Reply(u8, Cell),
    Invalidate,
    Flush,
    Pong,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Call {
    pub(crate) at: At,
    pub(crate) target: Target,
    /// The oldest version a read may return, for each property.
    pub(crate) owed: Owed,
    /// Whether the generation has not moved since the request was sent.
    pub(crate) fresh: bool,
    /// How long ago the fence was set.
    pub(crate) age: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Owed {
    pub(crate) raw: u8,
    pub(crate) lin: u8,
    pub(crate) bounded: u8,
}

/// The progress of a call.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum At {
    /// Not begun, or ended without a visible result.
    Idle,
    Done,
    /// A read that will look into Redis.
    Looking,
    /// Its reply is on the wire.
    Awaiting,
    Received(Cell),
    /// A read that waits for the flight of another.
    Joined(u8),
    Loading {
        lease: bool,
    },
    Loaded {
        lease: bool,
        seen: Seen,
    },
    /// A write that does not know whether its fence is set.
    Fencing,
    Fenced,
    Committed(u8),
}

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Property {
    /// A read returned an older version than one acknowledged before it began.
    ReadAfterWrite,
    /// A read returned an older version than a read before it.
    GoingBack,
    /// A near hit was older than the bound, or than a write of its own instance.
    Staleness,
    /// Two instances acted on different epochs at once.
    TwoEpochs,
}

/// How often each fault may happen.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub(crate) struct Faults {
    /// A command is not answered; it may be carried out at once, later or never.
    pub(crate) lost: u8,
    /// An instance ends and starts anew.
    pub(crate) crash: u8,
    /// A connection between an instance and Redis ends.
    pub(crate) cut: u8,
    /// Redis loses the cell, as by eviction or early expiry.
    pub(crate) evict: u8,
    /// Redis is flushed.
    pub(crate) wipe: u8,
    /// Redis is killed, and another starts from the last snapshot.
    pub(crate) restart: u8,
    /// Another Redis starts from the last snapshot beside the first.
    pub(crate) split: u8,
    /// A snapshot is written.
    pub(crate) save: u8,
    /// A commit takes effect after its deadline.
    pub(crate) late: u8,
    /// Redis loses the proof, as by eviction.
    pub(crate) forget: u8,
    /// The two databases of one Redis are swapped.
    pub(crate) swap: u8,
}
