//! Callers in line: first in, first out, and out from anywhere when one gives up.
//!
//! Invariant: `queued` counts exactly the nodes linked between `head` and `tail`; a node that has
//! been served is no longer linked and stays only until its caller collects what it was given; no
//! deadline in line is before `earliest`.

use std::time::Duration;

use slab::Slab;

use crate::holder::Caller;

/// A place in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket(usize);

/// The line. `D` is what a caller is given in the end, `W` what wakes it.
pub(crate) struct Waiters<D, W> {
    nodes: Slab<Node<D, W>>,
    head: Option<usize>,
    tail: Option<usize>,
    queued: u32,
    /// May be that of a caller who has left: then it is found out when it comes.
    earliest: Duration,
}

/// Who stands in line, since when and until when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) caller: Caller,
    pub(crate) since: Duration,
    pub(crate) deadline: Duration,
}

struct Node<D, W> {
    stage: Stage<D, W>,
    place: Place,
    before: Option<usize>,
    behind: Option<usize>,
}

enum Stage<D, W> {
    Queued(W),
    Served(D),
}

/// What a caller that left the line leaves behind, to be dropped or given back outside the lock.
pub(crate) enum Left<D, W> {
    Queue(W),
    Delivery(D),
}

impl<D, W> Waiters<D, W> {
    pub(crate) fn new() -> Self {
        Self {
            nodes: Slab::new(),
            head: None,
            tail: None,
            queued: 0,
            earliest: Duration::MAX,
        }
    }

    pub(crate) fn len(&self) -> u32 {
        self.queued
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queued == 0
    }

    /// When the caller at the head joined.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        self.head.map(|head| self.nodes[head].place.since)
    }

    /// Nobody in line has to be sent away before.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        (!self.is_empty()).then_some(self.earliest)
    }

    /// Gives those whose deadline has come what `delivery` makes, and returns whom to wake. Walks
    /// along the line only when the earliest deadline has come.
    pub(crate) fn expire(&mut self, now: Duration, delivery: impl Fn() -> D) -> Vec<W> {
        if now < self.earliest {
            return Vec::new();
        }
        let mut earliest = Duration::MAX;
        let mut late = Vec::new();
        for key in self.queued() {
            match self.nodes[key].place.deadline {
                deadline if deadline <= now => late.push(key),
                deadline => earliest = earliest.min(deadline),
            }
        }
        self.earliest = earliest;
        late.into_iter()
            .filter_map(|key| self.serve_at(key, delivery()))
            .collect()
    }

    /// The keys in line, head first.
    fn queued(&self) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(self.head, |&key| self.nodes[key].behind)
    }

    /// Who stands at the head.
    pub(crate) fn next_caller(&self) -> Option<Caller> {
        self.head.map(|head| self.nodes[head].place.caller)
    }

    /// Joins at the end.
    pub(crate) fn join(&mut self, waker: W, place: Place) -> Ticket {
        let before = self.tail;
        self.link(waker, place, before)
    }

    /// Joins again, ahead of all who came later.
    pub(crate) fn rejoin(&mut self, waker: W, place: Place) -> Ticket {
        // From the head: whoever was served already is older than almost everyone still in line.
        let older = |&key: &usize| self.nodes[key].place.since < place.since;
        let before = self.queued().take_while(older).last();
        self.link(waker, place, before)
    }

    fn link(&mut self, waker: W, place: Place, before: Option<usize>) -> Ticket {
        let behind = match before {
            Some(before) => self.nodes[before].behind,
            None => self.head,
        };
        let key = self.nodes.insert(Node {
            stage: Stage::Queued(waker),
            place,
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
        self.queued += 1;
        self.earliest = self.earliest.min(place.deadline);
        Ticket(key)
    }

    /// Gives the caller at the head its delivery; the waker returned must be woken after the lock
    /// is released. An empty line gives the delivery back.
    pub(crate) fn serve(&mut self, delivery: D) -> Result<W, D> {
        let Some(key) = self.head else {
            return Err(delivery);
        };
        match self.serve_at(key, delivery) {
            Some(waker) => Ok(waker),
            None => unreachable!("a served caller is not linked"),
        }
    }

    fn serve_at(&mut self, key: usize, delivery: D) -> Option<W> {
        self.unlink(key);
        match std::mem::replace(&mut self.nodes[key].stage, Stage::Served(delivery)) {
            Stage::Queued(waker) => Some(waker),
            Stage::Served(_) => None,
        }
    }

    /// Collects the delivery, if there is one; the ticket is then void.
    pub(crate) fn collect(&mut self, ticket: Ticket) -> Option<(D, Duration)> {
        match self.nodes[ticket.0].stage {
            Stage::Queued(_) => None,
            Stage::Served(_) => {
                let node = self.nodes.remove(ticket.0);
                match node.stage {
                    Stage::Served(delivery) => Some((delivery, node.place.since)),
                    Stage::Queued(_) => None,
                }
            }
        }
    }

    /// Exchanges the waker of a caller that is still queued; gives back the one not needed.
    pub(crate) fn rewake(&mut self, ticket: Ticket, waker: W) -> W {
        match &mut self.nodes[ticket.0].stage {
            Stage::Queued(current) => std::mem::replace(current, waker),
            Stage::Served(_) => waker,
        }
    }

    /// Leaves the line, or leaves with what was delivered in the same moment.
    pub(crate) fn leave(&mut self, ticket: Ticket) -> Left<D, W> {
        if matches!(self.nodes[ticket.0].stage, Stage::Queued(_)) {
            self.unlink(ticket.0);
        }
        match self.nodes.remove(ticket.0).stage {
            Stage::Queued(waker) => Left::Queue(waker),
            Stage::Served(delivery) => Left::Delivery(delivery),
        }
    }

    fn unlink(&mut self, key: usize) {
        let (before, behind) = (self.nodes[key].before, self.nodes[key].behind);
        match before {
            Some(before) => self.nodes[before].behind = behind,
            None => self.head = behind,
        }
        match behind {
            Some(behind) => self.nodes[behind].before = before,
            None => self.tail = before,
        }
        self.queued -= 1;
    }
}

#[cfg(test)]
mod tests {
    use std::panic::Location;

    use super::*;
    use proptest::prelude::*;

    fn place(since: u64, deadline: u64) -> Place {
        Place {
            caller: Caller::new(Location::caller(), 0),
            since: Duration::from_secs(since),
            deadline: Duration::from_secs(deadline),
        }
    }

    fn join(line: &mut Waiters<u32, u32>, name: u32) -> Ticket {
        line.join(name, place(0, u64::MAX))
    }

    #[test]
    fn the_first_to_join_is_the_first_to_be_served() {
        let mut line = Waiters::new();
        let tickets: Vec<_> = (0..3).map(|name| join(&mut line, name)).collect();
        for name in 0..3 {
            assert_eq!(line.serve(name * 10), Ok(name));
        }
        assert_eq!(line.serve(99), Err(99));
        for (name, ticket) in tickets.into_iter().enumerate() {
            let (delivery, _) = line.collect(ticket).unwrap();
            assert_eq!(delivery, name as u32 * 10);
        }
    }

    #[test]
    fn a_caller_that_leaves_after_it_was_served_hands_its_delivery_back() {
        let mut line = Waiters::new();
        let ticket = join(&mut line, 1);
        assert_eq!(line.serve(7), Ok(1));
        assert!(matches!(line.leave(ticket), Left::Delivery(7)));
    }

    #[test]
    fn those_whose_deadline_has_come_leave_and_the_others_stay_in_order() {
        let mut line = Waiters::new();
        for (name, seconds) in [(1, 5), (2, 3), (3, 9), (4, 5)] {
            line.join(name, place(0, seconds));
        }
        assert_eq!(line.next_deadline(), Some(Duration::from_secs(3)));
        assert_eq!(line.expire(Duration::from_secs(5), || 0), [1, 2, 4]);
        assert_eq!(line.next_deadline(), Some(Duration::from_secs(9)));
        assert_eq!((line.serve(0), line.len()), (Ok(3), 0));
    }

    #[test]
    fn a_deadline_of_one_who_left_costs_one_look_and_sends_nobody_away() {
        let mut line = Waiters::new();
        let hurried = line.join(1, place(0, 3));
        line.join(2, place(0, 9));
        line.leave(hurried);
        assert_eq!(line.next_deadline(), Some(Duration::from_secs(3)));
        assert!(line.expire(Duration::from_secs(3), || 0).is_empty());
        assert_eq!(line.next_deadline(), Some(Duration::from_secs(9)));
    }

    #[test]
    fn those_who_come_back_stand_ahead_of_all_who_came_later() {
        let mut line = Waiters::new();
        for name in [3u32, 4, 5] {
            line.join(name, place(name.into(), 60));
        }
        line.rejoin(2, place(2, 60));
        line.rejoin(1, place(1, 60));
        line.rejoin(9, place(9, 60));
        let order: Vec<_> = std::iter::from_fn(|| line.serve(0).ok()).collect();
        assert_eq!(order, [1, 2, 3, 4, 5, 9]);
    }

    proptest! {
        /// Against a plain vector: joining, leaving anywhere and serving keep the order.
        #[test]
        fn the_line_behaves_like_a_vector(steps in prop::collection::vec((0u8..3, any::<prop::sample::Index>()), 0..200)) {
            let mut line = Waiters::new();
            let mut model: Vec<(u32, Ticket)> = Vec::new();
            for (name, (step, index)) in steps.into_iter().enumerate() {
                match step {
                    0 => model.push((name as u32, join(&mut line, name as u32))),
                    1 if !model.is_empty() => {
                        let (name, ticket) = model.remove(index.index(model.len()));
                        prop_assert!(matches!(line.leave(ticket), Left::Queue(left) if left == name));
                    }
                    _ => match line.serve(0) {
                        Ok(woken) => {
                            let (name, ticket) = model.remove(0);
                            prop_assert_eq!(woken, name);
                            prop_assert!(line.collect(ticket).is_some());
                        }
                        Err(_) => prop_assert!(model.is_empty()),
                    },
                }
                prop_assert_eq!(line.len() as usize, model.len());
            }
        }
    }
}
