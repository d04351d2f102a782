//! Prints what is in force and where it comes from: `cenote config`.
//!
//! Invariant: a row holds what its kind agreed to show, never the text that was written.

use std::collections::HashMap;

use serde::Serialize;

use super::sources::Origin;
use super::table::TABLE;

/// One setting in force.
#[derive(Clone, Debug, PartialEq, Eq)]
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

#[derive(Serialize)]
struct JsonRow<'a> {
    name: &'a str,
    value: Option<&'a str>,
    origin: String,
}

impl Report {
    pub(crate) fn new(mut shown: HashMap<&'static str, (Option<String>, Origin)>) -> Self {
        let row = |name| {
            let (value, origin) = shown.remove(name).unwrap_or((None, Origin::Default));
            ReportRow { name, value, origin }
        };
        Self(TABLE.iter().map(|row| row.about().name()).map(row).collect())
    }

    /// The rows.
    pub fn rows(&self) -> &[ReportRow] {
        &self.0
    }

    /// Where the value of a setting comes from, by its principal name.
    pub fn origin(&self, name: &str) -> Option<&Origin> {
        Some(&self.0.iter().find(|row| row.name == name)?.origin)
    }

    /// Aligned columns: name, value, origin. What is not set shows as `-`.
    pub fn text(&self) -> String {
        // Control characters would break the columns, or the terminal.
        let value = |row: &ReportRow| match &row.value {
            Some(value) if value.chars().any(char::is_control) => value.escape_debug().to_string(),
            Some(value) => value.clone(),
            None => "-".to_owned(),
        };
        let width = |text: &str| text.chars().count();
        let name_width = self.0.iter().map(|row| width(row.name)).max().unwrap_or(0);
        let value_width = self.0.iter().map(|row| width(&value(row))).max().unwrap_or(0);
        let mut output = String::new();
        for row in &self.0 {
            let line = format!(
                "{:name_width$}  {:value_width$}  {}\n",
                row.name,
                value(row),
                row.origin
            );
            output += &line;
        }
        output
    }

    /// A JSON array of objects with `name`, `value` (a text, or null) and `origin`.
    pub fn json(&self) -> String {
        let rows: Vec<_> = self
            .0
            .iter()
            .map(|row| JsonRow {
                name: row.name,
                value: row.value.as_deref(),
                origin: row.origin.to_string(),
            })
            .collect();
        let mut output = serde_json::to_string_pretty(&rows).unwrap_or_default();
        output.push('\n');
        output
    }
}
