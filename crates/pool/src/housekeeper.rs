//! What the pool does by itself as time passes. Invariant: the housekeeper does not keep the pool
//! alive, and nothing that a manager does can end it before the pool.

use std::{
    sync::{Arc, Weak},
    task::Waker,
    time::Duration,
};

use tokio::{sync::Notify, time::sleep_until};

use crate::{Config, Manager, lifecycle::Shared};

/// Moves the core's coarse clock, ends connections and sends callers away that had their time, keeps
/// the warm minimum and tries again after a failed connect. Ends with the pool.
///
/// One timer for all callers in line: arming one for each costs more than the rest of a hand-over.
pub(crate) async fn keep_house<M: Manager>(pool: Weak<Shared<M>>, poke: Arc<Notify>) {
    loop {
        let wake_at = {
            let Some(shared) = pool.upgrade() else { return };
            let now = shared.now();
            let (expired, late) = {
                let mut core = shared.core();
                (core.tick(now), core.expire(now))
            };
            late.into_iter().for_each(Waker::wake);
            for live in expired {
                shared.close(live);
            }
            shared.connect_what_is_due();
            let mut core = shared.core();
            if core.is_over() {
                drop(core);
                shared.milestone.notify_waiters();
                return;
            }
            shared.built + core.schedule(now + period(&shared.config))
        };
        tokio::select! {
            () = sleep_until(wake_at) => {}
            () = poke.notified() => {}
        }
    }
}

/// Lifetimes are kept to within a tenth, but at least every second and at most every 10 ms.
fn period(config: &Config) -> Duration {
    let shortest = [config.max_lifetime, config.idle_timeout, config.check_after];
    let shortest = shortest.into_iter().flatten().min();
    (shortest.unwrap_or(Duration::MAX) / 10)
        .clamp(Duration::from_millis(10), Duration::from_secs(1))
}
