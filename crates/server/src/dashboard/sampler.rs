//! Reads the figures: every second while anybody watches, otherwise every five seconds, so that a page opens with its past.
//!
//! Invariant: one task reads, however many watch.

use std::{net::SocketAddr, time::Duration};

use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::{
    diagnosis::Diagnosis,
    figures::{COLUMNS, Interval, Reading, milliseconds},
    history::SPAN,
    hub::Dashboard,
    places::Places,
    state::{Beside, State},
    verdicts::judge,
};
use crate::{app::App, limits::LimitStats};

/// Between two rows while somebody watches. Two rows a second would take a viewer more than a megabyte an hour.
const WATCHED: Duration = Duration::from_secs(1);
/// Between two rows while nobody does.
const UNWATCHED: Duration = Duration::from_secs(5);
/// Between two changes of what changes all the time, so that a viewer takes less than a megabyte an hour. A new verdict
/// brings its evidence along.
const UNSTEADY_EVERY: Duration = Duration::from_secs(2);
/// The state of the limits is read this rarely, because it takes a few hundred microseconds.
const LIMITS_EVERY: Duration = Duration::from_secs(2);

/// What the dashboard shows of the settings.
pub(crate) struct About {
    /// Where the service listens.
    pub(crate) address: Option<SocketAddr>,
    /// `CACHE_NEAR_BYTES`.
    pub(crate) near_bytes: u64,
    /// `INSTANCES`.
    pub(crate) instances: u32,
}

impl About {
    /// A dashboard without figures yet.
    pub(crate) fn dashboard(&self, app: &App) -> Dashboard {
        let members = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "revision": option_env!("CENOTE_REVISION").unwrap_or("unknown"),
            "instance": self.address.map(|address| address.to_string()),
            "started": milliseconds(app.started_at) / 1000,
            "interval_ms": WATCHED.as_millis(),
            "history_ms": SPAN,
            "columns": COLUMNS,
        });
        let members = members.to_string();
        Dashboard::new(members.trim_matches(['{', '}']).to_owned())
    }
}

/// What was published last.
struct Shown {
    /// When what changes all the time was.
    refreshed: Instant,
    /// Their names.
    verdicts: Vec<&'static str>,
    state: State,
}

/// Reads the figures and publishes them. Never returns.
///
/// # Cancel safety
///
/// Safe.
pub(crate) async fn sample(app: App, about: About, dashboard: Dashboard) {
    let mut before: Option<Reading> = None;
    let mut limits: Option<(Instant, LimitStats)> = None;
    let mut diagnosis = Diagnosis::new();
    let mut shown: Option<Shown> = None;
    loop {
        let reading = Reading::take(&app);
        let now = reading.at;
        let (_, limits) = match limits.take().filter(|(at, _)| now < *at + LIMITS_EVERY) {
            Some(fresh) => limits.insert(fresh),
            None => limits.insert((now, app.gate.limits().stats(now))),
        };
        let verdicts = judge(&diagnosis.signs(&app, &reading, limits));
        let beside = Beside {
            app: &app,
            near_bytes: about.near_bytes,
            instances: about.instances,
            limits,
            verdicts: &verdicts,
        };
        let interval = before.as_ref().map(|before| Interval { before, now: &reading });
        let row = interval.map(|interval| interval.row());
        let mut state = State::of(&reading, &beside);
        let names: Vec<_> = verdicts.iter().map(|verdict| verdict.name).collect();
        let refreshed = match &shown {
            Some(shown) if now < shown.refreshed + UNSTEADY_EVERY && shown.verdicts == names => {
                state.keep_unsteady(&shown.state);
                shown.refreshed
            }
            _ => now,
        };
        shown = Some(Shown {
            refreshed,
            verdicts: names,
            state: state.clone(),
        });
        dashboard.publish(row, state);
        before = Some(reading);
        wait(dashboard.places(), now).await;
    }
}

/// Waits for the next row after one at `last`.
async fn wait(places: &Places, last: Instant) {
    loop {
        let interval = match places.is_any_taken() {
            true => WATCHED,
            false => UNWATCHED,
        };
        tokio::select! {
            () = sleep_until(last + interval) => return,
            // The interval may have become shorter.
            () = places.arrival() => {}
        }
    }
}
