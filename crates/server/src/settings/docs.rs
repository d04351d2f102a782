//! Writes the documentation of the settings: `.env.example` and the table in `docs/settings.md`.
//!
//! Invariant: every word comes from the table, so that a test can hold the files against it.

use super::resolve::{About, Fallback, Reload, Row};
use super::table::TABLE;

/// The text of `.env.example`.
pub fn env_example() -> String {
    let mut output = "# Settings of cenote. Copy this file to .env and remove the # in front of what you change.\n\
        # Every setting and what it does: docs/settings.md. Generated; `UPDATE=1 cargo test -p cenote settings`.\n"
        .to_owned();
    for (group, rows) in groups() {
        output += &format!("\n# --- {group} ---\n");
        for row in rows {
            let about = row.about();
            output += &format!("\n# {}.\n", about.help);
            output += &match about.fallback {
                Fallback::Is(value) => format!("#{}={value}\n", about.name()),
                Fallback::Else(words) => format!("# Default: {words}.\n#{}=\n", about.name()),
            };
        }
    }
    output
}

/// The tables of `docs/settings.md`, one per group.
pub fn markdown() -> String {
    let mut output = String::new();
    for (group, rows) in groups() {
        output +=
            &format!("\n### {group}\n\n| Setting | Value | Default | Reload | Meaning |\n|---|---|---|---|---|\n");
        for row in rows {
            let about = row.about();
            let names: Vec<_> = about.names.iter().map(|name| format!("`{name}`")).collect();
            let default = match about.fallback {
                Fallback::Is(value) => format!("`{value}`"),
                Fallback::Else(words) => words.to_owned(),
            };
            let secret = if about.is_secret { "; secret" } else { "" };
            let cells = [
                names.join("<br>"),
                format!("{}{secret}", row.form().1),
                default,
                about.reload.word().to_owned(),
                about.help.to_owned(),
            ];
            output += &format!("| {} |\n", cells.join(" | "));
        }
    }
    output.push('\n');
    output
}

/// The principal names of the settings that a reload applies.
pub fn live() -> Vec<&'static str> {
    let rows = TABLE.iter().map(|row| row.about());
    let live = rows.filter(|about| about.reload == Reload::Live);
    live.map(About::name).collect()
}

/// The rows by group, both in the order of the table.
fn groups() -> impl Iterator<Item = (&'static str, &'static [&'static dyn Row])> {
    let groups = TABLE.chunk_by(|one, two| one.about().group == two.about().group);
    groups.map(|rows| (rows[0].about().group, rows))
}
