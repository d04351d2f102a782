//! The faults. Invariant: each fault happens at most as often as the scenario allows.

use std::mem::swap;

use crate::{
    rules::{Mode, Scenario},
    state::{At, Cell, Connection, INSTANCES, Message, NONCES, State},
    world::{Emit, Label, Who},
};

impl Scenario {
    pub(crate) fn failures(&self, state: &State, emit: Emit<'_>) {
        let world = |what| Label { who: Who::World, what };
        if let Some((target, command)) = state.stray {
            let mut next = *state;
            next.stray = None;
            if state.servers[usize::from(target.server)].alive {
                self.execute_stray(&mut next, target, command);
            }
            emit(world("the unanswered command is carried out"), next);
        }
        for server in 0..2_u8 {
            if !state.servers[usize::from(server)].alive {
                continue;
            }
            if state.left.evict > 0 {
                for cell in 0..2 {
                    if state.servers[usize::from(server)].cells[cell] != Cell::Empty {
                        let mut next = *state;
                        next.left.evict -= 1;
                        next.servers[usize::from(server)].cells[cell] = Cell::Empty;
                        self.changed(&mut next, server);
                        emit(world("Redis evicts the cell"), next);
                    }
                }
            }
            if state.left.wipe > 0 {
                let mut next = *state;
                next.left.wipe -= 1;
                let wiped = &mut next.servers[usize::from(server)];
                wiped.cells = [Cell::Empty; 2];
                wiped.proofs = [None; NONCES];
                wiped.tracked = false;
                if state.hears(server) && self.mode == Mode::Bounded {
                    next.instances[0].send(Message::Flush);
                }
                emit(world("Redis is flushed"), next);
            }
        }
        if state.left.forget > 0 {
            for server in 0..2_u8 {
                for nonce in 0..NONCES {
                    if state.servers[usize::from(server)].proofs[nonce].is_some() {
                        let mut next = *state;
                        next.left.forget -= 1;
                        next.servers[usize::from(server)].proofs[nonce] = None;
                        emit(world("Redis evicts the proof"), next);
                    }
                }
            }
        }
        if state.left.swap > 0 {
            let mut next = *state;
            next.left.swap -= 1;
            next.swaps += 1;
            let [one, other] = &mut next.servers;
            swap(&mut one.cells, &mut other.cells);
            swap(&mut one.proofs, &mut other.proofs);
            emit(world("the databases are swapped"), next);
        }
        for instance in 0..INSTANCES {
            let who = Who::Instance(instance);
            if state.left.cut > 0 && state.instances[instance].connection == Connection::Up {
                let mut next = *state;
                next.left.cut -= 1;
                self.cut(&mut next, instance);
                emit(
                    Label {
                        who,
                        what: "is cut off from Redis",
                    },
                    next,
                );
            }
            if state.left.crash > 0 {
                let mut next = *state;
                next.left.crash -= 1;
                self.crash(&mut next, instance);
                emit(
                    Label {
                        who,
                        what: "crashes and starts anew",
                    },
                    next,
                );
            }
        }
        if state.left.save > 0 {
            let mut next = *state;
            next.left.save -= 1;
            next.saved = state.servers[0].cells[0];
            emit(world("Redis writes a snapshot"), next);
        }
        if state.left.restart > 0 || state.left.split > 0 {
            let mut next = *state;
            (next.left.save, next.left.restart, next.left.split) = (0, 0, 0);
            next.saved = Cell::Empty;
            next.servers[1].alive = true;
            next.servers[1].cells[0] = state.saved;
            // The newest snapshot is the worst case: it holds the proof, and the run for which the proof was written.
            next.servers[1].proofs = state.servers[0].proofs;
            if state.left.split > 0 {
                emit(world("another Redis starts from the snapshot"), next);
            }
            if state.left.restart > 0 {
                next.servers[0].alive = false;
                next.servers[0].cells = [Cell::Empty; 2];
                for instance in 0..INSTANCES {
                    self.cut(&mut next, instance);
                }
                emit(world("Redis restarts from the snapshot"), next);
            }
        }
    }

    /// Ends a connection. The end of the tracked one may be noticed later, because only that one carries pushes.
    fn cut(&self, state: &mut State, instance: usize) {
        let tracked = self.mode == Mode::Bounded && instance == 0;
        state.instances[instance].connection = if tracked { Connection::Cut } else { Connection::Down };
        if tracked {
            for server in &mut state.servers {
                (server.tracked, server.held_back) = (false, false);
            }
        }
    }

    /// Calls under way end without an answer, and the memory of the instance is lost.
    fn crash(&self, state: &mut State, instance: usize) {
        self.cut(state, instance);
        self.notice_end(state, instance);
        state.instances[instance].connection = Connection::Up;
        state.instances[instance].sighting = None;
        if self.epochs {
            state.instances[instance].view = None;
            state.instances[instance].poll = None;
            state.instances[instance].known = None;
        }
        self.look_for_proof(state, instance);
        for number in 0..self.calls.len() {
            let begun = !matches!(state.calls[number].at, At::Idle | At::Done);
            if begun && self.instance_of(number) == instance {
                Self::end(state, number);
            }
        }
    }
}
