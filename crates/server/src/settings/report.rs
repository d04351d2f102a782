//! Prints what is in force and where it comes from (`cenote config`).
//!
//! Invariant: what is printed was made by the setting's kind from the parsed value; it is never the text that was
//! written.

use std::collections::HashMap;

use cenote_secret::Secret;
use serde::Serialize;

use super::origin::Origin;
use super::resolve::Shown;
use super::table::TABLE;

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReportRow {
    /// The principal name.
    pub name: &'static str,
    /// The value without secrets; `None` if there is none.
    pub value: Option<String>,
    /// Where the value comes from.
    pub origin: Origin,
    /// The text of a secret, to compare it with another. Never printed.
    #[serde(skip)]
    secret: Option<Secret<String>>,
}

impl ReportRow {
    /// Whether another row has the same value, also if it is a secret.
    pub(super) fn has_value_of(&self, other: &Self) -> bool {
        self.value == other.value && self.secret == other.secret
    }
}

/// All settings in force, in the order of the documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report(Vec<ReportRow>);

impl Report {
    pub(super) fn new(mut shown: HashMap<&'static str, Shown>) -> Self {
        let rows = TABLE.iter().map(|row| {
            let name = row.about().name();
            let (value, origin, secret) = match shown.remove(name) {
                Some(shown) => (Some(shown.value), shown.origin, shown.secret),
                None => (None, Origin::Default, None),
            };
            ReportRow {
                name,
                value,
                origin,
                secret,
            }
        });
        Self(rows.collect())
    }

    /// The rows.
    pub fn rows(&self) -> &[ReportRow] {
        &self.0
    }

    /// Takes over the values of a later load, but for these settings.
    pub(crate) fn adopt(&mut self, loaded: Self, but: &[&str]) {
        for (row, loaded) in self.0.iter_mut().zip(loaded.0) {
            if !but.contains(&row.name) {
                *row = loaded;
            }
        }
    }

    /// Where the value of a setting comes from, by its principal name.
    pub fn origin(&self, name: &str) -> Option<&Origin> {
        Some(&self.0.iter().find(|row| row.name == name)?.origin)
    }

    /// Aligned columns: name, value, origin. A setting without a value shows `-`.
    pub fn text(&self) -> String {
        // Control characters would break the columns, or the terminal.
        let value = |row: &ReportRow| match &row.value {
            Some(value) if value.chars().any(char::is_control) => value.escape_debug().to_string(),
            Some(value) => value.clone(),
            None => "-".to_owned(),
        };
        let width = |text: &str| text.chars().count();
        let names = self.0.iter().map(|row| width(row.name)).max().unwrap_or(0);
        let values = self.0.iter().map(|row| width(&value(row))).max().unwrap_or(0);
        let line = |row: &ReportRow| format!("{:names$}  {:values$}  {}\n", row.name, value(row), row.origin);
        self.0.iter().map(line).collect()
    }

    /// A JSON array of objects with `name`, `value` (a text, or null) and `origin`.
    pub fn json(&self) -> String {
        serde_json::to_string_pretty(&self.0).unwrap_or_default() + "\n"
    }
}
