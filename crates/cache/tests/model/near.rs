//! The tracked connection of instance A. Invariant: messages of the server arrive in their order.

use crate::{
    rules::{Rule, Scenario},
    state::{At, Connection, Message, NEVER, State},
    world::{Emit, Label, Who},
};

impl Scenario {
    pub(crate) fn tracked_connection(&self, state: &State, emit: Emit<'_>) {
        let who = Who::Instance(0);
        let from = &state.instances[0];
        if from.connection == Connection::Up && from.ping == NEVER && from.proof != 0 {
            let mut next = *state;
            if state.servers[usize::from(from.server)].alive {
                next.instances[0].ping = 0;
                next.instances[0].send(Message::Pong);
                emit(
                    Label {
                        who,
                        what: "sends PING, which is answered",
                    },
                    next,
                );
            }
        }
        let mut next = *state;
        if let Some(message) = next.instances[0].take() {
            let what = match message {
                Message::Reply(call, cell) => {
                    let call = &mut next.calls[usize::from(call)];
                    if call.at == At::Awaiting {
                        call.at = At::Received(cell);
                    }
                    "is handed a reply"
                }
                Message::Invalidate => {
                    self.drop_near(&mut next, 0);
                    "applies an invalidation"
                }
                Message::Flush => {
                    if !self.lacks(Rule::NilPush) {
                        self.drop_near(&mut next, 0);
                    }
                    "applies a nil push"
                }
                Message::Pong => {
                    let instance = &mut next.instances[0];
                    instance.proof = if self.lacks(Rule::PingBySending) {
                        0
                    } else {
                        instance.ping
                    };
                    instance.ping = NEVER;
                    "is handed a PONG"
                }
            };
            emit(Label { who, what }, next);
        }
        for server in 0..2_u8 {
            let last = from.wire.iter().flatten().last();
            if state.servers[usize::from(server)].held_back && state.hears(server) && last != Some(&Message::Invalidate)
            {
                let mut next = *state;
                next.servers[usize::from(server)].held_back = false;
                next.instances[0].send(Message::Invalidate);
                emit(
                    Label {
                        who: Who::World,
                        what: "Redis sends its broadcast",
                    },
                    next,
                );
            }
        }
    }

    /// The instance learns that its connection has ended: messages on their way are lost, and no near value is proven.
    pub(crate) fn notice_end(&self, state: &mut State, instance: usize) {
        let from = &mut state.instances[instance];
        from.connection = Connection::Down;
        from.lose_wire();
        from.ping = NEVER;
        if !self.lacks(Rule::DropOnDisconnect) {
            from.proof = NEVER;
            self.drop_near(state, instance);
        }
        for (number, call) in state.calls.iter_mut().enumerate() {
            if call.at == At::Awaiting && self.instance_of(number) == instance {
                call.at = At::Loading { lease: false };
            }
        }
    }
}
