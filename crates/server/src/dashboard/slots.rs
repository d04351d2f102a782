//! The connections of the pool, one by one. Invariant: a connection keeps its place in the list while it exists.

use std::time::Duration;

use cenote_postgres::{ConnectionInfo, ConnectionState};
use serde::Serialize;

/// Age and holder of a connection are shown once it was held this long. Shorter uses come and go between two looks.
const WORTH_SHOWING: Duration = Duration::from_millis(100);

/// A connection.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Slot {
    state: &'static str,
    /// Whether it is one beyond the maximum.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    overflow: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_ms: Option<u64>,
    /// The source line that asked for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    holder: Option<String>,
}

/// Returns the connections in the form of the page. `overflow` of them are beyond the maximum: the last.
pub(super) fn slots(connections: &[ConnectionInfo], overflow: u32) -> Vec<Slot> {
    let regular = connections.len().saturating_sub(overflow as usize);
    let slot = |(at, connection): (usize, &ConnectionInfo)| {
        let holder = connection.holder.filter(|holder| holder.held > WORTH_SHOWING);
        Slot {
            state: match connection.state {
                ConnectionState::Connecting => "connecting",
                ConnectionState::Idle => "idle",
                ConnectionState::InUse => "in-use",
                ConnectionState::Cleaning => "cleaning",
                // The page knows five states.
                _ => "closing",
            },
            overflow: at >= regular,
            age_ms: holder.map(|holder| u64::try_from(holder.held.as_millis()).unwrap_or(u64::MAX)),
            holder: holder.map(|holder| source_line(holder.caller)),
        }
    };
    connections.iter().enumerate().map(slot).collect()
}

/// The file with its folder, and the line: the directory of the build tells nothing.
pub(super) fn source_line(at: &std::panic::Location<'_>) -> String {
    format!("{}:{}", last_folder(at.file()), at.line())
}

/// A path from its last folder on.
pub(super) fn last_folder(path: &str) -> &str {
    let mut slashes = path.rmatch_indices(['/', '\\']).map(|(slash, _)| slash + 1);
    &path[slashes.nth(1).unwrap_or(0)..]
}

#[cfg(test)]
mod tests {
    use std::panic::Location;

    use cenote_postgres::Holder;

    use super::*;

    #[test]
    fn a_long_use_shows_its_source_line_and_age_and_a_short_one_does_not() {
        let caller = Location::caller();
        let used = |slot, milliseconds| {
            let mut used = ConnectionInfo::new(slot, ConnectionState::InUse);
            used.holder = Some(Holder::new(caller, Duration::from_millis(milliseconds)));
            used
        };
        let idle = ConnectionInfo::new(2, ConnectionState::Idle);
        let shown = slots(&[used(0, 412), used(1, 100), idle], 1);
        let json = serde_json::to_value(&shown).unwrap();
        let line = format!("dashboard/slots.rs:{}", caller.line());
        let expected = serde_json::json!([
            {"state": "in-use", "age_ms": 412, "holder": line},
            {"state": "in-use"},
            {"state": "idle", "overflow": true},
        ]);
        assert_eq!(json, expected);
    }
}
