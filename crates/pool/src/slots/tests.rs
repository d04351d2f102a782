//! The core alone, by behaviour.

mod connects;
mod histories;
mod idle;

use std::panic::Location;

use super::{
    wait_queue::{Joined, Refusal},
    *,
};
use crate::{
    outage::Failure,
    waiters::{Ticket, Waiter},
};

type Core = Slots<u32, u32, &'static str>;

fn limits(min_size: u32, max_size: u32, max_overflow: u32) -> Config {
    Config {
        min_size: Some(min_size),
        max_size,
        max_overflow,
        max_waiters: 4,
        shed_target: Some(Duration::from_millis(50)),
        connect_concurrency: 3,
        max_lifetime: Some(Duration::from_secs(60)),
        idle_timeout: Some(Duration::from_secs(20)),
        ..Config::default()
    }
}

fn here() -> Caller {
    Caller::new(Location::caller(), 0)
}

fn failure(is_permanent: bool, jitter: f64) -> Failure<&'static str> {
    Failure {
        error: "refused",
        is_permanent,
        jitter,
    }
}

fn opened(connection: u32) -> Opened<u32> {
    Opened {
        connection,
        peer: None,
        took: Duration::ZERO,
        lifetime: None,
    }
}

fn join(core: &mut Core, name: u32) -> Joined<u32, u32> {
    let waiter = Waiter {
        caller: here(),
        since: Duration::ZERO,
        deadline: Duration::MAX,
    };
    core.join(name, waiter, Duration::ZERO)
}

fn connected(core: &mut Core) -> SlotId {
    let slot = core.connects_due()[0];
    core.connected(slot, opened(0), Duration::ZERO);
    slot
}

fn connected_for_one_in_line(core: &mut Core, slot: SlotId) -> Live<u32> {
    match core.connected(slot, opened(0), Duration::ZERO) {
        (Released::Handed { live, .. }, _) => live,
        _ => panic!("a caller waits"),
    }
}
