//! The task that keeps a link to Redis. Invariant: it alone makes links and takes them away, one at a time, and what is
//! near goes with the link it was read through.

use std::{sync::Arc, time::Duration};

use tokio::time::{Instant, sleep, sleep_until};

use crate::{
    clock,
    link::Link,
    problem::{Cause, RedisProblem},
    shared::Shared,
    stats::Event,
    tracking::Tracking,
};

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(500);
/// Within a bound on staleness this many proofs are made, so that one may come late.
const PROOFS: u32 = 4;

/// Connects, watches, and connects again, for ever.
pub(crate) async fn keep(shared: Arc<Shared>, max_staleness: Option<Duration>) {
    let mut pause = FIRST_PAUSE;
    loop {
        let told = shared
            .tracking
            .clone()
            .map(|tracking| move |message| Tracking::apply(&tracking, &message));
        match Link::connect(&shared.plan, told).await {
            Ok(link) => {
                let (link, since) = (Arc::new(link), Instant::now());
                shared.adopt(&link).await;
                shared.links.install(link.clone());
                shared.reports.connected();
                shared.views.beat();
                let seen = watch(&shared, &link, max_staleness).await;
                link.cut();
                shared.links.remove();
                shared.cells.store(None);
                if let Some(tracking) = &shared.tracking {
                    tracking.clear();
                }
                shared.views.beat();
                if link.is_retired() {
                    continue;
                }
                shared.counters.count(Event::RedisError);
                let problem = seen.err().or_else(|| link.reason());
                shared.reports.failed(problem.unwrap_or_else(lost));
                if since.elapsed() > LONGEST_PAUSE {
                    pause = FIRST_PAUSE;
                }
            }
            Err(problem) => {
                shared.counters.count(Event::RedisError);
                shared.reports.failed(problem);
            }
        }
        sleep(pause.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

fn lost() -> RedisProblem {
    RedisProblem::new(Cause::Closed, "the connection was lost")
}

/// Returns when the link is broken: a call failed, or, with the problem, it no longer shows signs of life.
async fn watch(shared: &Shared, link: &Link, max_staleness: Option<Duration>) -> Result<(), RedisProblem> {
    let proof_interval = max_staleness.map(|bound| bound / PROOFS);
    let probe_interval = shared.timing.poll_interval();
    let beat = proof_interval.map_or(probe_interval, |it| it.min(probe_interval));
    let mut probed = Instant::now();
    loop {
        let next = clock::after(Instant::now(), beat);
        if let Some(tracking) = &shared.tracking {
            let sent = clock::now();
            link.ping().await?;
            tracking.answered(sent);
        }
        if probed.elapsed() >= probe_interval {
            probed = Instant::now();
            link.probe().await?;
        }
        tokio::select! {
            () = link.broken() => return Ok(()),
            () = sleep_until(next) => {}
        }
    }
}
