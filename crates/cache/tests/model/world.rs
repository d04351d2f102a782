//! The whole model: its initial state, the possible next steps, and the passing of time. Invariant: an enabled step need not
//! happen, so a frozen or slow instance needs no state of its own: its steps are not taken.

use std::{fmt, time::Duration};

use cenote_cache::protocol::time::{BootTime, Term};

use crate::{
    rules::{self, Does, Mode, Rule, Scenario},
    search::Model,
    state::{
        At, CALLS, Call, Cell, Connection, Database, History, INSTANCES, Instance, Known, NEVER, NO_EPOCH, Owed,
        Property, Row, Server, State, Target, Trust, VERSIONS, View, WIRE,
    },
};

/// Names a step, for traces.
#[derive(Clone, Copy)]
pub(crate) struct Label {
    pub(crate) who: Who,
    pub(crate) what: &'static str,
}

#[derive(Clone, Copy)]
pub(crate) enum Who {
    Call(usize, usize, Does),
    Instance(usize),
    World,
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |instance| ["A", "B"][instance];
        let text = match self.who {
            Who::Call(number, instance, does) => {
                format!("{does:?} {number} at {}: {}", name(instance), self.what)
            }
            Who::Instance(instance) => format!("{}: {}", name(instance), self.what),
            Who::World => self.what.to_owned(),
        };
        f.pad(&text)
    }
}

/// Receives the possible next steps.
pub(crate) type Emit<'a> = &'a mut dyn FnMut(Label, State);

/// The present. States hold ages instead of times, so it never changes.
pub(crate) fn now() -> BootTime {
    BootTime::from_clock(ticks(100))
}

pub(crate) fn ticks(number: u8) -> Duration {
    Duration::from_secs(number.into())
}

pub(crate) fn ago(age: u8) -> BootTime {
    BootTime::from_clock(ticks(100) - ticks(age))
}

/// Adds a tick to an age. From `most` on, the age no longer matters.
fn older(age: &mut u8, most: u8) {
    if *age < most {
        *age += 1;
    }
}

impl Model for Scenario {
    type State = State;
    type Label = Label;

    fn initial(&self) -> State {
        let target = Target {
            server: 0,
            epoch: NO_EPOCH,
            nonce: 0,
        };
        let (first_proof, copied_proof) = match (self.fresh, self.split) {
            (true, _) => (None, None),
            (false, false) => (Some(0), None),
            // A copy of the first, with its proof.
            (false, true) => (Some(0), Some(0)),
        };
        let server = |run, alive, cell, proof| Server {
            alive,
            run,
            cells: [cell, Cell::Empty],
            proofs: [proof, None, None],
            tracked: false,
            held_back: false,
        };
        let is_there = self.split || self.databases;
        let other_cell = if self.split { self.start } else { Cell::Empty };
        let servers = [
            server(0, true, self.start, first_proof),
            server(u8::from(!self.databases), is_there, other_cell, copied_proof),
        ];
        let row = Row {
            epoch: 0,
            trust: if self.fresh {
                Trust::Undecided
            } else {
                Trust::Keyspace(0)
            },
            is_first: false,
        };
        let view = (self.mode != Mode::Local && !self.fresh).then_some(View {
            epoch: 0,
            keyspace: Some(0),
            age: 0,
        });
        let mut state = State {
            database: Database {
                version: 1,
                deletes: 0,
                row,
                uncommitted: None,
                row_age: rules::LEASE,
            },
            servers,
            swaps: 0,
            saved: self.start,
            instances: self.connected.map(|server| Instance {
                view,
                poll: None,
                known: view.map(|_| Known { row, age: rules::LEASE }),
                server,
                sighting: None,
                connection: Connection::Up,
                near: None,
                wire: [None; WIRE],
                ping: NEVER,
                proof: NEVER,
            }),
            calls: [Call {
                at: At::Idle,
                target,
                owed: Owed::default(),
                fresh: false,
                age: 0,
            }; CALLS],
            stray: None,
            left: self.faults,
            history: History {
                acknowledged: 0,
                acknowledged_by: [0; INSTANCES],
                acknowledged_ago: [NEVER; VERSIONS],
                read: 0,
            },
            broken: None,
        };
        for instance in 0..INSTANCES {
            self.look_for_proof(&mut state, instance);
        }
        state
    }

    fn steps(&self, state: &State, emit: Emit<'_>) {
        let reads_end = |number: usize| match self.calls[number] {
            Some((_, Does::Read)) => state.calls[number].at == At::Done,
            _ => true,
        };
        // Only a read can show that a promise is broken.
        if !self.promises(Property::TwoEpochs) && (0..CALLS).all(reads_end) {
            return;
        }
        for (number, call) in self.calls.iter().enumerate() {
            let Some((_, does)) = *call else {
                continue;
            };
            // Equal calls are interchangeable, so only the first of them begins.
            let waits = |earlier: usize| self.calls[earlier] == *call && state.calls[earlier].at == At::Idle;
            if state.calls[number].at == At::Idle && (0..number).any(waits) {
                continue;
            }
            match does {
                Does::Read => self.read(state, number, emit),
                Does::Write | Does::Delete => self.write(state, number, emit),
            }
        }
        if self.mode != Mode::Local {
            self.connections(state, emit);
            self.failures(state, emit);
        }
        if self.mode == Mode::Bounded {
            self.tracked_connection(state, emit);
        }
        if self.mode != Mode::Local {
            for instance in 0..INSTANCES {
                self.probe(state, instance, emit);
            }
        }
        if self.epochs {
            for instance in 0..INSTANCES {
                self.epoch(state, instance, emit);
            }
            self.commit_row(state, emit);
        }
        if self.clock {
            let mut next = *state;
            self.tick(&mut next);
            emit(
                Label {
                    who: Who::World,
                    what: "a tick passes",
                },
                next,
            );
        }
    }

    fn violation(&self, state: &State) -> Option<String> {
        if let Some(property) = state.broken {
            return Some(format!("{property:?}"));
        }
        let epochs = state.instances.map(|instance| instance.view.map(|view| view.epoch));
        let two = matches!(epochs, [Some(a), Some(b)] if a != b);
        (two && self.promises(Property::TwoEpochs)).then(|| format!("{:?}", Property::TwoEpochs))
    }

    fn describe(&self, state: &State) -> String {
        let mut line = format!("row v{}, {:?}", state.database.version, state.servers[0].cells[0]);
        if self.epochs {
            let Row { epoch, trust, .. } = state.database.row;
            let views = state.instances.map(|instance| instance.view.map(|view| view.epoch));
            line += &format!(
                "; then {:?}; epoch {epoch} {trust:?}, views {views:?}",
                state.servers[1].cells
            );
        }
        if self.mode != Mode::Strong {
            line += &format!("; near {:?}", state.instances[0].near);
        }
        line
    }
}

impl Scenario {
    pub(crate) fn label(&self, number: usize, what: &'static str) -> Label {
        let (instance, does) = self.calls[number].unwrap();
        Label {
            who: Who::Call(number, instance, does),
            what,
        }
    }

    pub(crate) fn instance_of(&self, number: usize) -> usize {
        self.calls[number].unwrap().0
    }

    /// Whether the instance may act, at least for a statement, on the epoch a call is in.
    pub(crate) fn view_covers(&self, state: &State, instance: usize, epoch: u8) -> bool {
        state.instances[instance].view.is_some_and(|view| {
            view.epoch == epoch
                && (!self.epochs || Term::new(ago(view.age), ticks(rules::LEASE)).fits(now(), ticks(rules::DEADLINE)))
        })
    }

    /// Advances the generation of the instance and drops its near entry.
    pub(crate) fn drop_near(&self, state: &mut State, instance: usize) {
        state.instances[instance].near = None;
        for (number, call) in state.calls.iter_mut().enumerate() {
            if self.calls[number].is_some_and(|(at, _)| at == instance) {
                call.fresh = false;
            }
        }
    }

    fn tick(&self, state: &mut State) {
        older(&mut state.database.row_age, rules::LEASE);
        if let Some((_, age)) = &mut state.database.uncommitted {
            older(age, rules::LEASE);
        }
        let term = ticks(rules::LEASE);
        for instance in &mut state.instances {
            if self.epochs {
                instance.view = instance.view.and_then(|mut view| {
                    view.age += 1;
                    Term::new(ago(view.age), term).is_running(now()).then_some(view)
                });
                if let Some(known) = &mut instance.known {
                    older(&mut known.age, rules::LEASE);
                }
                instance.poll = instance.poll.and_then(|mut poll| {
                    older(&mut poll.age, rules::LEASE);
                    (poll.age < rules::LEASE || self.lacks(Rule::PollBySending)).then_some(poll)
                });
            }
            for age in [&mut instance.ping, &mut instance.proof] {
                if *age != NEVER {
                    *age += 1;
                }
                if *age > rules::BOUND {
                    // A later answer proves nothing; the PING still waits for its PONG.
                    *age = rules::BOUND + 1;
                }
            }
            if instance.proof > rules::BOUND {
                instance.proof = NEVER;
            }
        }
        for server in 0..state.servers.len() {
            for cell in 0..2 {
                if let Cell::Fence { ttl, .. } = &mut state.servers[server].cells[cell] {
                    *ttl -= 1;
                    if *ttl == 0 {
                        state.servers[server].cells[cell] = Cell::Empty;
                        self.changed(state, u8::try_from(server).unwrap());
                    }
                }
            }
        }
        for call in &mut state.calls {
            if call.at == At::Fenced {
                older(&mut call.age, self.fence);
            }
        }
        if self.mode == Mode::Bounded {
            for age in &mut state.history.acknowledged_ago {
                if *age != NEVER {
                    older(age, rules::BOUND);
                }
            }
        }
    }
}
