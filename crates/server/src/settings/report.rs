//! Prints what is in force and where it comes from (`cenote config`), or all that is wrong.
//!
//! Invariant: what is printed was made by the setting's kind from the parsed value; it is never the text that was
//! written.

use std::collections::HashMap;

use serde::Serialize;

use super::origin::Origin;
use super::table::TABLE;

/// All that is wrong with the settings. `Display` prints one line per problem, which begins with the name at fault and
/// the place where it was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("\n"))]
pub struct SettingsErrors(pub(super) Vec<String>);

/// One setting.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReportRow {
    /// The principal name.
    pub name: &'static str,
    /// The value without secrets; `None` if there is none.
    pub value: Option<String>,
    /// Where the value comes from.
    pub origin: Origin,
}

/// All settings in force, in the order of the documentation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report(Vec<ReportRow>);

impl Report {
    pub(super) fn new(mut shown: HashMap<&'static str, (String, Origin)>) -> Self {
        let rows = TABLE.iter().map(|row| {
            let name = row.about().name();
            let (value, origin) = match shown.remove(name) {
                Some((value, origin)) => (Some(value), origin),
                None => (None, Origin::Default),
            };
            ReportRow { name, value, origin }
        });
        Self(rows.collect())
    }

    /// The rows.
    pub fn rows(&self) -> &[ReportRow] {
        &self.0
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
