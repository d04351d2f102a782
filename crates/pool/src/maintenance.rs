//! The maintenance task: what the pool does without a caller.
//!
//! Invariant: the maintenance task does not keep the pool alive, and no code of a manager runs in it, so a panic of the
//! manager cannot end it.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    Config, Manager,
    delivery::{Delivery, refuse_all},
    inner::PoolInner,
    shim::sleep_until,
};

/// Runs the pool's maintenance until the pool ends or another maintenance task replaces this one.
///
/// Whenever it wakes it advances the core's coarse clock, closes connections that reached a limit, ends the waits whose
/// deadline has passed, and starts connects that a backoff held up. Once a round it also inspects the idle connections,
/// so that those the server has closed are replaced before a caller meets them, opens connections on runtimes whose
/// callers miss them, and reports leaks.
///
/// It has one timer for all waiters: arming one for each would cost more than the rest of a hand-over.
pub(crate) async fn maintain<M: Manager>(pool: Weak<PoolInner<M>>, generation: u64, wake: Arc<Notify>) {
    let mut next_round = Duration::ZERO;
    loop {
        let wake_at = {
            let Some(inner) = pool.upgrade() else { return };
            if !inner.is_current_maintenance(generation) {
                return;
            }
            let now = inner.now();
            let (expired, late) = {
                let mut core = inner.core();
                (core.tick(now), core.expire(now))
            };
            refuse_all(late, || Delivery::TimedOut);
            for live in expired {
                inner.close(live);
            }
            inner.connect_due();
            if now >= next_round {
                next_round = now + round_length(&inner.config);
                sweep(&inner);
                inner.connect_for_affinity();
                warn_of_leaks(&inner);
            }
            let mut core = inner.core();
            if core.is_terminated() {
                drop(core);
                inner.state_changed.notify_waiters();
                return;
            }
            inner.built + core.schedule(next_round)
        };
        tokio::select! {
            biased;
            () = sleep_until(wake_at) => {}
            () = wake.notified() => {}
        }
    }
}

/// Sweeps in a task of its own, which ends alone if the manager panics in `inspect`.
fn sweep<M: Manager>(inner: &Arc<PoolInner<M>>) {
    if inner.core().occupancy().idle > 0 {
        let sweeping = inner.clone();
        if let Some(runtime) = inner.maintenance_runtime() {
            runtime.spawn(async move { sweeping.inspect_idle() });
        }
    }
}

fn warn_of_leaks<M: Manager>(inner: &Arc<PoolInner<M>>) {
    let leaks = inner.core().new_leaks();
    for holder in leaks {
        tracing::warn!(held = %holder, "a caller has held a connection for too long; is it leaked?");
    }
}

/// A tenth of the shortest limit, so that limits are kept to within a tenth; between 10 ms and one second.
fn round_length(config: &Config) -> Duration {
    let shortest = [
        config.max_lifetime,
        config.idle_timeout,
        config.check_after,
        config.leak_after,
    ];
    let shortest = shortest.into_iter().flatten().min();
    (shortest.unwrap_or(Duration::MAX) / 10).clamp(Duration::from_millis(10), Duration::from_secs(1))
}
