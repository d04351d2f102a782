//! Callers in line: first in, first out, and out from anywhere when one gives up.
//!
//! Invariant: there is a node for exactly those in line, linked from `head` to `tail`; no deadline in
//! line is before `earliest`.

use std::time::Duration;

use slab::Slab;

use crate::holder::Caller;

/// A place in the line, void once its caller has been served or has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ticket {
    key: usize,
    /// Tells it from others that had the same key.
    number: u64,
}

/// The line. `W` is where a caller is given what it waits for.
pub(crate) struct Waiters<W> {
    nodes: Slab<Node<W>>,
    head: Option<usize>,
    tail: Option<usize>,
    /// How many have joined so far.
    joined: u64,
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

struct Node<W> {
    seat: W,
    number: u64,
    place: Place,
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

    /// When the caller at the head joined.
    pub(crate) fn oldest(&self) -> Option<Duration> {
        self.head.map(|head| self.nodes[head].place.since)
    }

    /// Nobody in line has to be sent away before.
    pub(crate) fn next_deadline(&self) -> Option<Duration> {
        (!self.is_empty()).then_some(self.earliest)
    }

    /// Takes out those whose deadline has come. Walks along the line only when the earliest has.
    pub(crate) fn expire(&mut self, now: Duration) -> Vec<W> {
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
        late.into_iter().map(|key| self.take_out(key).seat).collect()
    }

    /// The keys in line, head first.
    fn queued(&self) -> impl Iterator<Item = usize> + '_ {
        std::iter::successors(self.head, |&key| self.nodes[key].behind)
    }

    /// Joins at the end.
    pub(crate) fn join(&mut self, seat: W, place: Place) -> Ticket {
        let before = self.tail;
        self.link(seat, place, before)
    }

    /// Joins again, ahead of all who came later.
    pub(crate) fn rejoin(&mut self, seat: W, place: Place) -> Ticket {
        // From the head: whoever was served already is older than almost everyone still in line.
        let older = |&key: &usize| self.nodes[key].place.since < place.since;
        let before = self.queued().take_while(older).last();
        self.link(seat, place, before)
    }

    fn link(&mut self, seat: W, place: Place, before: Option<usize>) -> Ticket {
        let behind = match before {
            Some(before) => self.nodes[before].behind,
            None => self.head,
        };
        let number = self.joined;
        self.joined += 1;
        let key = self.nodes.insert(Node {
            seat,
            number,
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
        self.earliest = self.earliest.min(place.deadline);
        Ticket { key, number }
    }

    /// Takes out the caller at the head: whoever calls this has something for it.
    pub(crate) fn next(&mut self) -> Option<(W, Place)> {
        let node = self.take_out(self.head?);
        Some((node.seat, node.place))
    }

    /// Leaves the line. `None`: it was served in the same moment.
    pub(crate) fn leave(&mut self, ticket: Ticket) -> Option<W> {
        let node = self.nodes.get(ticket.key)?;
        (node.number == ticket.number).then(|| self.take_out(ticket.key).seat)
    }

    fn take_out(&mut self, key: usize) -> Node<W> {
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

    fn place(since: u64, deadline: u64) -> Place {
        Place {
            caller: Caller::new(Location::caller(), 0),
            since: Duration::from_secs(since),
            deadline: Duration::from_secs(deadline),
        }
    }

    fn join(line: &mut Waiters<u32>, name: u32) -> Ticket {
        line.join(name, place(0, u64::MAX))
    }

    fn next(line: &mut Waiters<u32>) -> Option<u32> {
        line.next().map(|(name, _)| name)
    }

    #[test]
    fn the_first_to_join_is_the_first_to_be_served() {
        let mut line = Waiters::new();
        for name in 0..3 {
            join(&mut line, name);
        }
        for name in 0..3 {
            assert_eq!(next(&mut line), Some(name));
        }
        assert_eq!(next(&mut line), None);
    }

    #[test]
    fn the_ticket_of_one_who_was_served_takes_nobody_else_out_of_the_line() {
        let mut line = Waiters::new();
        let served = join(&mut line, 1);
        assert_eq!(next(&mut line), Some(1));
        join(&mut line, 2);
        assert_eq!(line.leave(served), None);
        assert_eq!(next(&mut line), Some(2));
    }

    #[test]
    fn those_whose_deadline_has_come_leave_and_the_others_stay_in_order() {
        let mut line = Waiters::new();
        for (name, seconds) in [(1, 5), (2, 3), (3, 9), (4, 5)] {
            line.join(name, place(0, seconds));
        }
        assert_eq!(line.next_deadline(), Some(Duration::from_secs(3)));
        assert_eq!(line.expire(Duration::from_secs(5)), [1, 2, 4]);
        assert_eq!(line.next_deadline(), Some(Duration::from_secs(9)));
        assert_eq!((next(&mut line), line.len()), (Some(3), 0));
    }

    #[test]
    fn a_deadline_of_one_who_left_costs_one_look_and_sends_nobody_away() {
        let mut line = Waiters::new();
        let hurried = line.join(1, place(0, 3));
        line.join(2, place(0, 9));
        line.leave(hurried);
        assert_eq!(line.next_deadline(), Some(Duration::from_secs(3)));
        assert!(line.expire(Duration::from_secs(3)).is_empty());
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
        let order: Vec<_> = std::iter::from_fn(|| next(&mut line)).collect();
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
                        prop_assert_eq!(line.leave(ticket), Some(name));
                        prop_assert_eq!(line.leave(ticket), None);
                    }
                    _ => match next(&mut line) {
                        Some(served) => {
                            let (name, ticket) = model.remove(0);
                            prop_assert_eq!(served, name);
                            prop_assert_eq!(line.leave(ticket), None);
                        }
                        None => prop_assert!(model.is_empty()),
                    },
                }
                prop_assert_eq!(line.len() as usize, model.len());
            }
        }
    }
}
