//! How instances prove that they see the trusted keyspace. Invariant: a lost proof is put back only where it was.

use crate::{
    rules::{Rule, Scenario},
    state::{Connection, NO_EPOCH, State, Target, Trust},
    world::{Emit, Label, Who},
};

/// The outcome of a command.
pub(crate) enum Way {
    /// It is executed.
    Open(Target),
    /// The proof is missing and can be put back; until then commands have no effect.
    Waits,
    /// Redis is unreachable, or not the trusted one.
    Closed,
}

impl Scenario {
    /// The keyspace to which the command of a call goes.
    pub(crate) fn way(&self, state: &State, number: usize) -> Way {
        let instance = self.instance_of(number);
        let from = &state.instances[instance];
        let Target { epoch, nonce, .. } = state.calls[number].target;
        let server = from.server;
        if epoch == NO_EPOCH || !state.reaches(instance, server) {
            return Way::Closed;
        }
        let target = Target { server, epoch, nonce };
        match from.sighting {
            Some((seen, _)) if seen == nonce => {
                if self.lacks(Rule::ProofInCommand) || self.sees(state, server, nonce) {
                    Way::Open(target)
                } else if self.may_put_back(state, instance, nonce) {
                    Way::Waits
                } else {
                    Way::Closed
                }
            }
            _ => Way::Closed,
        }
    }

    /// Whether the proof is missing and this is certainly the keyspace in which it was seen.
    fn may_put_back(&self, state: &State, instance: usize, nonce: u8) -> bool {
        let from = &state.instances[instance];
        let is_gone = state.servers[usize::from(from.server)].proofs[usize::from(nonce)].is_none();
        let unswapped = Some((nonce, state.swaps));
        let blind = self.lacks(Rule::ProofPutBackIfUnswapped) && from.sighting.is_some_and(|(seen, _)| seen == nonce);
        is_gone && (from.sighting == unswapped || blind)
    }

    /// The nonce that the instance looks for.
    fn wanted(state: &State, instance: usize) -> Option<u8> {
        match state.instances[instance].known?.row.trust {
            Trust::Keyspace(nonce) => Some(nonce),
            Trust::Undecided | Trust::Nothing => None,
        }
    }

    /// Looks for the proof on a new connection, or of a new row.
    pub(crate) fn look_for_proof(&self, state: &mut State, instance: usize) {
        let Some(nonce) = Self::wanted(state, instance) else {
            return;
        };
        let server = state.instances[instance].server;
        if state.reaches(instance, server) && self.sees(state, server, nonce) {
            state.instances[instance].sighting = Some((nonce, state.swaps));
        }
    }

    /// The periodic look-up of the proof by an instance.
    pub(crate) fn probe(&self, state: &State, instance: usize, emit: Emit<'_>) {
        let Some(nonce) = Self::wanted(state, instance) else {
            return;
        };
        let from = &state.instances[instance];
        if from.connection != Connection::Up || !state.reaches(instance, from.server) {
            return;
        }
        let who = Who::Instance(instance);
        let mut next = *state;
        let sighting = &mut next.instances[instance].sighting;
        let what = if self.sees(state, from.server, nonce) {
            *sighting = Some((nonce, state.swaps));
            "sees the proof"
        } else if self.may_put_back(state, instance, nonce) {
            *sighting = Some((nonce, state.swaps));
            let run = state.servers[usize::from(from.server)].run;
            *next.proof(from.server, nonce) = Some(run);
            "puts the proof back"
        } else {
            // The near value is dropped with the connection.
            *sighting = None;
            self.drop_near(&mut next, instance);
            "does not find the proof"
        };
        if next != *state {
            emit(Label { who, what }, next);
        }
    }
}
