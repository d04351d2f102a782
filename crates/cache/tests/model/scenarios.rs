//! The runs of the model: small enough to be searched in seconds, each about one kind of fault.

use crate::{
    rules::{
        Does::{self, Delete, Read, Write},
        Mode, Scenario,
    },
    state::{
        CALLS, Cell, Faults,
        Property::{self, GoingBack, ReadAfterWrite, Staleness, TwoEpochs},
    },
};

type Calls = [Option<(usize, Does)>; CALLS];

const A: usize = 0;
const B: usize = 1;

const NONE: Faults = Faults {
    lost: 0,
    crash: 0,
    cut: 0,
    evict: 0,
    wipe: 0,
    restart: 0,
    split: 0,
    save: 0,
    late: 0,
    forget: 0,
    swap: 0,
};

const STRONG: &[Property] = &[ReadAfterWrite, GoingBack];

const TWO_WRITERS: Calls = [
    Some((A, Write)),
    Some((B, Write)),
    Some((A, Read)),
    Some((B, Read)),
    Some((B, Read)),
];

const ONE_WRITER: Calls = [
    Some((A, Write)),
    Some((A, Read)),
    Some((B, Read)),
    Some((B, Read)),
    None,
];

const BASE: Scenario = Scenario {
    mode: Mode::Strong,
    calls: TWO_WRITERS,
    epochs: false,
    slow_postgres: false,
    fence: 1,
    split: false,
    connected: [0, 0],
    databases: false,
    fresh: false,
    polls: [true; 2],
    clock: true,
    faults: NONE,
    start: Cell::Empty,
    holds: STRONG,
    without: None,
};

/// One process, no Redis.
pub(crate) const LOCAL: Scenario = Scenario {
    mode: Mode::Local,
    calls: [
        Some((A, Write)),
        Some((A, Delete)),
        Some((A, Read)),
        Some((A, Read)),
        Some((A, Read)),
    ],
    clock: false,
    holds: &[ReadAfterWrite],
    ..BASE
};

/// Redis loses cells; all instances reach it. Early expiry is a loss too, so no time passes.
pub(crate) const LOSS: Scenario = Scenario {
    clock: false,
    faults: Faults { evict: 1, ..NONE },
    ..BASE
};

/// Like [`LOSS`], and commands may stay unanswered and be executed after their sender has given up.
pub(crate) const LOSS_AND_STRAYS: Scenario = Scenario {
    calls: ONE_WRITER,
    faults: Faults {
        evict: 1,
        lost: 1,
        ..NONE
    },
    ..LOSS
};

/// The row is deleted and written again.
pub(crate) const DELETION: Scenario = Scenario {
    calls: [
        Some((A, Delete)),
        Some((B, Write)),
        Some((A, Read)),
        Some((B, Read)),
        Some((B, Read)),
    ],
    ..LOSS
};

/// An instance crashes and loses its memory.
pub(crate) const CRASH: Scenario = Scenario {
    faults: Faults {
        crash: 1,
        evict: 1,
        ..NONE
    },
    ..LOSS
};

/// Instances are cut off from Redis, which keeps its cells until they expire.
pub(crate) const CUT: Scenario = Scenario {
    faults: Faults { cut: 1, ..NONE },
    ..BASE
};

/// Like [`CUT`], and commands may stay unanswered.
pub(crate) const CUT_AND_STRAYS: Scenario = Scenario {
    calls: [
        Some((A, Write)),
        Some((A, Write)),
        Some((A, Read)),
        Some((A, Read)),
        Some((B, Read)),
    ],
    clock: false,
    faults: Faults {
        cut: 1,
        lost: 1,
        ..NONE
    },
    ..BASE
};

/// An instance is cut off and Redis loses a cell. Reads may go back, but never behind an acknowledgement.
pub(crate) const CUT_AND_LOSS: Scenario = Scenario {
    calls: ONE_WRITER,
    faults: Faults {
        cut: 1,
        evict: 1,
        lost: 1,
        ..NONE
    },
    holds: &[ReadAfterWrite],
    ..LOSS
};

/// Slow polls and slow changes of the row while the epoch is moved on: enough to find two epochs in use.
pub(crate) const EPOCHS: Scenario = Scenario {
    calls: [None; CALLS],
    epochs: true,
    slow_postgres: true,
    faults: Faults {
        split: 1,
        crash: 1,
        ..NONE
    },
    holds: &[TwoEpochs],
    ..BASE
};

/// Another Redis starts from a snapshot beside the first. Instance A, which writes, does not notice.
pub(crate) const SPLIT_FROM_WRITER: Scenario = Scenario {
    calls: ONE_WRITER,
    epochs: true,
    polls: [false, true],
    // Longer than a view, so that the search tells their effects apart.
    fence: 3,
    split: true,
    connected: [0, 1],
    start: Cell::Value(1),
    ..BASE
};

/// Like [`SPLIT_FROM_WRITER`], but instance A only reads.
pub(crate) const SPLIT_FROM_READER: Scenario = Scenario {
    calls: [Some((B, Write)), Some((A, Read)), Some((A, Read)), None, None],
    fence: 1,
    split: false,
    connected: [0, 0],
    faults: Faults { split: 1, ..NONE },
    ..SPLIT_FROM_WRITER
};

/// Redis restarts from a snapshot.
pub(crate) const RESTART: Scenario = Scenario {
    calls: [Some((A, Write)), Some((B, Read)), None, None, None],
    polls: [true; 2],
    fence: 1,
    split: false,
    connected: [0, 0],
    holds: &[ReadAfterWrite],
    faults: Faults { restart: 1, ..NONE },
    ..SPLIT_FROM_WRITER
};

/// Redis is unreachable for a while; the epoch advances to one without Redis, and then to one with it.
pub(crate) const OUTAGE: Scenario = Scenario {
    faults: Faults { cut: 1, ..NONE },
    ..RESTART
};

/// A commit takes effect after its deadline, and after its view. Only what is acknowledged must be seen.
pub(crate) const LATE: Scenario = Scenario {
    calls: [Some((A, Write)), Some((B, Read)), Some((B, Read)), None, None],
    polls: [true; 2],
    fence: 1,
    faults: Faults { late: 1, ..NONE },
    holds: &[ReadAfterWrite],
    ..SPLIT_FROM_WRITER
};

/// Near hits while another instance writes, and the tracked connection ends.
pub(crate) const BOUNDED_CUT: Scenario = Scenario {
    mode: Mode::Bounded,
    calls: [Some((B, Write)), Some((A, Read)), Some((A, Read)), None, None],
    start: Cell::Value(1),
    faults: Faults { cut: 1, ..NONE },
    holds: &[Staleness],
    ..BASE
};

/// Near hits while Redis loses the cell.
pub(crate) const BOUNDED_LOSS: Scenario = Scenario {
    faults: Faults {
        evict: 1,
        wipe: 1,
        ..NONE
    },
    ..BOUNDED_CUT
};

/// Near hits while the cell is loaded.
pub(crate) const BOUNDED_FILL: Scenario = Scenario {
    start: Cell::Empty,
    faults: NONE,
    ..BOUNDED_CUT
};

/// Near hits while the same instance writes.
pub(crate) const BOUNDED_OWN: Scenario = Scenario {
    calls: [Some((A, Write)), Some((A, Read)), Some((A, Read)), None, None],
    faults: NONE,
    ..BOUNDED_CUT
};

/// Near hits while there are two Redis and the epoch is moved on without instance A.
pub(crate) const BOUNDED_SPLIT: Scenario = Scenario {
    epochs: true,
    polls: [false, true],
    split: true,
    connected: [0, 1],
    faults: NONE,
    ..BOUNDED_CUT
};

/// Two instances are connected to different databases of one Redis, whose run is trusted.
pub(crate) const DATABASES: Scenario = Scenario {
    calls: [Some((B, Write)), Some((A, Read)), Some((A, Read)), None, None],
    epochs: true,
    databases: true,
    connected: [0, 1],
    start: Cell::Value(1),
    ..BASE
};

/// The databases of Redis are swapped and swapped back, and it loses the proof.
pub(crate) const SWAP: Scenario = Scenario {
    calls: [Some((A, Write)), Some((B, Read)), None, None, None],
    epochs: true,
    databases: true,
    start: Cell::Value(1),
    faults: Faults {
        swap: 2,
        forget: 1,
        ..NONE
    },
    ..BASE
};

/// Like [`SWAP`], without a lease that could expire, and with more calls.
pub(crate) const SWAP_UNDER_LOAD: Scenario = Scenario {
    calls: ONE_WRITER,
    epochs: false,
    clock: false,
    ..SWAP
};

/// Redis is flushed, or loses the proof.
pub(crate) const FORGET: Scenario = Scenario {
    calls: ONE_WRITER,
    clock: false,
    faults: Faults {
        wipe: 1,
        forget: 1,
        ..NONE
    },
    ..BASE
};

/// Like [`FORGET`], and an instance crashes: it no longer knows where it saw the proof, so it is cut off until the other one
/// has put the proof back.
pub(crate) const FORGET_AND_CRASH: Scenario = Scenario {
    faults: Faults {
        crash: 1,
        ..FORGET.faults
    },
    holds: &[ReadAfterWrite],
    ..FORGET
};

/// Near hits while databases are swapped.
pub(crate) const BOUNDED_SWAP: Scenario = Scenario {
    databases: true,
    faults: Faults { swap: 2, ..NONE },
    ..BOUNDED_CUT
};

/// Nothing has been decided yet, and two instances start; polls are slow.
pub(crate) const FRESH_EPOCHS: Scenario = Scenario {
    fresh: true,
    faults: Faults {
        crash: 1,
        cut: 1,
        ..NONE
    },
    ..EPOCHS
};

/// Nothing has been decided yet, and two instances start and are used at once.
pub(crate) const FRESH: Scenario = Scenario {
    calls: [Some((A, Write)), Some((B, Read)), None, None, None],
    epochs: true,
    fresh: true,
    faults: Faults { cut: 1, ..NONE },
    ..BASE
};

const TWO_READS: Calls = [Some((A, Write)), Some((A, Read)), Some((B, Read)), None, None];

/// With reads of both instances, which must not go back.
pub(crate) const RESTART_WIDE: Scenario = Scenario {
    calls: TWO_READS,
    holds: STRONG,
    ..RESTART
};

/// With reads of both instances, which must not go back.
pub(crate) const OUTAGE_WIDE: Scenario = Scenario {
    calls: TWO_READS,
    holds: STRONG,
    ..OUTAGE
};

/// Two writers, with all faults in which the instances still reach Redis.
pub(crate) const LOSS_WIDE: Scenario = Scenario {
    faults: Faults {
        evict: 1,
        lost: 1,
        crash: 1,
        ..NONE
    },
    ..LOSS
};
