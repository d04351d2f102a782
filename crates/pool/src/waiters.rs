//! The wait queue as a data structure: first in, first out, and removal from anywhere when a caller gives up.
//!
//! Invariant: there is one node for each waiter, linked from `head` to `tail`; no deadline is before `earliest`.

use std::time::Duration;

use slab::Slab;

use crate::caller::Caller;

/// Identifies a position in the queue. It is void once its caller has been served or has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    key: usize,
    /// Tells this node from earlier ones, because the slab reuses keys.
    number: u64,
}

/// The queue. `W` is where a waiter receives its connection.
pub(crate) struct Waiters<W> {
    nodes: Slab<Node<W>>,
    head: Option<usize>,
    tail: Option<usize>,
    /// How many have joined so far.
    joined: u64,
    /// A lower bound: it may be the deadline of a caller that has left, which [`expire`](Self::expire) finds out.
    earliest: Duration,
}

/// Who waits, since when and until when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waiter {
    pub(crate) caller: Caller,
    pub(crate) since: Duration,
    pub(crate) deadline: Duration,
}

struct Node<W> {
    sender: W,
    number: u64,
    waiter: Waiter,
    before: Option<usize>,
    behind: Option<usize>,
}

impl<W> Waiters<W> {
    pub(crate) fn new() -> Self {
        Self {
            nodes: Slab::new(),
            head: None,
            tail: None,
            joined: 0,
            earliest: Duration::MAX,
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.nodes.len() as u32
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// When the waiter at the head joined.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        self.head.map(|head| self.nodes[head].waiter.since)
    }

    /// A time before which no wait expires.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        (!self.is_empty()).then_some(self.earliest)
    }

    /// Removes the waiters whose deadline has passed. Walks along the queue only when `earliest` has passed.
    pub(crate) fn expire(&mut self, now: Duration) -> Vec<W> {
        if now < self.earliest {
            return Vec::new();
        }
        let mut earliest = Duration::MAX;
        let mut late = Vec::new();
        for key in self.keys() {
            match self.nodes[key].waiter.deadline {
                deadline if deadline <= now => late.push(key),
                deadline => earliest = earliest.min(deadline),
            }
        }
        self.earliest = earliest;
        late.into_iter().map(|key| self.remove(key).sender).collect()
    }

    /// The keys of all nodes, head first.
    fn keys(&self) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(self.head, |&key| self.nodes[key].behind)
    }

    /// Joins at the tail.
    pub(crate) fn join(&mut self, sender: W, waiter: Waiter) -> Ticket {
        let before = self.tail;
        self.link(sender, waiter, before)
    }

    /// Joins again, ahead of every waiter that came later.
    pub(crate) fn rejoin(&mut self, sender: W, waiter: Waiter) -> Ticket {
        // From the head, because a caller that was served once is older than almost every waiter.
        let older = |&key: &usize| self.nodes[key].waiter.since < waiter.since;
        let before = self.keys().take_while(older).last();
        self.link(sender, waiter, before)
    }

    fn link(&mut self, sender: W, waiter: Waiter, before: Option<usize>) -> Ticket {
        let behind = match before {
            Some(before) => self.nodes[before].behind,
            None => self.head,
        };
        let number = self.joined;
        self.joined += 1;
        let key = self.nodes.insert(Node {
            sender,
            number,
            waiter,
            before,
            behind,
        });
        match before {
            Some(before) => self.nodes[before].behind = Some(key),
            None => self.head = Some(key),
        }
        match behind {
            Some(behind) => self.nodes[behind].before = Some(key),
            None => self.tail = Some(key),
        }
        self.earliest = self.earliest.min(waiter.deadline);
        Ticket { key, number }
    }

    /// Removes the waiter at the head. The caller of this method must send it something.
    pub(crate) fn next(&mut self) -> Option<(W, Waiter)> {
        let node = self.remove(self.head?);
        Some((node.sender, node.waiter))
    }

    /// Leaves the queue. `None` if the waiter was removed before, so a delivery is on its way.
    pub(crate) fn leave(&mut self, ticket: Ticket) -> Option<W> {
        let node = self.nodes.get(ticket.key)?;
        (node.number == ticket.number).then(|| self.remove(ticket.key).sender)
    }

    fn remove(&mut self, key: usize) -> Node<W> {
        let node = self.nodes.remove(key);
        match node.before {
            Some(before) => self.nodes[before].behind = node.behind,
            None => self.head = node.behind,
        }
        match node.behind {
            Some(behind) => self.nodes[behind].before = node.before,
            None => self.tail = node.before,
        }
        node
    }
}

#[cfg(test)]
mod tests {
    use std::panic::Location;

    use super::*;
    use proptest::prelude::*;

    fn waiter(since: u64, deadline: u64) -> Waiter {
        Waiter {
            caller: Caller::new(Location::caller(), 0),
            since: Duration::from_secs(since),
            deadline: Duration::from_secs(deadline),
        }
    }

    fn join(queue: &mut Waiters<u32>, name: u32) -> Ticket {
        queue.join(name, waiter(0, u64::MAX))
    }

    fn next(queue: &mut Waiters<u32>) -> Option<u32> {
        queue.next().map(|(name, _)| name)
    }

    #[test]
    fn the_first_to_join_is_the_first_to_be_served() {
        let mut queue = Waiters::new();
        for name in 0..3 {
            join(&mut queue, name);
        }
        for name in 0..3 {
            assert_eq!(next(&mut queue), Some(name));
        }
        assert_eq!(next(&mut queue), None);
    }

    #[test]
    fn the_ticket_of_a_served_caller_removes_nobody_else() {
        let mut queue = Waiters::new();
        let served = join(&mut queue, 1);
        assert_eq!(next(&mut queue), Some(1));
        join(&mut queue, 2);
        assert_eq!(queue.leave(served), None);
        assert_eq!(next(&mut queue), Some(2));
    }

    #[test]
    fn waiters_whose_deadline_has_passed_leave_and_the_others_stay_in_order() {
        let mut queue = Waiters::new();
        for (name, seconds) in [(1, 5), (2, 3), (3, 9), (4, 5)] {
            queue.join(name, waiter(0, seconds));
        }
        assert_eq!(queue.next_deadline(), Some(Duration::from_secs(3)));
        assert_eq!(queue.expire(Duration::from_secs(5)), [1, 2, 4]);
        assert_eq!(queue.next_deadline(), Some(Duration::from_secs(9)));
        assert_eq!((next(&mut queue), queue.len()), (Some(3), 0));
    }

    #[test]
    fn the_deadline_of_a_caller_that_left_costs_one_walk_and_expires_nobody() {
        let mut queue = Waiters::new();
        let hurried = queue.join(1, waiter(0, 3));
        queue.join(2, waiter(0, 9));
        queue.leave(hurried);
        assert_eq!(queue.next_deadline(), Some(Duration::from_secs(3)));
        assert!(queue.expire(Duration::from_secs(3)).is_empty());
        assert_eq!(queue.next_deadline(), Some(Duration::from_secs(9)));
    }

    #[test]
    fn callers_that_rejoin_are_ahead_of_all_that_came_later() {
        let mut queue = Waiters::new();
        for name in [3u32, 4, 5] {
            queue.join(name, waiter(name.into(), 60));
        }
        queue.rejoin(2, waiter(2, 60));
        queue.rejoin(1, waiter(1, 60));
        queue.rejoin(9, waiter(9, 60));
        let order: Vec<_> = std::iter::from_fn(|| next(&mut queue)).collect();
        assert_eq!(order, [1, 2, 3, 4, 5, 9]);
    }

    proptest! {
        /// Against a plain vector: joining, leaving anywhere and serving keep the order.
        #[test]
        fn the_queue_behaves_like_a_vector(
            steps in prop::collection::vec((0u8..3, any::<prop::sample::Index>()), 0..200),
        ) {
            let mut queue = Waiters::new();
            let mut model: Vec<(u32, Ticket)> = Vec::new();
            for (name, (step, index)) in steps.into_iter().enumerate() {
                match step {
                    0 => model.push((name as u32, join(&mut queue, name as u32))),
                    1 if !model.is_empty() => {
                        let (name, ticket) = model.remove(index.index(model.len()));
                        prop_assert_eq!(queue.leave(ticket), Some(name));
                        prop_assert_eq!(queue.leave(ticket), None);
                    }
                    _ => match next(&mut queue) {
                        Some(served) => {
                            let (name, ticket) = model.remove(0);
                            prop_assert_eq!(served, name);
                            prop_assert_eq!(queue.leave(ticket), None);
                        }
                        None => prop_assert!(model.is_empty()),
                    },
                }
                prop_assert_eq!(queue.len() as usize, model.len());
            }
        }
    }
}
