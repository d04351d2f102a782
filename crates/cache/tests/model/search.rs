//! Breadth-first search of all states a model can reach. Invariant: every state is visited once, shallow ones first, so
//! the first violation found is one of the shortest.
//!
//! Of a state that was visited only a 64-bit hash is kept, with the hash of the one before it: two states in ten million
//! collide with a chance of one in 400 000. A trace is rebuilt by following the hashes.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt::Display,
    hash::{BuildHasher, Hash},
};

use foldhash::quality::FixedState;

/// A model whose states can be searched.
pub(crate) trait Model {
    type State: Copy + Hash;
    type Label: Display;

    fn initial(&self) -> Self::State;
    /// Calls `emit` for every possible next step.
    fn steps(&self, state: &Self::State, emit: &mut dyn FnMut(Self::Label, Self::State));
    /// The property that a state violates, if any.
    fn violation(&self, state: &Self::State) -> Option<String>;
    /// Describes a state in one line, for traces.
    fn describe(&self, state: &Self::State) -> String;
}

/// The result of a search.
#[derive(Debug)]
pub(crate) struct Found {
    /// How many states were visited.
    pub(crate) states: usize,
    /// The most steps from the initial state.
    pub(crate) depth: usize,
    /// The violation, if there is one, and the steps that lead to it.
    pub(crate) violation: Option<(String, Vec<String>)>,
}

/// A model that outgrows this is a mistake: it would fill the memory of the machine.
const MOST_STATES: usize = 40_000_000;

/// Searches until all states are visited or a violation is found.
pub(crate) fn explore<M: Model>(model: &M) -> Found {
    let hasher = FixedState::with_seed(0);
    let initial = model.initial();
    let root = hasher.hash_one(initial);
    // From each state's hash to its predecessor's.
    let mut visited = HashMap::with_hasher(FixedState::with_seed(1));
    visited.insert(root, root);
    let mut level = vec![initial];
    let mut depth = 0;
    while !level.is_empty() {
        let mut next = Vec::new();
        let mut broken = None;
        for state in &level {
            let from = hasher.hash_one(state);
            model.steps(state, &mut |_, reached| {
                let hash = hasher.hash_one(reached);
                if let Entry::Vacant(vacant) = visited.entry(hash) {
                    vacant.insert(from);
                    next.push(reached);
                    if broken.is_none() {
                        broken = model.violation(&reached).map(|what| (what, hash));
                    }
                }
            });
            if broken.is_some() {
                break;
            }
        }
        let violation = broken.map(|(what, hash)| {
            let mut path = vec![hash];
            while let Some(&before) = path.last().and_then(|last| visited.get(last)) {
                if path.last() == Some(&before) {
                    break;
                }
                path.push(before);
            }
            (what, retrace(model, path.into_iter().rev().skip(1)))
        });
        if violation.is_some() || next.is_empty() {
            return Found {
                states: visited.len(),
                depth: depth + usize::from(violation.is_some()),
                violation,
            };
        }
        level = next;
        depth += 1;
        assert!(visited.len() < MOST_STATES, "too many states, {depth} deep");
    }
    unreachable!("a level without states ends the search")
}

/// The steps through the states with these hashes.
fn retrace<M: Model>(model: &M, hashes: impl Iterator<Item = u64>) -> Vec<String> {
    let hasher = FixedState::with_seed(0);
    let mut state = model.initial();
    let mut lines = Vec::new();
    for hash in hashes {
        let mut reached = None;
        model.steps(&state, &mut |label, after| {
            if reached.is_none() && hasher.hash_one(after) == hash {
                reached = Some((label.to_string(), after));
            }
        });
        let (label, after) = reached.unwrap();
        lines.push(format!("{label:48} {}", model.describe(&after)));
        state = after;
    }
    lines
}
