//! The task that tells Redis what this instance admitted, and hears of the others.
//!
//! Invariant: at most one round trip is under way, of 50 ms at the most; every report is settled, also a lost one.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use cenote_cache::{CheckError, RedisConfig, RedisProblem, ScriptConnection};
use tokio::time::{Instant, sleep, timeout};

use super::script::{CHARGE, Charge, PROBE, probe};
use super::{Report, Sharing};
use crate::limits::Limits;
use crate::limits::table::ReportEnd;

/// Longest wait for an answer.
const ROUND_TRIP: Duration = Duration::from_millis(50);
/// Most reports of a round trip. Redis takes a few milliseconds for them.
const MOST_AT_ONCE: usize = 512;
/// How often Redis is asked while there is nothing to report, so that an outage is seen without load.
const PROBE_INTERVAL: Duration = Duration::from_secs(1);
/// The pause before the second try to connect. It doubles with each further one.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
/// The longest pause. A connection that lasted as long was a good one.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// Shares the limits for ever. Does nothing if they are not to be shared.
///
/// # Cancel safety
///
/// Reports that wait are lost: at most a lease of each caller.
pub(in crate::limits) async fn exchange(limits: &Limits, redis: &RedisConfig) {
    let Some(sharing) = &limits.sharing else {
        return;
    };
    let mut reports = Vec::new();
    let mut pause = FIRST_PAUSE;
    loop {
        match connect(redis).await {
            Ok(mut connection) => {
                sharing.connected();
                let since = Instant::now();
                let problem = talk(limits, sharing, &mut connection, &mut reports).await;
                sharing.disconnected(&problem.into());
                if since.elapsed() >= LONGEST_PAUSE {
                    pause = FIRST_PAUSE;
                }
            }
            Err(error) => sharing.disconnected(&error),
        }
        lose(limits, sharing, &mut reports);
        sharing.take(&mut reports);
        lose(limits, sharing, &mut reports);
        // Random, so that the instances do not all connect at the same time.
        sleep(pause.mul_f64(0.5 + 0.5 * fastrand::f64())).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Tests that limits can be shared through this Redis.
///
/// # Errors
///
/// [`CheckError`] with the server's error text.
///
/// # Cancel safety
///
/// The connection is closed. The key of the probe may be left for a second.
pub(crate) async fn check_sharing(redis: &RedisConfig) -> Result<(), CheckError> {
    connect(redis).await.map(drop)
}

/// Connects, and shows that the script may run there.
async fn connect(redis: &RedisConfig) -> Result<ScriptConnection, CheckError> {
    let mut connection = ScriptConnection::open(redis, PROBE, CHARGE).await?;
    try_out(&mut connection).await?;
    Ok(connection)
}

async fn try_out(connection: &mut ScriptConnection) -> Result<(), RedisProblem> {
    let answer = connection.run([(PROBE, probe())].into_iter(), ROUND_TRIP).await;
    answer.map(drop)
}

/// Reports until Redis fails, and returns why it did. `reports`, first empty, then holds those that it may not know of.
async fn talk(
    limits: &Limits,
    sharing: &Sharing,
    connection: &mut ScriptConnection,
    reports: &mut Vec<Report>,
) -> RedisProblem {
    loop {
        // A timeout is no failure: then there is nothing to report.
        let _idle = timeout(PROBE_INTERVAL, sharing.wake.notified()).await;
        sharing.take(reports);
        let sent = match reports.is_empty() {
            true => try_out(connection).await,
            false => send(limits, sharing, connection, reports).await,
        };
        if let Err(problem) = sent {
            return problem;
        }
    }
}

/// Sends reports. Removes those that Redis has answered.
async fn send(
    limits: &Limits,
    sharing: &Sharing,
    connection: &mut ScriptConnection,
    reports: &mut Vec<Report>,
) -> Result<(), RedisProblem> {
    while !reports.is_empty() {
        let count = reports.len().min(MOST_AT_ONCE);
        let sent = limits.nanoseconds(Instant::now());
        let charge = |it: &Report| {
            let (class, ahead) = (limits.name_of(it.class), it.tat.saturating_sub(sent));
            Charge::new(class, it.window, it.caller, it.count, ahead, sharing.instances)
        };
        let charges: Vec<_> = reports[..count].iter().map(charge).collect();
        let calls = charges.iter().map(|charge| (&*charge.key, charge.arguments));
        let answers = connection.run(calls, ROUND_TRIP).await?;
        sharing.reports.fetch_add(count as u64, Relaxed);
        for (report, micros) in reports.drain(..count).zip(answers) {
            let ahead = u64::try_from(micros).unwrap_or(0).saturating_mul(1000);
            limits.settle(&report, ReportEnd::Known { ahead }, sent);
        }
    }
    Ok(())
}

fn lose(limits: &Limits, sharing: &Sharing, reports: &mut Vec<Report>) {
    for report in reports.drain(..) {
        limits.lose(sharing, &report);
    }
}

#[cfg(test)]
#[path = "exchange_tests.rs"]
mod tests;
