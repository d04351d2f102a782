//! The line: who is let in, who is sent away, what they are given. Invariant: a newcomer joins at
//! the end or not at all, and who comes back stands ahead of all who came later.

use std::time::Duration;

use super::{Live, Mode, SlotId, Slots, State};
use crate::{
    Holder,
    codel::Codel,
    holder::Caller,
    runtime::RuntimeId,
    waiters::{Place, Ticket},
};

/// In a pool of this many connections at most it is looked for tasks that wait for a connection
/// while they hold one: with few connections all holders may soon be such tasks, and then none of
/// them ever gets its second.
const SMALL: u32 = 32;

/// Newcomers are looked at at most so often, as that takes longer than joining the line. Whoever
/// waits in vain is looked at in any case.
const NESTED_LOOK: Duration = Duration::from_millis(10);
/// After one was found nobody is looked at for so long, so that the log is not filled.
const NESTED_PAUSE: Duration = Duration::from_secs(60);

/// What became of a caller that found nothing idle.
pub(crate) enum Joined<C, W> {
    /// Something was idle after all.
    Taken(Live<C>, W),
    /// In line; these slots are to be connected, and the housekeeper is to be told if this makes
    /// something due before its next round. `holds` is worth a warning: the task that waits now
    /// already has a connection. The housekeeper is where `kept_on` says, if it has not moved.
    Queued {
        ticket: Ticket,
        due: Vec<SlotId>,
        is_next: bool,
        holds: Option<Holder>,
        kept_on: Option<RuntimeId>,
    },
    /// Not let in.
    Refused(Refusal, W),
}

/// Why a caller was not let into the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Closed,
    /// As many wait as may; how long one more would wait, if that is known.
    Full(Option<Duration>),
    /// It would wait for longer than it can, by so much.
    Hopeless(Duration),
    /// The server is taken for dead; it is worth asking again after this time.
    Unavailable(Duration),
    /// Connecting fails for a reason that time does not cure; this is worth asking again after.
    InVain(Duration),
}

impl<C, W, F: Clone> Slots<C, W, F> {
    /// Joins the line, unless a connection has become idle since [`take`](Self::take) found none.
    pub(crate) fn join(&mut self, seat: W, place: Place, now: Duration) -> Joined<C, W> {
        self.advance(now);
        if !self.is_open() {
            return Joined::Refused(Refusal::Closed, seat);
        }
        if let Some((live, _)) = self.take(place.caller) {
            return Joined::Taken(live, seat);
        }
        if let Some(refusal) = self.outage_refuses() {
            self.tally.counts.refused += 1;
            return Joined::Refused(refusal, seat);
        }
        self.watch_for_new_line();
        if let Some(refusal) = self.overload(place.deadline) {
            self.tally.counts.refused += 1;
            self.overloaded = Some(self.now);
            return Joined::Refused(refusal, seat);
        }
        let holds = self.nested(place.caller);
        let ticket = self.waiters.join(seat, place);
        self.queued(ticket, place.deadline, holds)
    }

    /// Whether connects have failed for so long, or so much for good, that nobody is to wait for one.
    fn outage_refuses(&self) -> Option<Refusal> {
        let next_news = self.outage.next_news(self.now);
        match self.mode {
            Mode::Open if self.waits_in_vain() => Some(Refusal::InVain(next_news)),
            Mode::Open if self.outage.breaker_is_open() => Some(Refusal::Unavailable(next_news)),
            _ => None,
        }
    }

    /// What was measured of one line does not hold for the next.
    fn watch_for_new_line(&mut self) {
        if self.waiters.is_empty() {
            self.grown = 0;
            self.forecast.restart(self.now);
            self.codel.iter_mut().for_each(Codel::calm);
        }
    }

    /// Whether one more in line would be one too many.
    fn overload(&self, deadline: Duration) -> Option<Refusal> {
        let ahead = self.waiters.len();
        // Those for whom a connect can be under way do not count as waiting for others.
        let growing = self.count(State::Connecting) + self.room();
        let wait = match self.mode {
            Mode::Paused => None,
            _ => self.forecast.wait_behind(ahead, self.now),
        };
        if ahead >= self.config.max_waiters.saturating_add(growing) {
            return Some(Refusal::Full(wait));
        }
        let patience = deadline.saturating_sub(self.now);
        match wait {
            Some(wait) if growing == 0 && wait > patience => Some(Refusal::Hopeless(wait - patience)),
            _ => None,
        }
    }

    /// Goes back to the front of the line with the place held there before: what it was handed
    /// turned out to be broken. It is no newcomer, so nothing but the end of the pool keeps it out.
    pub(crate) fn rejoin(&mut self, seat: W, place: Place, now: Duration) -> Joined<C, W> {
        self.advance(now);
        if self.mode == Mode::Closed {
            return Joined::Refused(Refusal::Closed, seat);
        }
        if let Some((live, _)) = self.take(place.caller) {
            return Joined::Taken(live, seat);
        }
        self.watch_for_new_line();
        let ticket = self.waiters.rejoin(seat, place);
        self.queued(ticket, place.deadline, None)
    }

    /// What is to be done now that one more is in line.
    fn queued(&mut self, ticket: Ticket, deadline: Duration, holds: Option<Holder>) -> Joined<C, W> {
        let due = self.connects_due();
        let wake_at = self.retry_at().map_or(deadline, |retry| retry.min(deadline));
        let is_next = wake_at < self.next_round;
        self.next_round = self.next_round.min(wake_at);
        Joined::Queued {
            ticket,
            due,
            is_next,
            holds,
            kept_on: self.kept_on,
        }
    }

    /// Now and then looks whether a task that is about to wait has a connection already, and gives
    /// out the one it has.
    fn nested(&mut self, caller: Caller) -> Option<Holder> {
        if self.now < self.next_nested_look || self.count(State::InUse) == 0 {
            return None;
        }
        self.next_nested_look = self.now + NESTED_LOOK;
        self.held_by_same_task(caller)
    }

    /// Another connection of the task that asks, if there is one and that was not said just now.
    fn held_by_same_task(&mut self, caller: Caller) -> Option<Holder> {
        if self.now < self.next_nested_warning || self.config.capacity() > SMALL {
            return None;
        }
        let task = Some(caller.task?);
        let same_task = |holder: &Holder| holder.task == task;
        let holds = self.holders(self.now).find(same_task)?;
        self.tally.counts.nested_waits += 1;
        self.next_nested_warning = self.now + NESTED_PAUSE;
        Some(holds)
    }

    /// Leaves the line. `None`: it was served in the same moment.
    pub(crate) fn leave(&mut self, ticket: Ticket) -> Option<W> {
        self.waiters.leave(ticket)
    }

    /// Counts a caller whose time ran out. Gives out the connection that its task has, if that is
    /// worth a warning.
    pub(crate) fn timed_out(&mut self, caller: Caller) -> Option<Holder> {
        self.tally.counts.timeouts += 1;
        self.held_by_same_task(caller)
    }

    /// Takes those out of the line whose time has run out.
    pub(crate) fn expire(&mut self, now: Duration) -> Vec<W> {
        self.waiters.expire(now)
    }

    /// Takes callers out at the head while the line has been standing for too long.
    pub(super) fn shed(&mut self) -> Vec<W> {
        let mut shed = Vec::new();
        while let Some(codel) = &mut self.codel
            && let Some(since) = self.waiters.oldest()
            && codel.sheds(self.now.saturating_sub(since), self.waiters.len() == 1, self.now)
            && let Some((seat, _)) = self.waiters.next()
        {
            self.tally.counts.shed += 1;
            self.overloaded = Some(self.now);
            shed.push(seat);
        }
        shed
    }
}
