//! A read, step by step. Invariant: the versions that it must see are noted when it begins and checked when it returns.

use cenote_cache::protocol::freshness::{LastPing, Staleness};

use crate::{
    proofs::Way,
    redis::Answer,
    rules::{self, Does, Mode, Rule, Scenario},
    state::{At, Call, Cell, Command, NEVER, NO_EPOCH, Owed, Property, Seen, State, Target},
    world::{Emit, ago, now, ticks},
};

impl Scenario {
    pub(crate) fn read(&self, state: &State, number: usize, emit: Emit<'_>) {
        let mut next = *state;
        match state.calls[number].at {
            At::Idle => {
                next.calls[number].owed = self.owed(state, number);
                self.begin_read(&mut next, number);
                match next.calls[number].at {
                    // Without epochs no step can come between the check of the view and the command.
                    At::Looking if !self.epochs => self.look(&next, number, emit),
                    At::Done => emit(self.label(number, "near hit"), next),
                    _ => emit(self.label(number, "begins"), next),
                }
            }
            At::Looking => self.look(state, number, emit),
            At::Received(cell) => {
                if let Some(seen) = seen_in(cell) {
                    self.keep(&mut next, number, seen);
                }
                self.found(&mut next, number, cell);
                emit(self.label(number, "takes up the reply"), next);
            }
            At::Loading { lease } => self.load(state, number, lease, emit),
            At::Loaded { lease, seen } => self.fill(state, number, lease, seen, emit),
            _ => {}
        }
    }

    fn owed(&self, state: &State, number: usize) -> Owed {
        let history = &state.history;
        let own = history.acknowledged_by[self.instance_of(number)];
        let old = history
            .acknowledged_ago
            .iter()
            .rposition(|&age| age != NEVER && age >= rules::BOUND);
        let old = u8::try_from(old.unwrap_or(0)).unwrap();
        let owe = |property, version| if self.promises(property) { version } else { 0 };
        Owed {
            raw: owe(Property::ReadAfterWrite, history.acknowledged),
            lin: owe(Property::GoingBack, history.acknowledged.max(history.read)),
            bounded: owe(Property::Staleness, own.max(old)),
        }
    }

    fn begin_read(&self, state: &mut State, number: usize) {
        let instance = self.instance_of(number);
        if let Some(seen) = state.instances[instance].near
            && self.may_hit(state, instance)
        {
            return self.return_read(state, number, seen);
        }
        if self.mode == Mode::Local {
            state.calls[number].fresh = true;
            let leader = self.flight(state, number);
            state.calls[number].at = leader.map_or(At::Loading { lease: true }, At::Joined);
            return;
        }
        let call = &mut state.calls[number];
        match state.instances[instance].view {
            Some(view) if let Some(nonce) = view.keyspace => {
                call.target = Target {
                    server: 0,
                    epoch: view.epoch,
                    nonce,
                };
                let leader = self.flight(state, number);
                state.calls[number].at = leader.map_or(At::Looking, At::Joined);
            }
            _ => {
                call.target.epoch = NO_EPOCH;
                call.at = At::Loading { lease: false };
            }
        }
    }

    fn may_hit(&self, state: &State, instance: usize) -> bool {
        if self.mode == Mode::Local {
            return true;
        }
        let entry = &state.instances[instance];
        let tick = if self.lacks(Rule::ClockTick) {
            ticks(0)
        } else {
            ticks(1)
        };
        let mut proof = LastPing::default();
        if entry.proof != NEVER {
            proof.answered(ago(entry.proof));
        }
        let proven = proof.holds(now(), Staleness::new(ticks(rules::BOUND), tick).unwrap());
        let link = entry.sighting.map(|(nonce, _)| nonce);
        let viewed = entry
            .view
            .is_some_and(|view| view.keyspace.is_some() && view.keyspace == link);
        proven && (viewed || self.lacks(Rule::NearUnderView))
    }

    /// A read of the same instance whose result this one may wait for.
    fn flight(&self, state: &State, number: usize) -> Option<u8> {
        let mine = state.calls[number].target.epoch;
        let leads = |call: &Call| {
            matches!(call.at, At::Loading { lease: true } | At::Loaded { lease: true, .. }) && call.target.epoch == mine
        };
        let leader = (0..self.calls.len()).find(|&other| {
            self.calls[other] == Some((self.instance_of(number), Does::Read)) && leads(&state.calls[other])
        })?;
        u8::try_from(leader).ok()
    }

    fn look(&self, state: &State, number: usize, emit: Emit<'_>) {
        let command = Command::Lease(u8::try_from(number).unwrap());
        let mut next = *state;
        let target = match self.way(state, number) {
            Way::Open(target) => target,
            Way::Waits => return,
            Way::Closed => {
                next.calls[number].at = At::Loading { lease: false };
                return emit(self.label(number, "cannot reach Redis"), next);
            }
        };
        if self.mode == Mode::Bounded && self.instance_of(number) == 0 {
            next.calls[number].at = At::Awaiting;
            next.calls[number].fresh = true;
            self.execute_tracked(&mut next, target, u8::try_from(number).unwrap());
        } else if let Answer::Found(cell) = self.execute(&mut next, target, command) {
            self.found(&mut next, number, cell);
        }
        emit(self.label(number, "looks into Redis"), next);
        if state.left.lost > 0 {
            let mut next = *state;
            next.left.lost -= 1;
            next.stray = Some((target, command));
            next.calls[number].at = At::Loading { lease: false };
            emit(self.label(number, "looks into Redis, unanswered"), next);
        }
    }

    fn found(&self, state: &mut State, number: usize, cell: Cell) {
        match seen_in(cell) {
            Some(seen) => self.return_read(state, number, seen),
            None => {
                let lease = cell == Cell::Empty;
                state.calls[number].at = At::Loading { lease };
            }
        }
    }

    fn load(&self, state: &State, number: usize, lease: bool, emit: Emit<'_>) {
        let mut next = *state;
        let epoch = state.calls[number].target.epoch;
        let version = state.database.version;
        let deleted = state.database.deletes & (1 << version) != 0;
        let seen = if deleted { Seen::Absent } else { Seen::Value(version) };
        let covered = self.view_covers(state, self.instance_of(number), epoch)
            || self.lacks(Rule::StatementWithinView)
            || self.mode == Mode::Local;
        if epoch != NO_EPOCH && covered || self.mode == Mode::Local {
            next.calls[number].at = At::Loaded { lease, seen };
        } else {
            self.end_flight(&mut next, number, None);
            self.return_read(&mut next, number, seen);
        }
        emit(self.label(number, "reads the database"), next);
    }

    fn fill(&self, state: &State, number: usize, lease: bool, seen: Seen, emit: Emit<'_>) {
        let mut next = *state;
        if self.mode == Mode::Local {
            let fresh = state.calls[number].fresh;
            self.keep(&mut next, number, seen);
            self.end_flight(&mut next, number, fresh.then_some(seen));
            self.return_read(&mut next, number, seen);
            return emit(self.label(number, "returns"), next);
        }
        let token = lease.then(|| u8::try_from(number).unwrap());
        let command = Command::Fill { token, seen };
        let target = match self.way(state, number) {
            Way::Open(target) => target,
            Way::Waits => return,
            Way::Closed => {
                self.end_flight(&mut next, number, None);
                self.return_read(&mut next, number, seen);
                return emit(self.label(number, "cannot reach Redis and returns"), next);
            }
        };
        let filled = self.execute(&mut next, target, command) == Answer::Filled(true);
        if filled && self.lacks(Rule::TrackedReply) && self.instance_of(number) == 0 {
            next.instances[0].near = Some(seen);
        }
        let shared = filled || self.lacks(Rule::ShareOnlyFilled);
        self.end_flight(&mut next, number, shared.then_some(seen));
        self.return_read(&mut next, number, seen);
        emit(
            self.label(
                number,
                if lease {
                    "fills and returns"
                } else {
                    "seals and returns"
                },
            ),
            next,
        );
        if state.left.lost > 0 {
            let mut next = *state;
            next.left.lost -= 1;
            next.stray = Some((target, command));
            self.end_flight(&mut next, number, None);
            next.calls[number].at = At::Loaded { lease: false, seen };
            emit(self.label(number, "fills, unanswered"), next);
        }
    }

    /// Keeps a value near, unless something was invalidated since it was asked for.
    fn keep(&self, state: &mut State, number: usize, seen: Seen) {
        if state.calls[number].fresh || self.lacks(Rule::Generation) {
            state.instances[self.instance_of(number)].near = Some(seen);
        }
    }

    /// Gives the followers of a flight its result, or restarts them.
    pub(crate) fn end_flight(&self, state: &mut State, leader: usize, result: Option<Seen>) {
        for follower in 0..self.calls.len() {
            if state.calls[follower].at == At::Joined(u8::try_from(leader).unwrap()) {
                match result {
                    Some(seen) => self.return_read(state, follower, seen),
                    None => {
                        // The leader must not find itself as a flight to join.
                        state.calls[leader].at = At::Done;
                        self.begin_read(state, follower);
                    }
                }
            }
        }
    }

    /// Checks what a read returns, and ends it.
    fn return_read(&self, state: &mut State, number: usize, seen: Seen) {
        let Owed { raw, lin, bounded } = state.calls[number].owed;
        let deletes = state.database.deletes;
        // A read without a value may have seen any delete. The oldest allowed one is assumed, so that no violation is
        // reported wrongly.
        let allowed = |owed: u8| match seen {
            Seen::Value(version) => (version >= owed).then_some(version),
            Seen::Absent => (owed..8).find(|version| deletes & (1 << version) != 0),
        };
        for (owed, property) in [
            (raw, Property::ReadAfterWrite),
            (lin, Property::GoingBack),
            (bounded, Property::Staleness),
        ] {
            if allowed(owed).is_none() && state.broken.is_none() {
                state.broken = Some(property);
            }
        }
        if self.promises(Property::GoingBack) {
            state.history.read = state.history.read.max(allowed(lin).unwrap_or(0));
        }
        Self::end(state, number);
    }

    /// Resets a call that has ended, so that its former state does not tell states apart.
    pub(crate) fn end(state: &mut State, number: usize) {
        state.calls[number] = Call {
            at: At::Done,
            target: Target {
                server: 0,
                epoch: NO_EPOCH,
                nonce: 0,
            },
            owed: Owed::default(),
            fresh: false,
            age: 0,
        };
    }
}

fn seen_in(cell: Cell) -> Option<Seen> {
    match cell {
        Cell::Value(version) => Some(Seen::Value(version)),
        Cell::Absent => Some(Seen::Absent),
        _ => None,
    }
}
