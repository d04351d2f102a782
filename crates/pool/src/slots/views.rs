//! What can be seen of the core from outside. Invariant: looking changes nothing.

use std::time::Duration;

use super::{Census, Mode, Slots, State};
use crate::{Config, Holder, tally::Tally};

impl<C, W, F: Clone> Slots<C, W, F> {
    /// True once a pool that was shut has neither connections nor callers left.
    pub(crate) fn is_over(&self) -> bool {
        !self.is_open() && self.len() == 0 && self.waiters.is_empty()
    }

    pub(crate) fn nothing_idle(&self) -> bool {
        self.idle.is_empty()
    }

    pub(crate) fn someone_waits(&self) -> bool {
        !self.waiters.is_empty()
    }

    pub(crate) fn is_open(&self) -> bool {
        matches!(self.mode, Mode::Open | Mode::Paused)
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.mode == Mode::Paused
    }

    /// True once the warm minimum is open.
    pub(crate) fn is_warm(&self) -> bool {
        self.existing() >= self.config.warm()
    }

    /// True while the pool is paused and no connection is in use, being cleaned or being closed.
    pub(crate) fn is_at_rest(&self) -> bool {
        self.is_paused() && self.len() == self.count(State::Idle) + self.count(State::Connecting)
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn census(&self) -> Census {
        Census {
            connecting: self.count(State::Connecting),
            idle: self.count(State::Idle),
            in_use: self.count(State::InUse),
            cleaning: self.count(State::Cleaning),
            closing: self.count(State::Closing),
            waiting: self.waiters.len(),
        }
    }

    pub(crate) fn tally(&self) -> &Tally {
        &self.tally
    }

    pub(crate) fn last_error(&self) -> Option<F> {
        self.outage.last_error().cloned()
    }

    /// Connects that failed one after another, up to now.
    pub(crate) fn failures(&self) -> u32 {
        self.outage.failures()
    }

    /// How long it takes at least until it is known whether connecting works again.
    pub(crate) fn next_news(&self, now: Duration) -> Duration {
        self.outage.next_news(now)
    }

    /// How long one more in line would wait, if that is known.
    pub(crate) fn expected_wait(&self, now: Duration) -> Option<Duration> {
        self.forecast.wait_behind(self.waiters.len(), now)
    }

    /// True if a caller was refused or shed within the last second because too many wait.
    pub(crate) fn is_shedding(&self, now: Duration) -> bool {
        self.overloaded
            .is_some_and(|at| now < at.saturating_add(Duration::from_secs(1)))
    }

    /// True while the server is taken for dead.
    pub(crate) fn breaker_is_open(&self) -> bool {
        self.outage.breaker_is_open()
    }

    /// How long the caller at the head has waited.
    pub(crate) fn longest_wait(&self, now: Duration) -> Option<Duration> {
        Some(now.saturating_sub(self.waiters.oldest()?))
    }

    /// Who has a connection.
    pub(crate) fn holders(&self, now: Duration) -> impl Iterator<Item = Holder> + '_ {
        self.slots
            .iter()
            .filter(|(_, slot)| slot.state == State::InUse)
            .filter_map(move |(_, slot)| Some(slot.holder?.holding(now.saturating_sub(slot.since))))
    }

    /// Who has held a connection longest.
    pub(crate) fn oldest_holder(&self, now: Duration) -> Option<Holder> {
        self.holders(now).max_by_key(|holder| holder.held)
    }

    /// How many have had a connection for too long.
    pub(crate) fn leaked(&self, now: Duration) -> u32 {
        self.config.leak_after.map_or(0, |limit| {
            let leaked = self.holders(now).filter(|holder| holder.held >= limit);
            leaked.count() as u32
        })
    }
}
