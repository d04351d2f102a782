//! The task that follows the epoch and moves it on. Invariant: a view counts from when its poll was sent.

use std::{sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use crate::{
    caution::Caution,
    clock,
    epoch::{Nonce, Row, Sight, Trust, Watch},
    origin::Origin,
    problem::{Cause, RedisProblem},
    proof,
    row_faults::RowFaults,
    shared::Shared,
};

/// What is waited at least before the row is looked at again, lest it be all the database has to do.
const BREATH: Duration = Duration::from_millis(5);

/// Polls for ever: in every interval, and at once when something changes at Redis.
pub(crate) async fn poll<O: Origin>(shared: Arc<Shared>, origin: Arc<O>) {
    let mut pulse = shared.views.pulse();
    let mut watch = Watch::default();
    let mut caution = Caution::default();
    let mut faults = RowFaults::default();
    loop {
        let row = look(&shared, &*origin, &mut watch, &mut faults).await;
        if let Some(row) = &row {
            caution.note(row, clock::now(), shared.timing.lease());
        }
        if let Some(row) = &row
            && let Some(successor) = successor(&shared, &watch, &caution, row)
        {
            if advance(&shared, &*origin, successor, &mut faults).await {
                sleep(BREATH).await;
                continue;
            }
        } else if row.is_some() {
            faults.changed();
        }
        let pause = pause(&shared, &watch);
        // What this task has told itself is no news.
        pulse.borrow_and_update();
        tokio::select! {
            () = sleep(pause) => {}
            _ = pulse.changed() => {}
        }
    }
}

/// Reads the row, looks for the keyspace that it trusts, and takes the view that it allows.
async fn look<O: Origin>(shared: &Shared, origin: &O, watch: &mut Watch, faults: &mut RowFaults) -> Option<Row> {
    let sent = clock::now();
    let lease = shared.timing.lease();
    let answer = timeout(lease, origin.epoch_row()).await;
    let now = clock::now();
    let row = match answer {
        Ok(Ok(row)) => row,
        Ok(Err(error)) => {
            let is_permanent = origin.is_permanent(&error);
            let why = faults.not_read(&error, is_permanent, now, lease);
            shared.views.cannot_be_known(why);
            return None;
        }
        Err(_) => {
            faults.not_read(&"the database took too long", false, now, lease);
            return None;
        }
    };
    faults.read();
    shared.views.cannot_be_known(None);
    watch.answered(row, sent, now, lease);
    let newest = watch.newest().unwrap_or(row);
    shared.row.store(Some(Arc::new(newest)));
    prove(shared, &newest).await;
    if let Some(view) = watch.view(clock::now())
        && view.epoch == row.epoch
    {
        shared.views.install(view, || {
            if let Some(tracking) = &shared.tracking {
                tracking.near.clear();
            }
        });
    }
    Some(row)
}

/// Has the present link used for what the row trusts. A link that is used for what another row has trusted gives way.
async fn prove(shared: &Shared, row: &Row) {
    let (Some(keyspace), Some(link)) = (row.keyspace(), shared.links.current()) else {
        return;
    };
    match link.keyspace() {
        Some(known) if known == keyspace => {}
        Some(_) => link.retire(),
        None => {
            shared.adopt(&link).await;
            if link.keyspace() == Some(keyspace) {
                shared.links.prove(keyspace);
            }
        }
    }
    if link.is_broken() {
        // Now rather than when its keeper finds out: it must not count as a Redis without what is trusted.
        shared.links.discard(&link);
    }
}

/// What must follow the row.
fn successor(shared: &Shared, watch: &Watch, caution: &Caution, row: &Row) -> Option<Row> {
    // A database that lost its newest commits, or was restored, may tell of an epoch that is over. Its number must not be
    // used again, nor any between.
    if let Some(newest) = watch.newest().filter(|newest| newest.epoch > row.epoch) {
        return Some(newest.without_redis());
    }
    let now = clock::now();
    let patience = match row.trust {
        Trust::Undecided => Duration::ZERO,
        Trust::Nothing | Trust::Keyspace(_) => patience(shared),
    };
    let seen = shared.links.sight(row, now, patience)?;
    let successor = row.successor(seen, proof::draw()?)?;
    let wait = match (row.trust, seen) {
        // What is found here may never have been as it is now.
        (Trust::Keyspace(nonce), _) => {
            explain(shared, nonce, seen);
            return Some(successor);
        }
        (Trust::Undecided, Sight::Unreachable) => shared.timing.lease() / 2,
        (Trust::Undecided, _) => Duration::ZERO,
        (Trust::Nothing, _) => caution.wait(shared.timing.lease()),
    };
    (watch.known_for(now) >= wait).then_some(successor)
}

/// Says why Redis is given up.
fn explain(shared: &Shared, keyspace: Nonce, seen: Sight) {
    match seen {
        Sight::Unreachable => tracing::warn!("giving Redis up: it does not answer"),
        _ if shared.plan.sightings.include(keyspace) => tracing::warn!(
            "giving up what Redis holds: it was restarted or replaced, its databases were swapped, or it cannot be told \
             that they were not"
        ),
        _ if shared.disagreement.note(clock::now()) => tracing::warn!(
            "another instance trusts a Redis keyspace that this one does not see: all instances must have the same \
             server, database number and prefix in Redis; check REDIS_URL. Until then the cache is used only for \
             moments, and reads go to the database"
        ),
        _ => tracing::debug!("another instance still trusts another Redis keyspace"),
    }
}

/// Moves the epoch on; says whether that may have succeeded.
async fn advance<O: Origin>(shared: &Shared, origin: &O, successor: Row, faults: &mut RowFaults) -> bool {
    if let Some(nonce) = successor.keyspace()
        && let Err(error) = write_proof(shared, successor.epoch, nonce).await
    {
        tracing::debug!(%error, "what is to be trusted could not be marked in Redis");
        return false;
    }
    match timeout(shared.timing.lease(), origin.advance(successor)).await {
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

/// Marks the keyspace that is to be trusted. Nobody asks for the mark before the row names it.
async fn write_proof(shared: &Shared, epoch: u64, nonce: Nonce) -> Result<(), RedisProblem> {
    let link = shared.links.current();
    let link = link.ok_or_else(|| RedisProblem::new(Cause::Unreachable, "there is no connection to it"))?;
    let written = link.write_proof(epoch, nonce).await;
    if written.is_err() {
        link.cut();
    }
    written
}

/// How long Redis must have been seen as it is before others are told: a new connection takes less.
fn patience(shared: &Shared) -> Duration {
    shared.timing.poll_interval() / 2
}

/// Until the next poll: sooner if the row will be usable or the sight of Redis be sure before.
fn pause(shared: &Shared, watch: &Watch) -> Duration {
    let timing = &shared.timing;
    let now = clock::now();
    let until_usable = timing.lease().saturating_sub(watch.known_for(now));
    let until_sure = shared.links.unsure_for(now, patience(shared));
    [until_usable, until_sure]
        .into_iter()
        .filter(|soon| !soon.is_zero())
        .fold(timing.poll_interval(), Duration::min)
        .max(BREATH)
}
