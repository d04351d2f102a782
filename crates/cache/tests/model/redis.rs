//! The Redis servers: cells changed by the production functions, and the messages for the tracked connection.
//! Invariant: a change of a cell is pushed before any later command is answered.

use cenote_cache::protocol::{
    cell::{self, Token, WriterId, Writers},
    script_semantics::{self, Slot, Stored},
};

use crate::{
    rules::{Rule, Scenario},
    state::{Cell, Command, Connection, Instance, Message, Seen, Server, State, Target, WIRE},
};

const NOW: u64 = 1000;
/// Leases and values do not expire by the clock: eviction covers it.
const LONG: u64 = 500;

/// The answer to a command.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Answer {
    Found(Cell),
    Filled(bool),
    Done,
}

const fn id(number: u8) -> [u8; 16] {
    [number; 16]
}

fn to_slot(cell: Cell) -> Slot {
    let (bytes, ttl) = match cell {
        Cell::Empty => return None,
        Cell::Value(version) => (encode(Seen::Value(version)), LONG),
        Cell::Absent => (encode(Seen::Absent), LONG),
        Cell::Lease(token) => (cell::Cell::Lease(Token(id(token))).encode(), LONG),
        Cell::Fence { writers, ttl } => {
            let ids: Vec<_> = (0..8).filter(|n| writers & (1 << n) != 0).map(id).collect();
            let writers = Writers::new(&ids).unwrap();
            (cell::Cell::Fence(writers).encode(), ttl.into())
        }
    };
    let expires_at = Some(NOW + ttl);
    Some(Stored { bytes, expires_at })
}

fn from_slot(slot: &Slot) -> Cell {
    let Some(stored) = slot else {
        return Cell::Empty;
    };
    match cell::Cell::parse(&stored.bytes).unwrap() {
        cell::Cell::Value { version, .. } => Cell::Value(version.try_into().unwrap()),
        cell::Cell::Absent => Cell::Absent,
        cell::Cell::Lease(token) => Cell::Lease(token.0[0]),
        cell::Cell::Fence(writers) => Cell::Fence {
            writers: writers.iter().fold(0, |bits, writer| bits | 1 << writer.0[0]),
            ttl: (stored.expires_at.unwrap() - NOW).try_into().unwrap(),
        },
    }
}

fn encode(seen: Seen) -> Vec<u8> {
    content(seen).encode()
}

fn content(seen: Seen) -> cell::Cell<'static> {
    match seen {
        Seen::Value(version) => cell::Cell::Value {
            version: version.into(),
            value: b"",
        },
        Seen::Absent => cell::Cell::Absent,
    }
}

/// Applies the production script to the cell.
fn run(cell: Cell, command: Command, ttl: u8) -> (Cell, Answer) {
    let slot = to_slot(cell);
    let (slot, answer) = match command {
        Command::Lease(token) => {
            let (slot, _) = script_semantics::lease(slot, Token(id(token)), LONG, NOW);
            (slot, Answer::Found(cell))
        }
        Command::Fence(writer) => {
            let (slot, _) = script_semantics::fence(slot, WriterId(id(writer)), ttl.into(), NOW);
            (slot, Answer::Done)
        }
        Command::Release(writer) => {
            let (slot, _) = script_semantics::release(slot, WriterId(id(writer)));
            (slot, Answer::Done)
        }
        Command::Fill { token, seen } => {
            let token = token.map(|token| Token(id(token)));
            let (slot, filled) = script_semantics::fill(slot, token, content(seen), LONG, NOW);
            (slot, Answer::Filled(filled))
        }
    };
    (from_slot(&slot), answer)
}

impl Scenario {
    /// Applies the script without the rule that this scenario omits.
    fn run(&self, cell: Cell, command: Command) -> (Cell, Answer) {
        let ttl = self.fence;
        match (self.without, command, cell) {
            (Some(Rule::LeaseToken), Command::Fill { token: Some(_), seen }, Cell::Lease(_)) => {
                (seen.into(), Answer::Filled(true))
            }
            (Some(Rule::Seal), Command::Fill { token, .. }, _) if token.map(Cell::Lease) != Some(cell) => {
                (cell, Answer::Filled(false))
            }
            (Some(Rule::IdsNotLast), Command::Fence(writer), _) => {
                let writers = 1 << writer;
                (Cell::Fence { writers, ttl }, Answer::Done)
            }
            (Some(Rule::IdsNotCounter), Command::Fence(_), Cell::Fence { writers, .. }) => {
                let writers = writers + 1;
                (Cell::Fence { writers, ttl }, Answer::Done)
            }
            (Some(Rule::IdsNotCounter), Command::Fence(_), _) => (Cell::Fence { writers: 1, ttl }, Answer::Done),
            (Some(Rule::IdsNotCounter), Command::Release(_), Cell::Fence { writers, ttl }) if writers > 1 => {
                let writers = writers - 1;
                (Cell::Fence { writers, ttl }, Answer::Done)
            }
            (Some(Rule::IdsNotCounter), Command::Release(_), _) => (Cell::Empty, Answer::Done),
            (Some(Rule::IdsNotCounter), Command::Fill { .. }, Cell::Fence { .. }) => (cell, Answer::Filled(false)),
            (Some(Rule::IdsNotCounter), Command::Lease(_), Cell::Fence { .. }) => (cell, Answer::Found(cell)),
            _ => run(cell, command, ttl),
        }
    }

    /// Whether a connection to this server finds the proof of a nonce's keyspace.
    pub(crate) fn sees(&self, state: &State, server: u8, nonce: u8) -> bool {
        let server = &state.servers[usize::from(server)];
        let proves = |proof: Option<u8>| proof == Some(server.run);
        let proof = |server: &Server| server.proofs[usize::from(nonce)];
        if self.lacks(Rule::Keyspace) {
            return state.servers.iter().any(|other| proves(proof(other)));
        }
        proves(proof(server)) || self.lacks(Rule::ProofNamesRun) && proof(server).is_some()
    }

    /// Executes a command whose sender has given up, if it finds the proof of its keyspace.
    pub(crate) fn execute_stray(&self, state: &mut State, target: Target, command: Command) {
        let proven = self.sees(state, target.server, target.nonce);
        if proven || self.lacks(Rule::ProofInCommand) {
            self.execute(state, target, command);
        }
    }

    /// Executes a command.
    pub(crate) fn execute(&self, state: &mut State, target: Target, command: Command) -> Answer {
        let cell = state.cell(target);
        let (changed, answer) = self.run(*cell, command);
        if changed != *cell {
            *cell = changed;
            self.changed(state, target.server);
        }
        answer
    }

    /// Executes a look-up on the tracked connection of instance A, and puts the reply on the wire.
    pub(crate) fn execute_tracked(&self, state: &mut State, target: Target, call: u8) {
        let cell = *state.cell(target);
        let (changed, _) = self.run(cell, Command::Lease(call));
        *state.cell(target) = changed;
        state.instances[0].send(Message::Reply(call, cell));
        state.servers[usize::from(target.server)].tracked = true;
        if changed != cell {
            self.changed(state, target.server);
        }
    }

    /// Pushes the invalidation of a change, if the connection tracks the key.
    pub(crate) fn changed(&self, state: &mut State, server: u8) {
        let connected = state.hears(server);
        let Server { tracked, held_back, .. } = &mut state.servers[usize::from(server)];
        if self.lacks(Rule::NoBroadcast) {
            *held_back |= connected;
        } else if std::mem::take(tracked) && connected {
            state.instances[0].send(Message::Invalidate);
        }
    }
}

impl From<Seen> for Cell {
    fn from(seen: Seen) -> Self {
        match seen {
            Seen::Value(version) => Self::Value(version),
            Seen::Absent => Self::Absent,
        }
    }
}

impl State {
    pub(crate) fn cell(&mut self, target: Target) -> &mut Cell {
        &mut self.servers[usize::from(target.server)].cells[usize::from(target.epoch / 2)]
    }

    /// The proof of a nonce in a keyspace.
    pub(crate) fn proof(&mut self, server: u8, nonce: u8) -> &mut Option<u8> {
        &mut self.servers[usize::from(server)].proofs[usize::from(nonce)]
    }

    /// Whether pushes of this server reach instance A.
    pub(crate) fn hears(&self, server: u8) -> bool {
        let instance = &self.instances[0];
        instance.server == server && instance.connection == Connection::Up
    }

    /// Whether the instance is connected to a server that runs.
    pub(crate) fn reaches(&self, instance: usize, server: u8) -> bool {
        let from = &self.instances[instance];
        from.connection == Connection::Up && from.server == server && self.servers[usize::from(server)].alive
    }
}

impl Instance {
    pub(crate) fn send(&mut self, message: Message) {
        *self.wire.iter_mut().find(|place| place.is_none()).unwrap() = Some(message);
    }

    pub(crate) fn take(&mut self) -> Option<Message> {
        let first = self.wire[0].take();
        self.wire.rotate_left(1);
        first
    }

    pub(crate) fn lose_wire(&mut self) {
        self.wire = [None; WIRE];
    }
}
