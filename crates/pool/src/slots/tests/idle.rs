//! Which connections are kept idle, and which is taken first.

use super::*;

#[test]
fn the_connection_used_last_is_taken_first() {
    let mut core = Core::new(limits(2, 2, 0), 1);
    for (number, slot) in core.connects_due().into_iter().enumerate() {
        core.connected(slot, opened(number as u32), Duration::ZERO);
    }
    let (first, _) = core.take(here()).unwrap();
    let number = first.connection;
    core.release(first, None);
    let (again, _) = core.take(here()).unwrap();
    assert_eq!(again.connection, number);
}

#[test]
fn a_connection_beyond_the_maximum_is_closed_on_release_unless_a_caller_waits() {
    let mut core = Core::new(limits(0, 1, 1), 1);
    let mut held = Vec::new();
    for name in 0..2 {
        let Joined::Queued { due, .. } = join(&mut core, name) else {
            panic!("nothing can be idle");
        };
        held.push(connected_for_one_in_line(&mut core, due[0]));
    }
    assert!(matches!(join(&mut core, 9), Joined::Queued { .. }));
    assert!(matches!(
        core.release(held.remove(0), None),
        Released::Handed { to: 9, .. }
    ));
    assert!(matches!(core.release(held.remove(0), None), Released::Retired(_)));
}

#[test]
fn idle_connections_are_closed_after_their_time_but_never_below_the_warm_minimum() {
    let mut core = Core::new(limits(1, 3, 0), 1);
    connected(&mut core);
    let held: Vec<_> = (0..2)
        .map(|name| {
            let taken = core.take(here());
            let Joined::Queued { due, .. } = join(&mut core, name) else {
                panic!("nothing can be idle");
            };
            (taken, connected_for_one_in_line(&mut core, due[0]))
        })
        .collect();
    for (taken, live) in held {
        if let Some((live, _)) = taken {
            core.release(live, None);
        }
        core.release(live, None);
    }
    assert_eq!(core.occupancy().idle, 3);
    assert_eq!(core.tick(Duration::from_secs(19)).len(), 0);
    assert_eq!(core.tick(Duration::from_secs(20)).len(), 2);
    assert_eq!(core.occupancy().idle, 1);
}
