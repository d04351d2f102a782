//! The task that polls the row of the epoch and moves it on. Invariant: a view counts from when its poll was sent.

use std::{sync::Arc, time::Duration};

use ring::rand::{SecureRandom, SystemRandom};
use tokio::time::{sleep, timeout};

use crate::{
    clock,
    modes::{redis_mode::RedisMode, row_reports::RowReports, trust_backoff::TrustBackoff},
    origin::Origin,
    protocol::epoch::{EpochRow, Nonce, Sight, Trust, Watch},
    redis::problem::{RedisProblem, RedisProblemKind},
};

/// The shortest time between two polls, so that they never keep the database busy.
const BREATH: Duration = Duration::from_millis(5);

/// Polls for ever: in every interval, and at once when the session with Redis changes.
pub(crate) async fn run<O: Origin>(mode: Arc<RedisMode>, origin: Arc<O>) {
    let mut changes = mode.epoch_view.changes();
    let mut watch = Watch::default();
    let mut backoff = TrustBackoff::default();
    let mut faults = RowReports::default();
    loop {
        let row = look(&mode, &*origin, &mut watch, &mut faults).await;
        if let Some(row) = &row {
            backoff.note(row, clock::now(), mode.timing.lease());
        }
        if let Some(row) = &row
            && let Some(successor) = successor(&mode, &watch, &backoff, row)
        {
            if advance(&mode, &*origin, successor, &mut faults).await {
                sleep(BREATH).await;
                continue;
            }
        } else if row.is_some() {
            faults.changed();
        }
        let pause = pause(&mode, &watch);
        // A change that this task caused itself needs no poll.
        changes.borrow_and_update();
        tokio::select! {
            () = sleep(pause) => {}
            _ = changes.changed() => {}
        }
    }
}

/// Polls the row, looks for the keyspace that it trusts, and installs the view that it allows.
async fn look<O: Origin>(mode: &RedisMode, origin: &O, watch: &mut Watch, faults: &mut RowReports) -> Option<EpochRow> {
    let sent = clock::now();
    let lease = mode.timing.lease();
    let answer = timeout(lease, origin.epoch_row()).await;
    let now = clock::now();
    let row = match answer {
        Ok(Ok(row)) => row,
        Ok(Err(error)) => {
            let is_permanent = origin.is_permanent(&error);
            let why = faults.not_read(&error, is_permanent, now, lease);
            mode.epoch_view.set_unreadable(why);
            return None;
        }
        Err(_) => {
            faults.not_read(&"the database took too long", false, now, lease);
            return None;
        }
    };
    faults.read();
    mode.epoch_view.set_unreadable(None);
    watch.answered(row, sent, now, lease);
    let newest = watch.newest().unwrap_or(row);
    mode.row.store(Some(Arc::new(newest)));
    prove(mode, &newest).await;
    if let Some(view) = watch.view(clock::now())
        && view.epoch == row.epoch
    {
        mode.epoch_view.install(view, || {
            if let Some(tracking) = &mode.tracking {
                tracking.near.clear();
            }
        });
    }
    Some(row)
}

/// Uses the current session for what the row trusts. A session that is used for what another row trusted is ended.
async fn prove(mode: &RedisMode, row: &EpochRow) {
    let (Some(keyspace), Some(session)) = (row.keyspace(), mode.session.current()) else {
        return;
    };
    match session.keyspace() {
        Some(known) if known == keyspace => {}
        Some(_) => session.retire(),
        None => {
            mode.adopt(&session).await;
            if session.keyspace() == Some(keyspace) {
                mode.session.prove(keyspace);
            }
        }
    }
    if session.is_broken() {
        // At once, not when the reconnect task finds out: a broken session must not count as a Redis that lacks the
        // trusted keyspace.
        mode.session.discard(&session);
    }
}

/// The row that must follow this one, if any.
fn successor(mode: &RedisMode, watch: &Watch, backoff: &TrustBackoff, row: &EpochRow) -> Option<EpochRow> {
    // A database that lost its newest commits, or was restored from a backup, may report an epoch that is over. Neither
    // its number nor any up to the newest may be used again.
    if let Some(newest) = watch.newest().filter(|newest| newest.epoch > row.epoch) {
        return Some(newest.without_redis());
    }
    let now = clock::now();
    let patience = match row.trust {
        Trust::Undecided => Duration::ZERO,
        Trust::Nothing | Trust::Keyspace(_) => patience(mode),
    };
    let seen = mode.session.sight(row, now, patience)?;
    let successor = row.successor(seen, draw_nonce()?)?;
    let wait = match (row.trust, seen) {
        // Giving up needs no further wait: it is always safe.
        (Trust::Keyspace(nonce), _) => {
            explain(mode, nonce, seen);
            return Some(successor);
        }
        (Trust::Undecided, Sight::Unreachable) => mode.timing.lease() / 2,
        (Trust::Undecided, _) => Duration::ZERO,
        (Trust::Nothing, _) => backoff.wait(mode.timing.lease()),
    };
    (watch.known_for(now) >= wait).then_some(successor)
}

/// Logs why Redis is given up.
fn explain(mode: &RedisMode, keyspace: Nonce, seen: Sight) {
    match seen {
        Sight::Unreachable => tracing::warn!("giving Redis up: it does not answer"),
        _ if mode.session_config.sightings.include(keyspace) => tracing::warn!(
            "giving up what Redis holds: it was restarted or replaced, its databases were swapped, or it cannot be told \
             that they were not"
        ),
        _ if mode.disagreement.note(clock::now()) => tracing::warn!(
            "another instance trusts a Redis keyspace that this one does not see: all instances must have the same \
             server, database number and prefix in Redis; check REDIS_URL. Until then the cache is used only for \
             moments, and reads go to the database"
        ),
        _ => tracing::debug!("another instance still trusts another Redis keyspace"),
    }
}

/// Moves the epoch on. Returns whether that may have succeeded.
async fn advance<O: Origin>(mode: &RedisMode, origin: &O, successor: EpochRow, faults: &mut RowReports) -> bool {
    if let Some(nonce) = successor.keyspace()
        && let Err(error) = write_proof(mode, successor.epoch, nonce).await
    {
        tracing::debug!(%error, "what is to be trusted could not be marked in Redis");
        return false;
    }
    match timeout(mode.timing.lease(), origin.advance(successor)).await {
        Ok(Ok(())) => {
            let (epoch, with_redis) = (successor.epoch, successor.keyspace().is_some());
            if faults.says_change() {
                tracing::info!(epoch, with_redis, "moved the epoch on");
            }
            faults.changed();
            true
        }
        Ok(Err(error)) => {
            faults.not_changed(&error);
            false
        }
        Err(_) => {
            faults.not_changed(&"the database took too long");
            false
        }
    }
}

/// Writes the proof of the keyspace that is to be trusted. It is written before the row names it: an instance that reads the
/// row must find the proof.
async fn write_proof(mode: &RedisMode, epoch: u64, nonce: Nonce) -> Result<(), RedisProblem> {
    let session = mode.session.current();
    let session =
        session.ok_or_else(|| RedisProblem::new(RedisProblemKind::Unreachable, "there is no connection to it"))?;
    let written = session.write_proof(epoch, nonce).await;
    if written.is_err() {
        session.cut();
    }
    written
}

/// How long an observation of Redis must last before the row is changed for it. Reconnecting takes less, so a connection
/// that merely broke changes nothing.
fn patience(mode: &RedisMode) -> Duration {
    mode.timing.poll_interval() / 2
}

/// The time until the next poll: sooner if before that the row may be acted on, or the observation of Redis has lasted long
/// enough.
fn pause(mode: &RedisMode, watch: &Watch) -> Duration {
    let timing = &mode.timing;
    let now = clock::now();
    let until_usable = timing.lease().saturating_sub(watch.known_for(now));
    let until_sure = mode.session.unsure_for(now, patience(mode));
    [until_usable, until_sure]
        .into_iter()
        .filter(|soon| !soon.is_zero())
        .fold(timing.poll_interval(), Duration::min)
        .max(BREATH)
}

/// Draws a nonce; `None` if the system has no randomness.
fn draw_nonce() -> Option<Nonce> {
    let mut nonce = [0; 20];
    SystemRandom::new().fill(&mut nonce).ok()?;
    Some(Nonce(nonce))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_nonce_is_drawn_twice() {
        assert_ne!(draw_nonce(), draw_nonce());
    }
}
