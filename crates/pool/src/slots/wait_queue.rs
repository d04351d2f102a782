//! The wait queue: who may join, who is refused, who leaves.
//!
//! Invariant: a newcomer joins at the tail or not at all, and a caller that comes back is ahead of all that came later.

use std::time::Duration;

use super::{
    Slots,
    slot::{Live, Mode, SlotId, State},
};
use crate::{
    Holder,
    codel::Codel,
    shim::RuntimeId,
    waiters::{Ticket, Waiter},
};

/// What became of a caller that found nothing idle.
pub(crate) enum Joined<C, W> {
    /// A connection has become idle since.
    Taken(Live<C>, W),
    /// The caller waits.
    Queued {
        ticket: Ticket,
        /// Slots to connect now.
        due: Vec<SlotId>,
        /// The maintenance task must wake for this waiter earlier than it would by itself.
        is_next: bool,
        /// A connection that the waiting task holds already, if that deserves a warning.
        holds: Option<Holder>,
        /// Where the maintenance task runs, if it has not moved.
        maintenance_runtime: Option<RuntimeId>,
    },
    /// The caller does not wait.
    Refused(Refusal, W),
}

/// Why a caller was not admitted to the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Closed,
    /// `max_waiters` callers wait. With the wait that is to be expected at the tail, if it is known.
    Full(Option<Duration>),
    /// The expected wait exceeds the caller's deadline, by this much.
    WouldTimeOut(Duration),
    /// The circuit breaker is open; try again after this time.
    Unavailable(Duration),
    /// Connecting fails for a reason that time does not cure; try again after this time.
    Permanent(Duration),
}

impl<C, W, F: Clone> Slots<C, W, F> {
    /// Joins the queue, unless a connection has become idle since [`take`](Self::take) found none.
    pub(crate) fn join(&mut self, sender: W, waiter: Waiter, now: Duration) -> Joined<C, W> {
        self.advance(now);
        if !self.is_open() {
            self.counters.totals.refused_closed += 1;
            return Joined::Refused(Refusal::Closed, sender);
        }
        if let Some((live, _)) = self.take(waiter.caller) {
            return Joined::Taken(live, sender);
        }
        if let Some(refusal) = self.outage_refusal() {
            self.counters.totals.refused += 1;
            self.counters.totals.refused_unavailable += 1;
            return Joined::Refused(refusal, sender);
        }
        self.reset_if_empty();
        if let Some(refusal) = self.overload_refusal(waiter.deadline) {
            self.counters.totals.refused += 1;
            self.last_overload = Some(self.now);
            return Joined::Refused(refusal, sender);
        }
        let holds = self.nested(waiter.caller);
        let ticket = self.waiters.join(sender, waiter);
        self.counters.totals.waited += 1;
        self.queued(ticket, waiter.deadline, holds)
    }

    /// Joins again ahead of all that came later, because the delivered connection was broken. Such a caller is refused
    /// by a closed pool only: it is not a newcomer.
    pub(crate) fn rejoin(&mut self, sender: W, waiter: Waiter, now: Duration) -> Joined<C, W> {
        self.advance(now);
        if self.mode == Mode::Closed {
            self.counters.totals.refused_closed += 1;
            return Joined::Refused(Refusal::Closed, sender);
        }
        if let Some((live, _)) = self.take(waiter.caller) {
            return Joined::Taken(live, sender);
        }
        self.reset_if_empty();
        let ticket = self.waiters.rejoin(sender, waiter);
        self.queued(ticket, waiter.deadline, None)
    }

    /// Leaves the queue. `None` if a delivery was made in the same moment.
    pub(crate) fn leave(&mut self, ticket: Ticket) -> Option<W> {
        self.waiters.leave(ticket)
    }

    /// Removes the waiters whose deadline has passed.
    pub(crate) fn expire(&mut self, now: Duration) -> Vec<W> {
        self.waiters.expire(now)
    }

    /// Removes waiters at the head while CoDel says so.
    pub(super) fn shed(&mut self) -> Vec<W> {
        let mut shed = Vec::new();
        while let Some(codel) = &mut self.codel
            && let Some(since) = self.waiters.oldest()
            && codel.sheds(self.now.saturating_sub(since), self.waiters.len() == 1, self.now)
            && let Some((sender, _)) = self.waiters.next()
        {
            self.counters.totals.shed += 1;
            self.last_overload = Some(self.now);
            shed.push(sender);
        }
        shed
    }

    /// Refuses newcomers while connects fail and nothing is open that could be returned.
    fn outage_refusal(&self) -> Option<Refusal> {
        let retry_after = self.outage.retry_after(self.now);
        match self.mode {
            Mode::Open if self.fails_permanently() => Some(Refusal::Permanent(retry_after)),
            Mode::Open if self.outage.breaker_is_open() => Some(Refusal::Unavailable(retry_after)),
            _ => None,
        }
    }

    /// Clears the measurements of an earlier queue, which say nothing about the next one.
    fn reset_if_empty(&mut self) {
        if self.waiters.is_empty() {
            self.connects_since_empty = 0;
            self.forecast.restart(self.now);
            self.codel.iter_mut().for_each(Codel::reset);
        }
    }

    /// Refuses a newcomer if the queue is full or would be too slow for its deadline.
    fn overload_refusal(&self, deadline: Duration) -> Option<Refusal> {
        let ahead = self.waiters.len();
        // Waiters that a connect can serve do not wait for other callers.
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
            Some(wait) if growing == 0 && wait > patience => Some(Refusal::WouldTimeOut(wait - patience)),
            _ => None,
        }
    }

    /// What follows from a new waiter.
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
            maintenance_runtime: self.maintenance_runtime,
        }
    }
}
