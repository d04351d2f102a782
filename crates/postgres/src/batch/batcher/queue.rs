//! The waiting requests and their order.
//!
//! Invariant: requests are taken first come, first served, except those with a busy key: they follow the batch that has
//! the key, and delay no others.
//!
//! A pure state machine: callers pass the time in, and nothing is woken or dropped here.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use cenote_pool::Forecast;
use slab::Slab;
use tokio::time::Instant;

use super::limits::{BatchLimits, Weight};

/// The waiting requests, and the keys of batches that run.
pub(super) struct Queue<T> {
    started: Instant,
    waiting: Slab<Waiting<T>>,
    /// In the order of sending. A ticket whose request has left stays until its turn.
    line: VecDeque<Ticket>,
    /// Busy keys, with the requests that wait for each.
    held: HashMap<u64, Held>,
    /// The number of tickets in `line` and `held` whose requests have left.
    stale: usize,
    /// The load of the requests in `line`, and of those in `held`.
    in_line: Load,
    aside: Load,
    tickets: u64,
    batches: u64,
    forecast: Forecast,
    /// A moving average of the duration of batches.
    batch_time: Duration,
}

/// A request in the queue.
pub(super) struct Waiting<T> {
    number: u64,
    pub(super) item: T,
    /// Two requests with the same key are never in two running batches.
    pub(super) key: Option<u64>,
    /// It waits for its key, in `held`.
    aside: bool,
    weight: Weight,
    pub(super) since: Instant,
    /// The time after which the caller no longer waits.
    deadline: Option<Instant>,
}

/// A position in the queue. The number tells requests apart that had the same index.
#[derive(Clone, Copy)]
pub(super) struct Ticket {
    index: usize,
    number: u64,
}

struct Held {
    /// The running batch that has the key.
    batch: u64,
    waiting: VecDeque<Ticket>,
}

/// A number of requests and their bytes.
#[derive(Clone, Copy, Default)]
struct Load {
    requests: usize,
    bytes: usize,
}

/// The result of [`Queue::take`].
pub(super) struct Taken<T> {
    pub(super) batch: Vec<Waiting<T>>,
    /// Requests that are not sent because they could not be answered in time.
    pub(super) late: Vec<Waiting<T>>,
}

impl<T> Queue<T> {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            started: now,
            waiting: Slab::new(),
            line: VecDeque::new(),
            held: HashMap::new(),
            stale: 0,
            in_line: Load::default(),
            aside: Load::default(),
            tickets: 0,
            batches: 0,
            forecast: Forecast::default(),
            batch_time: Duration::ZERO,
        }
    }

    /// Returns the number of waiting requests.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Returns the bytes of the waiting requests.
    pub(super) fn bytes(&self) -> usize {
        self.in_line.bytes + self.aside.bytes
    }

    fn load(&mut self, aside: bool) -> &mut Load {
        match aside {
            true => &mut self.aside,
            false => &mut self.in_line,
        }
    }

    /// Whether a running batch has this key.
    pub(super) fn is_held(&self, key: Option<u64>) -> bool {
        key.is_some_and(|key| self.held.contains_key(&key))
    }

    /// Checks that one more request may wait, for a caller that waits `patience` for its answer. The error is the time
    /// after which to try again, if it can be estimated.
    ///
    /// Requests that a worker is about to take do not count. Requests that wait for a key and those that do not are
    /// counted separately.
    pub(super) fn room(
        &self,
        key: Option<u64>,
        bytes: usize,
        patience: Duration,
        about_to_go: usize,
        limits: &BatchLimits,
        now: Instant,
    ) -> Result<(), Option<Duration>> {
        let has_room = |load: Load, ahead: usize| {
            let fits = ahead == 0 || load.bytes.saturating_add(bytes) <= limits.waiting_bytes.get();
            ahead < limits.waiting && fits
        };
        if self.is_held(key) {
            return match has_room(self.aside, self.aside.requests) {
                true => Ok(()),
                false => Err(None),
            };
        }
        let ahead = self.in_line.requests.saturating_sub(about_to_go);
        let wait = self.expected_wait(now);
        // The time behind the running batch, and that of the own batch.
        let answered = self.batch_time * 2;
        let longest = limits.expected_wait.min(patience.saturating_sub(answered));
        let in_vain = wait.is_some_and(|wait| wait > longest);
        match has_room(self.in_line, ahead) && !in_vain {
            true => Ok(()),
            false => Err(wait.map(|wait| wait.saturating_sub(longest))),
        }
    }

    /// Returns how long one more request would wait, by the recent rate of the queue.
    fn expected_wait(&self, now: Instant) -> Option<Duration> {
        let ahead = u32::try_from(self.in_line.requests).unwrap_or(u32::MAX);
        self.forecast.wait_behind(ahead, now - self.started)
    }

    pub(super) fn push(
        &mut self,
        item: T,
        key: Option<u64>,
        weight: Weight,
        deadline: Option<Instant>,
        now: Instant,
    ) -> Ticket {
        if self.in_line.requests == 0 {
            self.forecast.restart(now - self.started);
        }
        self.tickets += 1;
        self.in_line.requests += 1;
        self.in_line.bytes += weight.bytes;
        let number = self.tickets;
        let index = self.waiting.insert(Waiting {
            number,
            item,
            key,
            aside: false,
            weight,
            since: now,
            deadline,
        });
        let ticket = Ticket { index, number };
        self.line.push_back(ticket);
        ticket
    }

    /// Takes a waiting request out; `None` if it was taken already.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<T> {
        self.get(ticket)?;
        let left = self.remove(ticket);
        self.stale += 1;
        // Bounds the memory for tickets of requests that have left. 32 keeps small queues from being swept at every
        // leave.
        if self.stale > self.waiting.len() + 32 {
            self.stale = 0;
            let waiting = &self.waiting;
            let waits = |ticket: &Ticket| {
                let found = waiting.get(ticket.index);
                found.is_some_and(|found| found.number == ticket.number)
            };
            self.line.retain(waits);
            for held in self.held.values_mut() {
                held.waiting.retain(waits);
            }
        }
        Some(left.item)
    }

    /// Notes that a batch has ended and how long it took.
    pub(super) fn finished(&mut self, took: Duration) {
        self.batch_time = match self.batch_time.is_zero() {
            true => took,
            false => (self.batch_time * 7 + took) / 8,
        };
    }

    /// Takes the requests of one batch, and puts requests with a busy key aside. If more wait than fit, requests that
    /// could not be answered in time are skipped in favour of later ones.
    pub(super) fn take(&mut self, limits: &BatchLimits, now: Instant) -> Taken<T> {
        self.batches += 1;
        let batch = self.batches;
        let mut taken = Vec::with_capacity(self.line.len().min(limits.batch_rows));
        let mut late = Vec::new();
        let mut total = Weight::default();
        let done_by = now + self.batch_time * 3 / 2;
        while total.rows < limits.batch_rows
            && let Some(&ticket) = self.line.front()
        {
            let Some(next) = self.get(ticket) else {
                self.line.pop_front();
                self.stale -= 1;
                continue;
            };
            let (key, weight) = (next.key, next.weight);
            let is_late = next.deadline.is_some_and(|deadline| deadline < done_by);
            if is_late && self.line.len() > limits.batch_rows {
                self.line.pop_front();
                late.push(self.remove(ticket));
                continue;
            }
            let held = key.and_then(|key| self.held.get_mut(&key));
            if let Some(held) = held
                && held.batch != batch
            {
                held.waiting.push_back(ticket);
                self.line.pop_front();
                self.put(ticket, true);
                continue;
            }
            total.rows += weight.rows;
            total.bytes += weight.bytes;
            let over = total.rows > limits.batch_rows || total.bytes > limits.batch_bytes;
            if over && !taken.is_empty() {
                break;
            }
            self.line.pop_front();
            if let Some(key) = key {
                let waiting = VecDeque::new();
                self.held.entry(key).or_insert(Held { batch, waiting });
            }
            taken.push(self.remove(ticket));
        }
        let served = u32::try_from(taken.len()).unwrap_or(u32::MAX);
        self.forecast.served(served, now - self.started);
        Taken { batch: taken, late }
    }

    /// Releases keys. The requests that waited for them go to the head of the queue, in their order.
    pub(super) fn release(&mut self, keys: impl Iterator<Item = u64>) {
        let mut waited = Vec::new();
        for key in keys {
            waited.extend(self.held.remove(&key).map(|held| held.waiting));
        }
        let mut waited: Vec<Ticket> = waited.into_iter().flatten().collect();
        waited.sort_unstable_by_key(|ticket| ticket.number);
        for ticket in waited.into_iter().rev() {
            self.put(ticket, false);
            self.line.push_front(ticket);
        }
    }

    /// Returns when the first request that can be taken was submitted.
    pub(super) fn first_in_line(&self) -> Option<Instant> {
        self.first_of(&self.line)
    }

    /// Returns when the oldest of all waiting requests was submitted.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let held = self.held.values().map(|held| &held.waiting);
        let lines = held.chain([&self.line]);
        lines.filter_map(|line| self.first_of(line)).min()
    }

    fn first_of(&self, line: &VecDeque<Ticket>) -> Option<Instant> {
        let mut line = line.iter().filter_map(|ticket| self.get(*ticket));
        line.next().map(|first| first.since)
    }

    /// Takes out the requests that were submitted before a time.
    pub(super) fn expire(&mut self, before: Instant) -> Vec<Waiting<T>> {
        let mut tickets = Vec::new();
        let lines = self.held.values().map(|held| &held.waiting);
        for line in lines.chain([&self.line]) {
            let waiting = line.iter().filter_map(|ticket| {
                let found = self.get(*ticket)?;
                Some((*ticket, found.since))
            });
            let old = waiting.take_while(|(_, since)| *since <= before);
            tickets.extend(old.map(|(ticket, _)| ticket));
        }
        self.stale += tickets.len();
        tickets.into_iter().map(|ticket| self.remove(ticket)).collect()
    }

    /// Takes out the first `most` requests.
    pub(super) fn drain(&mut self, most: usize) -> Vec<Waiting<T>> {
        let mut drained = Vec::new();
        while drained.len() < most
            && let Some(ticket) = self.line.pop_front()
        {
            match self.get(ticket).is_some() {
                true => drained.push(self.remove(ticket)),
                false => self.stale -= 1,
            }
        }
        drained
    }

    /// Takes out all requests for which `which` is true.
    pub(super) fn take_out(&mut self, which: impl Fn(&T) -> bool) -> Vec<Waiting<T>> {
        let waiting = self.waiting.iter().filter(|(_, waiting)| which(&waiting.item));
        let tickets: Vec<Ticket> = waiting
            .map(|(index, waiting)| Ticket {
                index,
                number: waiting.number,
            })
            .collect();
        self.stale += tickets.len();
        tickets.into_iter().map(|ticket| self.remove(ticket)).collect()
    }

    fn get(&self, ticket: Ticket) -> Option<&Waiting<T>> {
        let found = self.waiting.get(ticket.index)?;
        (found.number == ticket.number).then_some(found)
    }

    /// Removes a request that is in the queue.
    fn remove(&mut self, ticket: Ticket) -> Waiting<T> {
        let removed = self.waiting.remove(ticket.index);
        let load = self.load(removed.aside);
        load.requests -= 1;
        load.bytes -= removed.weight.bytes;
        removed
    }

    /// Moves a request between the two loads, if it has not left.
    fn put(&mut self, ticket: Ticket, aside: bool) {
        let Some(found) = self.waiting.get_mut(ticket.index) else {
            return;
        };
        if found.number != ticket.number || found.aside == aside {
            return;
        }
        found.aside = aside;
        let bytes = found.weight.bytes;
        let from = self.load(!aside);
        from.requests -= 1;
        from.bytes -= bytes;
        let to = self.load(aside);
        to.requests += 1;
        to.bytes += bytes;
    }
}

#[cfg(test)]
mod tests;
