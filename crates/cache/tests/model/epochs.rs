//! How instances learn of epochs and change them, by the production arithmetic. Invariant: the row changes only by
//! compare-and-set, so each step follows from the row as it is.

use cenote_cache::epoch::{Identity, Row, Sight, Watch};

use crate::{
    rules::{self, Rule, Scenario},
    state::{Connection, Database, Known, Poll, State, View},
    world::{Emit, Label, Who, ago, now, ticks},
};

/// Epochs end here: two with a Redis and one without.
const LAST: u8 = 2;

const fn identity(server: u8) -> Identity {
    Identity([server; 20])
}

const fn number(identity: Identity) -> u8 {
    identity.0[0]
}

const fn row(epoch: u8, trusted: Option<u8>) -> Row {
    let trusted = match trusted {
        Some(server) => Some(identity(server)),
        None => None,
    };
    Row {
        epoch: epoch as u64,
        trusted,
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
                    epoch: state.database.epoch,
                    trusted: state.database.trusted,
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
        if let Some((epoch, trusted, age)) = state.database.uncommitted {
            let mut next = *state;
            self.write_row(&mut next, epoch, trusted, age);
            let (who, what) = (Who::World, "the new row becomes visible");
            emit(Label { who, what }, next);
        }
    }

    fn take_up(&self, state: &mut State, instance: usize, poll: Poll) {
        let me = &mut state.instances[instance];
        let (found, lease) = (row(poll.epoch, poll.trusted), ticks(rules::LEASE));
        let mut watch = Watch::default();
        if self.lacks(Rule::EpochWaits) {
            watch.answered(found, ago(rules::LEASE), ago(rules::LEASE), lease);
        } else if self.lacks(Rule::KnownSinceSeen) {
            let written = ago(poll.row_age + poll.age);
            watch.answered(found, written, written, lease);
        } else if let Some(known) = me.known {
            let met = ago(known.age);
            watch.answered(row(known.epoch, known.trusted), met, met, lease);
        }
        let sent = if self.lacks(Rule::PollBySending) {
            0
        } else {
            poll.age
        };
        watch.answered(found, ago(sent), now(), lease);

        me.poll = None;
        if watch.newest() == Some(found) && me.known.is_none_or(|known| known.epoch != poll.epoch) {
            let Poll { epoch, trusted, .. } = poll;
            me.known = Some(Known {
                epoch,
                trusted,
                age: 0,
            });
        }
        if let Some(view) = watch.view(now()) {
            let before = me.view.replace(View {
                epoch: view.epoch.try_into().unwrap(),
                trusted: view.trusted.map(number),
                age: sent,
            });
            if before.is_none_or(|before| u64::from(before.epoch) != view.epoch) {
                self.drop_near(state, instance);
            }
        }
    }

    fn move_on(&self, state: &State, instance: usize) -> Option<State> {
        let from = &state.instances[instance];
        let seen = if state.reaches(instance, from.server) {
            Sight::Answers(identity(from.server))
        } else {
            Sight::Unreachable
        };
        let successor = row(state.database.epoch, state.database.trusted).successor(seen)?;
        let mut epoch = successor.epoch.try_into().unwrap();
        if self.lacks(Rule::NewEpochOnRecovery) && successor.trusted.is_some() {
            epoch -= 2;
        }
        let trusted = successor.trusted.map(number);
        let mut next = *state;
        if !self.slow_postgres {
            self.write_row(&mut next, epoch, trusted, 0);
        } else if state.database.uncommitted.is_none() {
            next.database.uncommitted = Some((epoch, trusted, 0));
        }
        (epoch <= LAST).then_some(next)
    }

    fn write_row(&self, state: &mut State, epoch: u8, trusted: Option<u8>, age: u8) {
        // States do not differ by an age that nobody goes by.
        let row_age = if self.lacks(Rule::KnownSinceSeen) {
            age
        } else {
            rules::LEASE
        };
        state.database = Database {
            epoch,
            trusted,
            uncommitted: None,
            row_age,
            ..state.database
        };
    }

    /// Connections are made again, to whatever Redis is there.
    pub(crate) fn connections(&self, state: &State, emit: Emit<'_>) {
        for instance in 0..state.instances.len() {
            let who = Who::Instance(instance);
            let from = &state.instances[instance];
            for server in 0..2_u8 {
                let here = from.connection != Connection::Cut && state.reaches(instance, server);
                if state.servers[usize::from(server)].alive
                    && !here
                    && (server == 1 || from.server == 0)
                {
                    let mut next = *state;
                    self.notice_end(&mut next, instance);
                    next.instances[instance].server = server;
                    next.instances[instance].connection = Connection::Up;
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
