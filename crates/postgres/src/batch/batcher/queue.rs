//! What waits to be sent, and in which order. Invariant: first come, first served, but for requests of a key that is
//! under way: they come after it, however long it takes, and hold up nobody else.
//!
//! A pure state machine: the time is passed in, nothing is woken or dropped in here.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use cenote_pool::Forecast;
use slab::Slab;
use tokio::time::Instant;

use super::limits::{BatchLimits, Weight};

/// Requests that wait, and the keys of those under way.
pub(super) struct Queue<T> {
    started: Instant,
    waiting: Slab<Waiting<T>>,
    /// In the order in which they are to be sent. Those that have left stay here until their turn.
    line: VecDeque<Ticket>,
    /// Keys under way, with those who wait for them.
    held: HashMap<u64, Held>,
    /// Tickets in `line` and `held` of those that have left.
    stale: usize,
    /// Those that wait to be taken, and those that wait for a key.
    in_line: Load,
    aside: Load,
    tickets: u64,
    batches: u64,
    forecast: Forecast,
    /// How long a batch has taken lately.
    batch_time: Duration,
}

/// A request in the queue.
pub(super) struct Waiting<T> {
    number: u64,
    pub(super) item: T,
    /// Two with the same are never under way in two batches.
    pub(super) key: Option<u64>,
    /// Waits for its key.
    aside: bool,
    weight: Weight,
    pub(super) since: Instant,
    /// After which its caller does not wait for the answer.
    deadline: Option<Instant>,
}

/// A place in the queue.
#[derive(Clone, Copy)]
pub(super) struct Ticket {
    index: usize,
    number: u64,
}

struct Held {
    /// The batch that has it.
    batch: u64,
    waiting: VecDeque<Ticket>,
}

/// So many requests with so many bytes.
#[derive(Clone, Copy, Default)]
struct Load {
    requests: usize,
    bytes: usize,
}

/// What was taken out of the queue.
pub(super) struct Taken<T> {
    pub(super) batch: Vec<Waiting<T>>,
    /// Those that are not to be sent any more.
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

    /// Requests that wait.
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// What they weigh.
    pub(super) fn bytes(&self) -> usize {
        self.in_line.bytes + self.aside.bytes
    }

    fn load(&mut self, aside: bool) -> &mut Load {
        match aside {
            true => &mut self.aside,
            false => &mut self.in_line,
        }
    }

    /// Whether a batch with this key is under way.
    pub(super) fn is_held(&self, key: Option<u64>) -> bool {
        key.is_some_and(|key| self.held.contains_key(&key))
    }

    /// Whether one more may wait, which is to be answered within so long; if not, after which time it is worth trying
    /// again, as far as that can be said. Those whom a worker is about to take do not count, and what waits for a key and
    /// what does not do not count against each other.
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
            let fits = ahead == 0 || load.bytes.saturating_add(bytes) <= limits.waiting_bytes;
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
        // Behind the batch under way, and until its own is over.
        let answered = self.batch_time * 2;
        let longest = limits.expected_wait.min(patience.saturating_sub(answered));
        let in_vain = wait.is_some_and(|wait| wait > longest);
        match has_room(self.in_line, ahead) && !in_vain {
            true => Ok(()),
            false => Err(wait.map(|wait| wait.saturating_sub(longest))),
        }
    }

    /// How long one more would wait, by the rate at which the standing line has moved lately.
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

    /// Gives up a place; `None` if it has been taken already.
    pub(super) fn leave(&mut self, ticket: Ticket) -> Option<T> {
        self.get(ticket)?;
        let left = self.remove(ticket);
        self.stale += 1;
        // So that no more places are kept of those that left than of those that wait.
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

    /// A batch is over, and took so long.
    pub(super) fn finished(&mut self, took: Duration) {
        self.batch_time = match self.batch_time.is_zero() {
            true => took,
            false => (self.batch_time * 7 + took) / 8,
        };
    }

    /// Takes what goes together, and puts those aside whose key is under way. If there are more than fit in, those that
    /// could not be answered in time give way to those behind them.
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

    /// Keys are no longer under way: those who wait for them are the first in line.
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

    /// When the first came of those that can be taken now.
    pub(super) fn first_in_line(&self) -> Option<Instant> {
        self.first_of(&self.line)
    }

    /// When the first came of all that wait.
    pub(super) fn oldest(&self) -> Option<Instant> {
        let held = self.held.values().map(|held| &held.waiting);
        let lines = held.chain([&self.line]);
        lines.filter_map(|line| self.first_of(line)).min()
    }

    fn first_of(&self, line: &VecDeque<Ticket>) -> Option<Instant> {
        let mut line = line.iter().filter_map(|ticket| self.get(*ticket));
        line.next().map(|first| first.since)
    }

    /// Takes out those that came before.
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

    /// Takes out the first so many in the line.
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

    /// Takes out all of which this is true, wherever they wait.
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

    /// One that is there.
    fn remove(&mut self, ticket: Ticket) -> Waiting<T> {
        let removed = self.waiting.remove(ticket.index);
        let load = self.load(removed.aside);
        load.requests -= 1;
        load.bytes -= removed.weight.bytes;
        removed
    }

    /// Counts one as waiting for its key, or not any more, if it has not left.
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
