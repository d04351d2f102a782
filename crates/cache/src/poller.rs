//! The task that follows the epoch and moves it on. Invariant: a view counts from when its poll was sent.

use std::{sync::Arc, time::Duration};

use tokio::time::{sleep, timeout};

use crate::{
    caution::Caution,
    clock,
    epoch::{Row, Watch},
    origin::Origin,
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
            if faults.says_change() {
                tracing::warn!(epoch = successor.epoch, trusted = ?successor.trusted, "moving the epoch on");
            }
            match timeout(shared.timing.lease(), origin.advance(successor)).await {
                Ok(Ok(())) => {
                    faults.changed();
                    sleep(BREATH).await;
                    continue;
                }
                Ok(Err(error)) => faults.not_changed(&error),
                Err(_) => faults.not_changed(&"the database took too long"),
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

/// Reads the row, and takes the view that it allows.
async fn look<O: Origin>(
    shared: &Shared,
    origin: &O,
    watch: &mut Watch,
    faults: &mut RowFaults,
) -> Option<Row> {
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
    if let Some(view) = watch.view(now)
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

/// What must follow the row.
fn successor(shared: &Shared, watch: &Watch, caution: &Caution, row: &Row) -> Option<Row> {
    // A database that lost its newest commits may tell of an epoch that is over. Its number must not be used again.
    if watch
        .newest()
        .is_some_and(|newest| newest.epoch > row.epoch)
    {
        let epoch = row.epoch + 1;
        return Some(Row {
            epoch,
            trusted: None,
        });
    }
    let seen = shared.links.sight(clock::now(), patience(shared))?;
    let successor = row.successor(seen)?;
    let wait = caution.wait(shared.timing.lease());
    let is_due = successor.trusted.is_none() || watch.known_for(clock::now()) >= wait;
    is_due.then_some(successor)
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
