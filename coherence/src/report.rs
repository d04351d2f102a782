//! Prints and saves the outcomes of trials. Invariant: every violation is counted, and the first one of each key is
//! saved with the operations around it.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs::File,
    io::{self, BufWriter, Write},
    path::Path,
    time::Duration,
};

use crate::history::{Fault as Wrong, Kind, Operation, Violation};
use cenote_cache::protocol::time::BootTime;

use crate::outcome::Outcome;

/// The name of the file with violations.
pub(crate) const VIOLATIONS: &str = "violations.txt";
/// The most keys of which violations are saved.
const KEYS: usize = 50;

/// The head of the table.
pub const HEAD: &str = "\
| Mode | Fault | Operations | Hits | Hit rate | Stale | Went back | Other | Longest write stall | Slowest answer | \
Recovery | |
|---|---|---|---|---|---|---|---|---|---|---|---|";

/// A line of the table.
#[must_use]
pub fn row(outcome: &Outcome) -> String {
    let count = |is: fn(&Wrong) -> bool| {
        let faults = outcome.violations.iter().map(|it| &it.fault);
        faults.filter(|it| is(it)).count()
    };
    let hit_rate = match outcome.reads {
        0 => 0.0,
        reads => 100.0 * outcome.hits as f64 / reads as f64,
    };
    let recovery = outcome.recovery.map_or("never".to_owned(), seconds);
    let verdict = match (outcome.mode.is_plain(), outcome.reasons.is_empty()) {
        (_, false) => outcome.reasons.join("; "),
        (true, true) => "as expected".to_owned(),
        (false, true) => "ok".to_owned(),
    };
    format!(
        "| {} | {} | {} | {} | {hit_rate:.0} % | {} | {} | {} | {} | {} | {recovery} | {verdict} |",
        outcome.mode.name(),
        outcome.fault.name(),
        outcome.operations,
        outcome.hits,
        count(|it| matches!(it, Wrong::Stale(_))),
        count(|it| matches!(it, Wrong::WentBack(_))),
        count(|it| matches!(it, Wrong::FromNowhere | Wrong::NotNewer(_))),
        seconds(outcome.stall),
        match outcome.slowest {
            Duration::ZERO => "< 0.5 s".to_owned(),
            slowest => seconds(slowest),
        },
    )
}

/// The counts of outcomes other than plain success; empty if there are none.
#[must_use]
pub fn troubles(outcome: &Outcome) -> String {
    let mut text = String::new();
    let tally = &outcome.tally;
    for (what, count) in [("unknown", tally.unknown), ("pending", tally.pending)] {
        if count > 0 {
            let _ = write!(text, " {what} {count}"); // writing to a String does not fail
        }
    }
    for (slug, count) in &tally.problems {
        let _ = write!(text, " {slug} {count}");
    }
    text
}

fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// Saves the first violation of each key with the operations around it.
pub(crate) fn save(
    directory: &Path,
    history: &[Operation],
    violations: &[Violation],
    start: BootTime,
) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(directory.join(VIOLATIONS))?);
    writeln!(file, "{} violations\n", violations.len())?;
    let mut keys = BTreeSet::new();
    for violation in violations {
        if keys.len() < KEYS && keys.insert(&violation.operation.key) {
            save_one(&mut file, history, violation, start)?;
        }
    }
    file.flush()
}

/// Saves what shows that an operation is a violation: the write that it should have seen, the write that it saw, and
/// all operations on its key between that first write and its own end.
fn save_one(file: &mut impl Write, history: &[Operation], violation: &Violation, start: BootTime) -> io::Result<()> {
    let bad = &violation.operation;
    let (expected, found) = match (violation.fault, &bad.kind) {
        (Wrong::Stale(version) | Wrong::WentBack(version), Kind::Read(found)) => {
            (Some(version), found.map(|(version, _)| version))
        }
        _ => (None, None),
    };
    let mut operations: Vec<_> = history.iter().filter(|it| it.key == bad.key).collect();
    operations.sort_by_key(|operation| operation.invoked);
    let is_of = |operation: &Operation, wanted: Option<i64>| {
        let version = match operation.kind {
            Kind::Write { version, .. } => version,
            Kind::Read(found) => found.map(|(version, _)| version),
        };
        wanted.is_some() && version == wanted
    };
    let from = operations
        .iter()
        .find(|it| is_of(it, expected))
        .map_or(bad.invoked, |it| it.invoked);
    let end = bad.returned.unwrap_or(bad.invoked);
    writeln!(file, "{}: {}", bad.key, violation.fault)?;
    for operation in operations {
        let is_write = matches!(operation.kind, Kind::Write { .. });
        let is_around = operation.invoked <= end && operation.returned.is_none_or(|returned| from <= returned);
        if operation == bad || is_around || (is_write && is_of(operation, found)) {
            let mark = if operation == bad { '>' } else { ' ' };
            writeln!(file, "{mark} {}", line(operation, start))?;
        }
    }
    writeln!(file)
}

fn line(operation: &Operation, start: BootTime) -> String {
    let millis = |moment: BootTime| format!("{:.3}", moment.since(start).as_secs_f64() * 1e3);
    let returned = operation.returned.map_or("open".to_owned(), millis);
    let version = |version: Option<i64>| version.map_or("?".to_owned(), |it| it.to_string());
    let what = match operation.kind {
        Kind::Read(None) => "read none".to_owned(),
        Kind::Read(Some((found, digest))) => format!("read {found} ({digest:016x})"),
        Kind::Write {
            version: of,
            digest: Some(digest),
        } => {
            format!("write {} ({digest:016x})", version(of))
        }
        Kind::Write {
            version: of,
            digest: None,
        } => format!("delete {}", version(of)),
    };
    let (instance, invoked) = (operation.instance, millis(operation.invoked));
    format!("{invoked:>12} {returned:>12} ms  instance {instance}  {what}")
}
