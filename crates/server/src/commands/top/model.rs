//! What is known of the service: the events so far. Invariant: at most [`MOST_ROWS`] rows are kept; members of a state
//! that are missing or of another form count as empty, so that another version can be watched.

use std::collections::VecDeque;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::events::Event;

/// Ten minutes of a row a second, with both ends.
const MOST_ROWS: usize = 601;

/// The first event.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct About {
    pub(super) version: String,
    pub(super) instance: Option<String>,
    /// Seconds since 1970.
    pub(super) started: u64,
    columns: Vec<String>,
}

/// How grave a verdict is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Critical,
    Warning,
    Ok,
    /// Also one that is not known here.
    #[default]
    #[serde(other)]
    Info,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Verdict {
    pub(super) level: Level,
    pub(super) name: String,
    pub(super) text: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Slot {
    pub(super) state: String,
    pub(super) overflow: bool,
    pub(super) age_ms: Option<u64>,
    pub(super) holder: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Pool {
    pub(super) min: u64,
    pub(super) max: u64,
    pub(super) overflow: u64,
    pub(super) paused: Option<Value>,
    pub(super) leaked: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Queue {
    pub(super) name: String,
    pub(super) waiting: u64,
    pub(super) batch: f64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Cache {
    pub(super) mode: String,
    pub(super) state: String,
    pub(super) keys: u64,
    pub(super) bytes: u64,
    pub(super) limit: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Server {
    pub(super) up: bool,
    pub(super) host: Option<String>,
    pub(super) problem: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Memory {
    pub(super) used: u64,
    pub(super) limit: u64,
    pub(super) level: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Failure {
    pub(super) at: u64,
    pub(super) route: String,
    pub(super) status: u64,
    pub(super) code: String,
    pub(super) request_id: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Slow {
    pub(super) at: u64,
    pub(super) name: String,
    pub(super) queue_us: u64,
    pub(super) wait_us: u64,
    pub(super) execute_us: u64,
}

/// What is known of the service.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) about: About,
    rows: VecDeque<Vec<u64>>,
    state: Map<String, Value>,
    /// Whether a row has arrived since the first event: those of the history may be seconds old.
    pub(super) is_live: bool,
}

impl Model {
    /// Takes an event of the stream.
    pub(super) fn apply(&mut self, event: Event) {
        match (&*event.name, event.data) {
            ("start", Value::Object(mut data)) => {
                let rows = data.remove("history").unwrap_or_default();
                let state = data.remove("state").unwrap_or_default();
                let about: About = serde_json::from_value(Value::Object(data)).unwrap_or_default();
                // After a restart, or at another instance behind the same address, nothing is comparable.
                if (about.started, &about.instance) != (self.about.started, &self.about.instance) {
                    self.rows.clear();
                }
                self.about = about;
                self.is_live = false;
                for row in rows.as_array().into_iter().flatten() {
                    self.add_row(row);
                }
                self.state = match state {
                    Value::Object(state) => state,
                    _ => Map::new(),
                };
            }
            ("row", row) => {
                self.is_live = true;
                self.add_row(&row);
            }
            ("state", Value::Object(changes)) => self.state.extend(changes),
            _ => {}
        }
    }

    fn add_row(&mut self, row: &Value) {
        let numbers = row.as_array().into_iter().flatten();
        let row: Vec<u64> = numbers.map(|number| number.as_u64().unwrap_or(0)).collect();
        if self.rows.back().is_some_and(|last| last.first() >= row.first()) {
            return;
        }
        if self.rows.len() >= MOST_ROWS {
            self.rows.pop_front();
        }
        self.rows.push_back(row);
    }

    /// The time of the newest row in milliseconds since 1970, 0 without rows.
    pub(super) fn time(&self) -> u64 {
        self.rows.back().and_then(|row| row.first().copied()).unwrap_or(0)
    }

    /// The newest value of a column; 0 if it is not there.
    pub(super) fn number(&self, column: &str) -> u64 {
        self.series(column).last().copied().unwrap_or(0)
    }

    /// All values of a column, oldest first.
    pub(super) fn series(&self, column: &str) -> Vec<u64> {
        let Some(at) = self.about.columns.iter().position(|name| name == column) else {
            return Vec::new();
        };
        self.rows.iter().map(|row| row.get(at).copied().unwrap_or(0)).collect()
    }

    /// The newest row, by the names of its columns.
    pub(super) fn row(&self) -> Map<String, Value> {
        let row = self.rows.back().into_iter().flatten();
        let names = self.about.columns.iter().cloned();
        names.zip(row.map(|number| Value::from(*number))).collect()
    }

    /// The state as it arrived.
    pub(super) fn state(&self) -> &Map<String, Value> {
        &self.state
    }

    /// A member of the state; the default if it is missing or of another form.
    pub(super) fn member<T: for<'de> Deserialize<'de> + Default>(&self, name: &str) -> T {
        let member = self.state.get(name).map(T::deserialize);
        member.and_then(Result::ok).unwrap_or_default()
    }

    pub(super) fn verdicts(&self) -> Vec<Verdict> {
        self.member("verdicts")
    }

    /// Whether a verdict is critical.
    pub(super) fn is_critical(&self) -> bool {
        self.verdicts().iter().any(|verdict| verdict.level == Level::Critical)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use serde_json::json;

    use super::*;
    use crate::dashboard::COLUMNS;

    pub(in super::super) fn event(name: &str, data: Value) -> Event {
        Event {
            name: name.to_owned(),
            data,
        }
    }

    /// A service under load with an exhausted pool.
    pub(in super::super) fn model() -> Model {
        let mut model = Model::default();
        let row = [
            1_796_050_000_000_u64,
            1240,
            2,
            3,
            210,
            34_000,
            51_000,
            10,
            0,
            0,
            0,
            2,
            1_200_000,
            30_000,
            4_100_000,
            310,
            400,
            34,
            900,
            0,
            340,
            104_857_600,
            64,
        ];
        model.apply(event("start", json!({
            "version": "0.1.0", "instance": "127.0.0.1:8000", "started": 1_796_046_400, "columns": COLUMNS,
            "history": [row],
            "state": {
                "verdicts": [{
                    "level": "warning", "name": "pool-exhausted",
                    "text": "All 10 connections are in use and 34 requests wait, the first for 1.2 s. Held longest: 4.1 s \
                             by src/combiner.rs:214.",
                }],
                "slots": [
                    {"state": "in-use", "age_ms": 4100, "holder": "src/combiner.rs:214"},
                    {"state": "idle"}, {"state": "connecting", "overflow": true},
                ],
                "pool": {"min": 2, "max": 10, "overflow": 1, "paused": null, "leaked": 0},
                "queues": [{"name": "reads", "waiting": 34, "running": 1, "batch": 4.1}],
                "cache": {"mode": "local", "state": "ok", "keys": 12, "bytes": 2048, "limit": 67_108_864},
                "redis": null,
                "database": {"up": true, "host": "db-1:5432", "problem": null},
                "memory": {"used": 104_857_600, "limit": 1_073_741_824, "level": "normal"},
                "errors": [{"at": 1_796_049_999_000_u64, "route": "/read/{key}", "status": 503, "code": "pool-timeout",
                            "request_id": "id-7"}],
                "statements": [{"at": 1_796_049_998_000_u64, "name": "read keys", "queue_us": 10, "wait_us": 20,
                                "execute_us": 1_500_000}],
            },
        })));
        model
    }

    #[test]
    fn events_change_what_they_name_and_nothing_else() {
        let mut model = model();
        assert!(!model.is_live && !model.is_critical());
        let mut row = vec![0; COLUMNS.len()];
        (row[0], row[1]) = (1_796_050_000_500_u64, 7);
        model.apply(event("row", json!(row)));
        assert_eq!(
            (model.is_live, model.number("requests"), model.series("requests")),
            (true, 7, vec![1240, 7])
        );
        model.apply(event("row", json!(row)));
        assert_eq!(model.series("requests").len(), 2, "a row that is known");
        model.apply(event(
            "state",
            json!({"verdicts": [{"level": "critical", "name": "x", "text": "y"}]}),
        ));
        assert!(model.is_critical());
        assert_eq!(model.member::<Pool>("pool").max, 10);
    }

    #[test]
    fn another_version_and_nonsense_are_shown_as_far_as_they_are_understood() {
        let mut model = model();
        model.apply(event(
            "state",
            json!({"pool": 7, "verdicts": [{"level": "new", "text": "t"}], "more": [1]}),
        ));
        assert_eq!(model.member::<Pool>("pool").max, 0);
        assert_eq!(model.verdicts()[0].level, Level::Info);
        assert_eq!(model.number("none"), 0);
        for data in [
            json!(null),
            json!([]),
            json!({"history": 7, "state": []}),
            json!({"columns": 7}),
        ] {
            for name in ["start", "row", "state", "end", "other"] {
                model.apply(event(name, data.clone()));
            }
        }
    }

    #[test]
    fn a_restart_begins_a_new_history() {
        let mut model = model();
        let started = |at| json!({"version": "0.1.0", "instance": "127.0.0.1:8000", "started": at, "columns": ["t"]});
        model.apply(event("start", started(1_796_046_400)));
        assert_eq!(model.series("t").len(), 1, "the same process");
        model.apply(event("start", started(1_796_046_999)));
        assert_eq!(model.series("t").len(), 0);
    }
}
