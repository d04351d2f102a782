//! The whole protocol keeps its promises.

use std::time::Instant;

use crate::{
    rules::{
        Does::{Delete, Read, Write},
        Mode, Scenario,
    },
    search::explore,
    state::{Cell, Faults, Property},
};

const A: usize = 0;
const B: usize = 1;

const NO_FAULTS: Faults = Faults {
    lost: 0,
    crash: 0,
    cut: 0,
    evict: 0,
    wipe: 0,
    restart: 0,
    split: 0,
    save: 0,
    late: 0,
};

/// Two writers and three readers at two instances, in one epoch.
pub(crate) const STRONG: Scenario = Scenario {
    mode: Mode::Strong,
    calls: [
        Some((A, Write)),
        Some((B, Write)),
        Some((A, Read)),
        Some((B, Read)),
        Some((B, Read)),
    ],
    epochs: false,
    polls: [true; 2],
    clock: true,
    faults: NO_FAULTS,
    start: Cell::Empty,
    holds: &[Property::ReadAfterWrite, Property::GoingBack],
    without: None,
};

fn keeps_its_promises(scenario: &Scenario) {
    let started = Instant::now();
    let found = explore(scenario);
    println!(
        "{} states, {} deep, {:?}",
        found.states,
        found.depth,
        started.elapsed()
    );
    if let Some((what, trace)) = found.violation {
        panic!("{what}\n{}", trace.join("\n"));
    }
}

#[test]
fn strong_reads_hold_when_nothing_goes_wrong() {
    keeps_its_promises(&STRONG);
    let _ = Delete;
}
