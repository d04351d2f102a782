//! How instances learn of epochs and change them, by the production arithmetic. Invariant: the row changes only by
//! compare-and-set, so each step follows from the row as it is.

use cenote_cache::epoch::{self, Identity, Row, Sight};

use crate::{
    rules::{self, Rule, Scenario},
    state::{Connection, Database, Poll, State, View},
    world::{Emit, Label, Who, ago, ticks},
};

/// Epochs end here: two with a Redis and one without.
const LAST: u8 = 2;

const fn identity(server: u8) -> Identity {
    Identity([server; 20])
}

const fn number(identity: Identity) -> u8 {
    identity.0[0]
}

impl Scenario {
    pub(crate) fn epoch(&self, state: &State, instance: usize, emit: Emit<'_>) {
        let who = Who::Instance(instance);
        if self.keeps_up[instance] {
            let mut next = *state;
            match state.instances[instance].poll {
                None => {
                    let Database {
                        epoch,
                        trusted,
                        row_age,
                        ..
                    } = state.database;
                    let poll = Poll {
                        epoch,
                        trusted,
                        row_age,
                        age: 0,
                    };
                    // Nothing is gained by a poll whose answer would be thrown away or is known.
                    let known = |view: View| {
                        view.epoch == epoch && view.trusted == trusted && view.age == 0
                    };
                    let useful = self.view_of(poll).is_some()
                        && !state.instances[instance].view.is_some_and(known);
                    if useful && self.slow_polls {
                        next.instances[instance].poll = Some(poll);
                        emit(Label { who, what: "polls" }, next);
                    } else if useful {
                        self.take_up(&mut next, instance, poll);
                        emit(
                            Label {
                                who,
                                what: "polls and is answered",
                            },
                            next,
                        );
                    }
                }
                Some(poll) => {
                    self.take_up(&mut next, instance, poll);
                    emit(
                        Label {
                            who,
                            what: "takes up the answer to its poll",
                        },
                        next,
                    );
                }
            }
        }
        if let Some(next) = self.move_on(state, instance) {
            emit(
                Label {
                    who,
                    what: "moves the row on",
                },
                next,
            );
        }
    }

    fn take_up(&self, state: &mut State, instance: usize, poll: Poll) {
        let view = self.view_of(poll);
        let before = std::mem::replace(&mut state.instances[instance].view, view);
        state.instances[instance].poll = None;
        if before.map(|view| view.epoch) != view.map(|view| view.epoch) {
            self.drop_near(state, instance);
        }
    }

    /// What the answer to a poll that was sent so long ago allows now.
    fn view_of(&self, poll: Poll) -> Option<View> {
        let row = Row {
            epoch: poll.epoch.into(),
            trusted: poll.trusted.map(identity),
            age: ticks(if self.lacks(Rule::EpochWaits) {
                rules::LEASE
            } else {
                poll.row_age
            }),
        };
        let age = if self.lacks(Rule::PollBySending) {
            0
        } else {
            poll.age
        };
        let view = epoch::View::new(&row, ago(age), ticks(rules::LEASE))?;
        Some(View {
            epoch: view.epoch.try_into().unwrap(),
            trusted: view.trusted.map(number),
            age,
        })
    }

    fn move_on(&self, state: &State, instance: usize) -> Option<State> {
        let from = &state.instances[instance];
        let seen = if state.reaches(instance, from.server) {
            Sight::Answers(identity(from.server))
        } else {
            Sight::Unreachable
        };
        let row = Row {
            epoch: state.database.epoch.into(),
            trusted: state.database.trusted.map(identity),
            age: ticks(0),
        };
        let successor = row.successor(seen)?;
        let mut next = *state;
        let database = &mut next.database;
        database.trusted = successor.trusted.map(number);
        database.row_age = 0;
        database.epoch = successor.epoch.try_into().unwrap();
        if self.lacks(Rule::NewEpochOnRecovery) && successor.trusted.is_some() {
            database.epoch -= 2;
        }
        (database.epoch <= LAST).then_some(next)
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
