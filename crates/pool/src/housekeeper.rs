//! What the pool does by itself as time passes. Invariant: the housekeeper does not keep the pool
//! alive, and nothing that a manager does can end it before the pool.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::sync::{Notify, oneshot};

use crate::{
    Config, Manager,
    house::Keeping,
    lifecycle::{Delivery, Shared, send_away},
    runtime::sleep_until,
};

/// Moves the core's coarse clock, ends connections and sends callers away that had their time, keeps
/// the warm minimum and tries again after a failed connect. In each round it also looks at the idle
/// connections, so that those the server has closed are replaced before a caller meets them, and has
/// one opened where callers often find none of their own home. Ends with the pool.
///
/// One timer for all callers in line: arming one for each costs more than the rest of a hand-over.
///
/// `_listening` ends the task that listens to the manager's news, with this one.
pub(crate) async fn keep_house<M: Manager>(
    mut keeping: Keeping<M>,
    poke: Arc<Notify>,
    _listening: oneshot::Sender<()>,
) {
    let mut next_round = Duration::ZERO;
    loop {
        let wake_at = {
            let Some(shared) = keeping.pool.upgrade() else {
                return;
            };
            if !shared.is_kept_by(keeping.moves) {
                return;
            }
            let now = shared.now();
            let (expired, late) = {
                let mut core = shared.core();
                (core.tick(now), core.expire(now))
            };
            send_away(late, || Delivery::Late);
            for live in expired {
                shared.close(live);
            }
            shared.connect_what_is_due();
            if now >= next_round {
                next_round = now + period(&shared.config);
                sweep(&shared);
                shared.connect_at_homes();
                warn_of_leaks(&shared);
            }
            let mut core = shared.core();
            if core.is_over() {
                drop(core);
                shared.milestone.notify_waiters();
                // There is nothing left to keep.
                keeping.pool = Weak::new();
                return;
            }
            shared.built + core.schedule(next_round)
        };
        tokio::select! {
            biased;
            () = sleep_until(wake_at) => {}
            () = poke.notified() => {}
        }
    }
}

/// In a task of its own: if the manager panics while it inspects, that ends this task only.
fn sweep<M: Manager>(shared: &Arc<Shared<M>>) {
    if shared.core().census().idle > 0 {
        let sweeping = shared.clone();
        if let Some(runtime) = shared.household() {
            runtime.spawn(async move { sweeping.sweep() });
        }
    }
}

fn warn_of_leaks<M: Manager>(shared: &Arc<Shared<M>>) {
    let overdue = shared.core().overdue();
    for holder in overdue {
        tracing::warn!(held = %holder, "a connection was not given back for long; is it leaked?");
    }
}

/// Lifetimes are kept to within a tenth, but at least every second and at most every 10 ms.
fn period(config: &Config) -> Duration {
    let shortest = [
        config.max_lifetime,
        config.idle_timeout,
        config.check_after,
        config.leak_after,
    ];
    let shortest = shortest.into_iter().flatten().min();
    (shortest.unwrap_or(Duration::MAX) / 10).clamp(Duration::from_millis(10), Duration::from_secs(1))
}
