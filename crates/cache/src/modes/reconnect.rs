//! The task that keeps a session with Redis. Invariant: only this task opens sessions and removes them, one at a time, and
//! near values are dropped with the session through which they were read.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    clock,
    modes::redis_mode::RedisMode,
    redis::{
        problem::{RedisProblem, RedisProblemKind},
        session::Session,
        tracking::Tracking,
    },
    stats::CacheEvent,
};

/// The pause before the second try to connect. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// The number of PINGs within a bound on staleness, so that some may be late.
const PINGS_PER_BOUND: u32 = 4;

/// Connects, watches the session, and connects again, for ever.
pub(crate) async fn run(mode: Arc<RedisMode>, max_staleness: Option<Duration>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let listener = mode
            .tracking
            .clone()
            .map(|tracking| move |message| Tracking::apply(&tracking, &message));
        match Session::connect(&mode.session_config, listener).await {
            Ok(session) => {
                let (session, since) = (Arc::new(session), Instant::now());
                mode.adopt(&session).await;
                mode.session.install(session.clone());
                mode.reports.connected();
                mode.epoch_view.notify();
                let ended = watch(&mode, &session, max_staleness).await;
                session.cut();
                mode.session.remove();
                mode.keyspace.store(None);
                // No message about them can arrive any more.
                if let Some(tracking) = &mode.tracking {
                    tracking.clear();
                }
                mode.epoch_view.notify();
                if session.is_retired() {
                    continue;
                }
                mode.counters.add(CacheEvent::RedisError, 1);
                let problem = ended.err().or_else(|| session.reason());
                mode.reports.failed(problem.unwrap_or_else(lost));
                if since.elapsed() > LONGEST_PAUSE {
                    pause = FIRST_PAUSE;
                }
            }
            Err(problem) => {
                mode.counters.add(CacheEvent::RedisError, 1);
                mode.reports.failed(problem);
            }
        }
        // Random, so that the instances do not all connect at the same time.
        sleep(pause.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn lost() -> RedisProblem {
    RedisProblem::new(RedisProblemKind::Closed, "the connection was lost")
}

/// Returns when the session is broken: a request failed, or, with the problem, a PING or a probe.
async fn watch(mode: &RedisMode, session: &Session, max_staleness: Option<Duration>) -> Result<(), RedisProblem> {
    let ping_interval = max_staleness.map(|bound| bound / PINGS_PER_BOUND);
    let probe_interval = mode.timing.poll_interval();
    let interval = ping_interval.map_or(probe_interval, |it| it.min(probe_interval));
    let mut probed = Instant::now();
    loop {
        let next = clock::after(Instant::now(), interval);
        if let Some(tracking) = &mode.tracking {
            // The answer proves only what was true when the PING was sent.
            let sent = clock::now();
            session.ping().await?;
            tracking.answered(sent);
        }
        if probed.elapsed() >= probe_interval {
            probed = Instant::now();
            session.probe().await?;
        }
        tokio::select! {
            () = session.broken() => return Ok(()),
            () = sleep_until(next) => {}
        }
    }
}
