//! A write, step by step. Invariant: it counts as acknowledged only at its last step.

use cenote_cache::protocol::time::Term;

use crate::{
    proofs::Way,
    rules::{self, Does, Mode, Rule, Scenario},
    state::{At, Command, NO_EPOCH, State},
    world::{Emit, ago, now, ticks},
};

impl Scenario {
    pub(crate) fn write(&self, state: &State, number: usize, emit: Emit<'_>) {
        match state.calls[number].at {
            At::Idle | At::Fencing => self.put_up_fence(state, number, emit),
            At::Fenced => self.commit(state, number, emit),
            At::Committed(version) => self.release(state, number, version, emit),
            _ => {}
        }
    }

    fn put_up_fence(&self, state: &State, number: usize, emit: Emit<'_>) {
        let mut next = *state;
        let call = &mut next.calls[number];
        call.at = At::Fenced;
        call.age = 0;
        if self.mode == Mode::Local {
            return emit(self.label(number, "begins"), next);
        }
        let Some(view) = state.instances[self.instance_of(number)].view else {
            return;
        };
        call.target.epoch = view.epoch;
        let Some(nonce) = view.keyspace else {
            return emit(self.label(number, "needs no fence"), next);
        };
        call.target.nonce = nonce;
        let Way::Open(target) = self.way(&next, number) else {
            return;
        };
        let command = Command::Fence(u8::try_from(number).unwrap());
        if !self.lacks(Rule::Fence) {
            self.execute(&mut next, target, command);
        }
        emit(self.label(number, "puts up the fence"), next);
        if state.left.lost > 0 {
            let mut next = *state;
            next.left.lost -= 1;
            next.stray = Some((target, command));
            next.calls[number].at = At::Fencing;
            emit(self.label(number, "puts up the fence, unanswered"), next);
        }
    }

    fn commit(&self, state: &State, number: usize, emit: Emit<'_>) {
        let mut next = *state;
        let call = &state.calls[number];
        let local = self.mode == Mode::Local;
        let viewed = self.view_covers(state, self.instance_of(number), call.target.epoch)
            || self.lacks(Rule::StatementWithinView);
        // In an epoch without Redis there is no fence that could expire.
        let unfenced = state.instances[self.instance_of(number)]
            .view
            .is_some_and(|view| view.keyspace.is_none() && view.epoch == call.target.epoch);
        let stands = Term::new(ago(call.age), ticks(self.fence)).fits(now(), ticks(rules::DEADLINE));
        let fenced = unfenced || stands || self.lacks(Rule::FenceOutlastsStatement);
        let (allowed, late) = (local || viewed && fenced, state.left.late > 0);
        if !allowed {
            next.calls[number].at = At::Fencing;
            emit(self.label(number, "has run out of time and begins anew"), next);
            next = *state;
        }
        if !allowed && !late {
            return;
        }
        next.left.late -= u8::from(!allowed);
        next.database.version += 1;
        let version = next.database.version;
        if self.calls[number].is_some_and(|(_, does)| does == Does::Delete) {
            next.database.deletes |= 1 << version;
        }
        next.calls[number].at = At::Committed(version);
        if self.lacks(Rule::ReleaseBeforeAcknowledgement) {
            self.acknowledge(&mut next, number, version);
        }
        emit(
            self.label(number, if allowed { "commits" } else { "commits too late" }),
            next,
        );
    }

    fn release(&self, state: &State, number: usize, version: u8, emit: Emit<'_>) {
        let mut next = *state;
        if self.mode == Mode::Local {
            self.acknowledge(&mut next, number, version);
            return emit(self.label(number, "is acknowledged"), next);
        }
        if !self.lacks(Rule::ReleaseUnderView) {
            let Some(view) = state.instances[self.instance_of(number)].view else {
                return;
            };
            let Some(nonce) = view.keyspace else {
                self.acknowledge(&mut next, number, version);
                return emit(self.label(number, "has nothing to release and is acknowledged"), next);
            };
            next.calls[number].target.epoch = view.epoch;
            next.calls[number].target.nonce = nonce;
        }
        let Way::Open(target) = self.way(&next, number) else {
            return;
        };
        let command = Command::Release(u8::try_from(number).unwrap());
        self.execute(&mut next, target, command);
        self.acknowledge(&mut next, number, version);
        emit(self.label(number, "releases and is acknowledged"), next);
        if state.left.lost > 0 {
            let mut next = *state;
            next.left.lost -= 1;
            next.stray = Some((target, command));
            emit(self.label(number, "releases, unanswered"), next);
        }
    }

    fn acknowledge(&self, state: &mut State, number: usize, version: u8) {
        let instance = self.instance_of(number);
        let history = &mut state.history;
        history.acknowledged = history.acknowledged.max(version);
        history.acknowledged_by[instance] = history.acknowledged_by[instance].max(version);
        if self.mode == Mode::Bounded {
            history.acknowledged_ago[usize::from(version)] = 0;
        }
        if !self.lacks(Rule::DropOwn) {
            self.drop_near(state, instance);
        }
        Self::end(state, number);
        debug_assert_eq!(state.calls[number].target.epoch, NO_EPOCH);
    }
}
