use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn limits() -> BatchLimits {
    BatchLimits {
        workers: 1,
        extra: crate::ExtraBatches::new(0),
        batch_rows: 3,
        batch_bytes: 100,
        waiting: 4,
        waiting_bytes: crate::ByteBound::new(1000),
        queue_timeout: HOUR,
        expected_wait: HOUR,
    }
}

/// A queue of names, and a clock.
struct World {
    queue: Queue<&'static str>,
    now: Instant,
    limits: BatchLimits,
}

impl World {
    fn new() -> Self {
        let now = Instant::now();
        Self {
            queue: Queue::new(now),
            now,
            limits: limits(),
        }
    }

    fn push(&mut self, item: &'static str, key: Option<u64>) -> Ticket {
        let weight = Weight { rows: 1, bytes: 10 };
        self.queue.push(item, key, weight, None, self.now)
    }

    fn take(&mut self) -> Vec<&'static str> {
        let taken = self.queue.take(&self.limits, self.now);
        taken.batch.into_iter().map(|taken| taken.item).collect()
    }

    fn has_room(&self, key: Option<u64>) -> bool {
        let room = self.queue.room(key, 10, HOUR, 0, &self.limits, self.now);
        room.is_ok()
    }
}

#[test]
fn the_first_caller_is_taken_first_and_one_that_left_is_not() {
    let mut world = World::new();
    let tickets = ["a", "b", "c", "d", "e"].map(|item| world.push(item, None));
    assert_eq!(world.queue.leave(tickets[1]), Some("b"));
    assert_eq!(world.queue.leave(tickets[1]), None, "it left before");
    assert_eq!(world.take(), ["a", "c", "d"]);
    assert_eq!(world.queue.leave(tickets[2]), None, "it was taken");
    // Another one in the same place is not mistaken for it.
    world.push("f", None);
    assert_eq!(world.queue.leave(tickets[0]), None);
    assert_eq!(world.take(), ["e", "f"]);
    assert_eq!((world.queue.len(), world.queue.bytes()), (0, 0));
}

#[test]
fn those_of_a_key_under_way_come_after_it_in_order_and_before_newcomers() {
    let mut world = World::new();
    for (item, key) in [("a", 1), ("b", 2), ("c", 1), ("d", 3)] {
        world.push(item, Some(key));
    }
    assert_eq!(world.take(), ["a", "b", "c"], "one batch may have several of a key");
    let leaves = world.push("e", Some(1));
    for (item, key) in [("f", 2), ("g", 1), ("h", 4)] {
        world.push(item, Some(key));
    }
    assert_eq!(world.take(), ["d", "h"]);
    assert_eq!(world.queue.leave(leaves), Some("e"));
    world.push("i", Some(5));
    world.queue.release([1, 2].into_iter());
    assert_eq!(world.take(), ["f", "g", "i"]);
    assert_eq!(world.queue.len(), 0);
}

#[test]
fn what_waits_for_a_key_and_what_does_not_keep_each_other_out_of_nothing() {
    let mut world = World::new();
    world.push("under way", Some(1));
    assert_eq!(world.take(), ["under way"]);
    for _ in 0..4 {
        assert!(world.has_room(Some(1)));
        world.push("waits", Some(1));
        assert!(world.take().is_empty());
    }
    assert!(!world.has_room(Some(1)));
    for _ in 0..4 {
        assert!(world.has_room(None) && world.has_room(Some(2)));
        world.push("goes", None);
    }
    assert!(!world.has_room(None));
    assert_eq!((world.queue.len(), world.queue.bytes()), (8, 80));
    world.queue.release([1].into_iter());
    assert_eq!(world.take(), ["waits"; 3]);
}

#[test]
fn the_places_of_those_that_leave_are_not_kept() {
    let mut world = World::new();
    world.push("under way", Some(1));
    world.take();
    for _ in 0..10_000 {
        let in_line = world.push("leaves", None);
        let aside = world.push("leaves", Some(1));
        world.take();
        assert!(world.queue.leave(in_line).is_none());
        assert!(world.queue.leave(aside).is_some());
        let waits = world.push("leaves", None);
        assert!(world.queue.leave(waits).is_some());
    }
    let held = world.queue.held.values().map(|held| held.waiting.len());
    let kept = world.queue.line.len() + held.sum::<usize>();
    assert!(kept < 100, "{kept}");
}

#[test]
fn a_queue_that_moves_too_slowly_refuses_callers_that_would_time_out() {
    let mut world = World::new();
    world.limits.waiting = usize::MAX;
    world.limits.waiting_bytes.set(usize::MAX);
    world.limits.expected_wait = Duration::from_secs(10);
    for _ in 0..1000 {
        world.push("waits", None);
    }
    // Three every 100 ms: 30 a second.
    for _ in 0..20 {
        assert!(world.has_room(None), "nothing is known yet");
        world.now += Duration::from_millis(50);
        world.queue.take(&world.limits, world.now);
        world.now += Duration::from_millis(50);
        if world.now - world.queue.started > Duration::from_secs(1) {
            break;
        }
    }
    let refused = world.queue.room(None, 10, HOUR, 0, &world.limits, world.now);
    let retry_after = refused.unwrap_err().unwrap().as_secs();
    assert!(
        (20..25).contains(&retry_after),
        "{retry_after} s: 970 at 30 a second, less 10 s"
    );
    let left = world.queue.in_line.requests;
    world.queue.drain(left - 200);
    assert!(world.has_room(None), "200 at 30 a second");
}

#[test]
fn those_that_would_be_late_give_way_only_where_there_are_too_many() {
    let mut world = World::new();
    world.queue.finished(Duration::from_millis(100));
    let soon = world.now + Duration::from_millis(120);
    let weight = Weight { rows: 1, bytes: 1 };
    for _ in 0..2 {
        world.queue.push("late", None, weight, Some(soon), world.now);
    }
    assert_eq!(world.take(), ["late"; 2], "nobody else needs the place");
    for _ in 0..2 {
        world.queue.push("late", None, weight, Some(soon), world.now);
    }
    for _ in 0..3 {
        world.push("in time", None);
    }
    let taken = world.queue.take(&world.limits, world.now);
    assert_eq!(taken.late.len(), 2);
    assert_eq!(taken.batch.len(), 3);
    assert!(taken.batch.iter().all(|taken| taken.item == "in time"));
}
