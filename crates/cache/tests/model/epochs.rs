//! How instances poll the epoch and change it, by the production functions. Invariant: the row changes only by compare-and-set, so
//! each step follows from the current row.

use cenote_cache::{
    EpochRow, Nonce,
    protocol::epoch::{self, Sight, Watch},
};

use crate::{
    rules::{self, Rule, Scenario},
    state::{Connection, Database, Known, Poll, Row, State, Trust, View},
    world::{Emit, Label, Who, ago, now, ticks},
};

const fn nonce(number: u8) -> Nonce {
    Nonce([number; 20])
}

impl From<Row> for EpochRow {
    fn from(row: Row) -> Self {
        Self {
            epoch: row.epoch.into(),
            trust: match row.trust {
                Trust::Undecided => epoch::Trust::Undecided,
                Trust::Nothing => epoch::Trust::Nothing,
                Trust::Keyspace(number) => epoch::Trust::Keyspace(nonce(number)),
            },
            is_first: row.is_first,
        }
    }
}

impl From<EpochRow> for Row {
    fn from(row: EpochRow) -> Self {
        Self {
            epoch: row.epoch.try_into().unwrap(),
            trust: match row.trust {
                epoch::Trust::Undecided => Trust::Undecided,
                epoch::Trust::Nothing => Trust::Nothing,
                epoch::Trust::Keyspace(Nonce(bytes)) => Trust::Keyspace(bytes[0]),
            },
            is_first: row.is_first,
        }
    }
}

impl Scenario {
    pub(crate) fn epoch(&self, state: &State, instance: usize, emit: Emit<'_>) {
        let who = Who::Instance(instance);
        let mut next = *state;
        match state.instances[instance].poll {
            Some(poll) => {
                self.take_up(&mut next, instance, poll);
                let what = "takes up the answer to its poll";
                emit(Label { who, what }, next);
            }
            None if self.polls[instance] => {
                let poll = Poll {
                    row: state.database.row,
                    row_age: state.database.row_age,
                    age: 0,
                };
                let what = if self.slow_postgres {
                    next.instances[instance].poll = Some(poll);
                    "polls"
                } else {
                    self.take_up(&mut next, instance, poll);
                    "polls and is answered"
                };
                emit(Label { who, what }, next);
            }
            None => {}
        }
        if let Some(next) = self.move_on(state, instance) {
            let what = "moves the row on";
            emit(Label { who, what }, next);
        }
    }

    /// A change of the row becomes visible.
    pub(crate) fn commit_row(&self, state: &State, emit: Emit<'_>) {
        if let Some((row, age)) = state.database.uncommitted {
            let mut next = *state;
            self.write_row(&mut next, row, age);
            let (who, what) = (Who::World, "the new row becomes visible");
            emit(Label { who, what }, next);
        }
    }

    fn take_up(&self, state: &mut State, instance: usize, poll: Poll) {
        let me = &mut state.instances[instance];
        let mut found = EpochRow::from(poll.row);
        let lease = ticks(rules::LEASE);
        if self.lacks(Rule::UndecidedWaits) && found.trust == epoch::Trust::Undecided {
            found.trust = epoch::Trust::Nothing;
        }
        let mut watch = Watch::default();
        if self.lacks(Rule::EpochWaits) {
            watch.answered(found, ago(rules::LEASE), ago(rules::LEASE), lease);
        } else if self.lacks(Rule::KnownSinceSeen) {
            let written = ago(poll.row_age + poll.age);
            watch.answered(found, written, written, lease);
        } else if let Some(known) = me.known {
            let met = ago(known.age);
            watch.answered(known.row.into(), met, met, lease);
        }
        if self.lacks(Rule::UndecidedWaits) && found.is_first {
            watch = Watch::default();
        }
        let sent = if self.lacks(Rule::PollBySending) { 0 } else { poll.age };
        watch.answered(found, ago(sent), now(), lease);

        me.poll = None;
        let newest = watch.newest().unwrap();
        if newest.epoch != found.epoch {
            return;
        }
        let is_new = me.known.is_none_or(|known| known.row.epoch != poll.row.epoch);
        if is_new {
            let row = newest.into();
            me.known = Some(Known { row, age: 0 });
        }
        if let Some(view) = watch.view(now())
            && view.epoch == found.epoch
        {
            let before = me.view.replace(View {
                epoch: view.epoch.try_into().unwrap(),
                keyspace: view.keyspace.map(|Nonce(bytes)| bytes[0]),
                age: sent,
            });
            if before.is_none_or(|before| u64::from(before.epoch) != view.epoch) {
                self.drop_near(state, instance);
            }
        }
        if is_new {
            self.look_for_proof(state, instance);
        }
    }

    fn move_on(&self, state: &State, instance: usize) -> Option<State> {
        let from = &state.instances[instance];
        let row = state.database.row;
        let seen = match row.trust {
            _ if !state.reaches(instance, from.server) => Sight::Unreachable,
            Trust::Keyspace(nonce) if self.sees(state, from.server, nonce) => Sight::Proves,
            _ => Sight::Answers,
        };
        let own = 1 + u8::try_from(instance).unwrap();
        let mut successor = Row::from(EpochRow::from(row).successor(seen, nonce(own))?);
        if self.lacks(Rule::NewEpochOnRecovery) && successor.trust == Trust::Keyspace(own) {
            successor.epoch -= 2;
            successor.trust = Trust::Keyspace(0);
        }
        let mut next = *state;
        if let Trust::Keyspace(nonce) = successor.trust {
            // Before the row: until the row is visible, the proof has no effect.
            let run = state.servers[usize::from(from.server)].run;
            *next.proof(from.server, nonce) = Some(run);
        }
        if !self.slow_postgres {
            self.write_row(&mut next, successor, 0);
        } else if state.database.uncommitted.is_none() {
            next.database.uncommitted = Some((successor, 0));
        }
        // Two epochs with a Redis, the first and the last, and one without.
        let last = if self.fresh { 3 } else { 2 };
        (successor.epoch <= last).then_some(next)
    }

    fn write_row(&self, state: &mut State, row: Row, age: u8) {
        // No step depends on this age, so states must not differ by it.
        let row_age = if self.lacks(Rule::KnownSinceSeen) {
            age
        } else {
            rules::LEASE
        };
        state.database = Database {
            row,
            uncommitted: None,
            row_age,
            ..state.database
        };
    }

    /// Instances connect again, to the Redis that answers.
    pub(crate) fn connections(&self, state: &State, emit: Emit<'_>) {
        for instance in 0..state.instances.len() {
            let who = Who::Instance(instance);
            let from = &state.instances[instance];
            for server in 0..2_u8 {
                let here = from.connection != Connection::Cut && state.reaches(instance, server);
                let may_lead_there = match self.databases {
                    true => server == from.server,
                    false => server == 1 || from.server == 0,
                };
                if state.servers[usize::from(server)].alive && !here && may_lead_there {
                    let mut next = *state;
                    self.notice_end(&mut next, instance);
                    let me = &mut next.instances[instance];
                    if me.server != server {
                        me.sighting = None;
                    }
                    me.server = server;
                    me.connection = Connection::Up;
                    self.look_for_proof(&mut next, instance);
                    emit(
                        Label {
                            who,
                            what: "connects anew",
                        },
                        next,
                    );
                }
            }
        }
    }
}
