//! The results as Markdown. Invariant: figures always come with the machine, the date and the command that repeats
//! them.

use std::{fmt, fmt::Write, fs, io, path::Path, time::Duration};

use super::{
    measure::Cell,
    options::Options,
    runs::{Idle, Overload, Results},
    services::{ALL, baseline},
    tally::Failure,
    workload::Workload,
};

/// The markers in a file between which the latest figures are written.
const MARKERS: [&str; 2] = ["<!-- service-figures -->", "<!-- /service-figures -->"];

/// The results and the circumstances of a run.
#[derive(Debug)]
pub struct Report {
    text: String,
    left_out: Vec<String>,
}

impl Report {
    pub(super) fn new(results: &Results, options: &Options, circumstances: &str, command: &str) -> Self {
        let mut text = format!("{circumstances}\n\n```sh\n{command}\n```\n\n");
        let seconds = options.length.as_secs_f64();
        let disturbed = results.steady.values().flatten().map(|cell| cell.cpu.others);
        let disturbed = disturbed.fold(0.0, f64::max) * 100.0;
        add(
            &mut text,
            format_args!(
                "Medians of {} rounds of {seconds} s, the services in turn, with 10 connections to PostgreSQL each. Other \
             programs had at most {disturbed:.0} % of the machine.\n",
                options.rounds
            ),
        );
        for reason in &results.left_out {
            add(&mut text, format_args!("\n{reason}\n"));
        }
        let mut about: Vec<_> = ALL
            .iter()
            .enumerate()
            .filter(|(position, service)| {
                results.steady.keys().any(|(_, _, other)| other == position)
                    || results.overload.iter().any(|row| row.service == service.name)
                    || results.idle.iter().any(|row| row.service == service.name)
            })
            .map(|(_, service)| format!("- `{}`: {}", service.name, service.about))
            .collect();
        about.push(String::new());
        add(&mut text, format_args!("\n{}", about.join("\n")));
        let mut workloads: Vec<_> = results.steady.keys().map(|&(workload, ..)| workload).collect();
        workloads.dedup();
        for workload in workloads {
            steady(&mut text, results, workload);
        }
        if !results.overload.is_empty() {
            overload(&mut text, &results.overload);
        }
        if !results.idle.is_empty() {
            idle(&mut text, &results.idle);
        }
        Self {
            text,
            left_out: results.left_out.clone(),
        }
    }

    /// Replaces the text between the markers in a file.
    ///
    /// # Errors
    ///
    /// The file cannot be read or written, or has no markers.
    pub fn update(&self, file: &Path) -> io::Result<()> {
        let old = fs::read_to_string(file)?;
        let new = between_markers(&old, &self.text)
            .ok_or_else(|| io::Error::other(format!("no {} in it", MARKERS.join(" … "))))?;
        fs::write(file, new)
    }

    /// The services that failed the checks and so were not measured.
    pub fn left_out(&self) -> &[String] {
        &self.left_out
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn steady(text: &mut String, results: &Results, workload: Workload) {
    let (name, other) = (workload.name(), baseline(workload));
    add(
        text,
        format_args!("\n**{name}** ({}); ratio to `{other}`\n\n", workload.about()),
    );
    let other = ALL.iter().position(|service| service.name == other);
    let mut rows = vec![vec![
        "Clients".to_owned(),
        "Service".to_owned(),
        "Answers/s".to_owned(),
        "Ratio".to_owned(),
        "p50 ms".to_owned(),
        "p99 ms".to_owned(),
        "CPU µs: service".to_owned(),
        "PostgreSQL".to_owned(),
        "Redis".to_owned(),
        "generator".to_owned(),
        "MiB".to_owned(),
        "Errors".to_owned(),
    ]];
    let measured = results.steady.keys().filter(|(of, ..)| *of == workload);
    for &(_, clients, position) in measured {
        let Some(cell) = results.medians(workload, clients, position) else {
            continue;
        };
        let other = other.and_then(|other| results.medians(workload, clients, other));
        let Cell { cpu, .. } = cell;
        rows.push(vec![
            clients.to_string(),
            ALL[position].name.to_owned(),
            format!("{:.0}", cell.per_second),
            ratio(cell.per_second, other.map(|other| other.per_second)),
            millis(cell.p50),
            millis(cell.p99),
            format!("{:.1}", cpu.service),
            format!("{:.1}", cpu.postgres),
            format!("{:.1}", cpu.redis),
            format!("{:.1}", cpu.generator),
            format!("{:.0}", cell.resident as f64 / f64::from(1 << 20)),
            errors(cell.failures.iter().map(|(failure, count)| (*failure, *count as f64))),
        ]);
    }
    table(text, &rows);
}

fn overload(text: &mut String, all: &[Overload]) {
    add(
        text,
        format_args!(
            "\n**overload**: `GET /users/?limit=1000`, offered at four times the best rate of 64 clients whether answered or \
         not; good is an answer within 1 s, a request waits at most 0.5 s for a connection\n\n"
        ),
    );
    let mut rows = vec![
        [
            "Service",
            "Best/s",
            "Offered/s",
            "Good/s",
            "Of the best",
            "p99 ms",
            "Generator",
            "Of what it left",
            "The rest, a second",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for row in all {
        rows.push(vec![
            row.service.to_owned(),
            format!("{:.0}", row.best),
            format!("{:.0}", row.offered),
            format!("{:.0}", row.good),
            format!("{:.0} %", row.good / row.best * 100.0),
            millis(row.p99),
            format!("{:.0} → {:.0} %", row.generator[0] * 100.0, row.generator[1] * 100.0),
            format!("{:.0} %", row.good / row.best * left(row.generator) * 100.0),
            errors(row.failures.iter().map(|(failure, count)| (*failure, *count))),
        ]);
    }
    table(text, &rows);
}

/// How much less of the machine the load generator left for the service under overload than at its best.
fn left([best, overload]: [f64; 2]) -> f64 {
    (1.0 - best) / (1.0 - overload).max(f64::EPSILON)
}

fn idle(text: &mut String, all: &[Idle]) {
    let clients = all.first().map_or(0, |row| row.clients);
    add(
        text,
        format_args!(
            "\n**idle**: reads by 64 busy clients, alone and beside {clients} that keep their connections and do nothing\n\n"
        ),
    );
    let mut rows = vec![
        [
            "Service",
            "MiB at rest",
            "kB per idle client",
            "Alone/s",
            "Beside/s",
            "Ratio",
        ]
        .map(str::to_owned)
        .to_vec(),
    ];
    for row in all {
        rows.push(vec![
            row.service.to_owned(),
            format!("{:.1}", row.at_rest as f64 / f64::from(1 << 20)),
            format!("{:.1}", row.each / 1e3),
            format!("{:.0}", row.alone),
            format!("{:.0}", row.beside),
            ratio(row.beside, Some(row.alone)),
        ]);
    }
    table(text, &rows);
}

fn ratio(value: f64, other: Option<f64>) -> String {
    match other {
        Some(other) if other > 0.0 => format!("{:.2}", value / other),
        _ => "–".to_owned(),
    }
}

fn millis(duration: Duration) -> String {
    format!("{:.2}", duration.as_secs_f64() * 1e3)
}

fn errors(failures: impl Iterator<Item = (Failure, f64)>) -> String {
    let all: Vec<_> = failures
        .map(|(failure, count)| format!("{count:.0} {failure}"))
        .collect();
    if all.is_empty() { "0".to_owned() } else { all.join(", ") }
}

/// A table with aligned columns.
fn table(text: &mut String, rows: &[Vec<String>]) {
    let columns = rows.first().map_or(0, Vec::len);
    let length = |cell: &String| cell.chars().count();
    let widths: Vec<usize> = (0..columns)
        .map(|column| rows.iter().map(|row| length(&row[column])).max().unwrap_or(0))
        .collect();
    for (index, row) in rows.iter().enumerate() {
        let cells = row.iter().zip(&widths);
        let cells: Vec<_> = cells.map(|(cell, &width)| format!("{cell:<width$}")).collect();
        add(text, format_args!("| {} |\n", cells.join(" | ")));
        if index == 0 {
            let line: Vec<_> = widths.iter().map(|&width| "-".repeat(width)).collect();
            add(text, format_args!("| {} |\n", line.join(" | ")));
        }
    }
}

fn add(text: &mut String, more: fmt::Arguments<'_>) {
    // Writing to a String does not fail.
    let _ = text.write_fmt(more);
}

fn between_markers(old: &str, text: &str) -> Option<String> {
    let [begin, end] = MARKERS;
    let (before, rest) = old.split_once(begin)?;
    let (_, after) = rest.split_once(end)?;
    Some(format!("{before}{begin}\n{}\n{end}{after}", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let mut text = String::new();
        let row = |cells: [&str; 2]| cells.map(str::to_owned).to_vec();
        table(&mut text, &[row(["a", "µs"]), row(["long", "1"])]);
        assert_eq!(text, "| a    | µs |\n| ---- | -- |\n| long | 1  |\n");
    }

    #[test]
    fn only_what_is_between_the_markers_is_replaced() {
        let [begin, end] = MARKERS;
        let old = format!("before\n{begin}\nold\n{end}\nafter\n");
        let new = between_markers(&old, "new\n");
        assert_eq!(new, Some(format!("before\n{begin}\nnew\n{end}\nafter\n")));
        assert_eq!(between_markers("no markers", "new"), None);
    }

    #[test]
    fn no_baseline_no_ratio() {
        assert_eq!(ratio(2.0, None), "–");
        assert_eq!(ratio(2.0, Some(0.0)), "–");
        assert_eq!(ratio(3.0, Some(2.0)), "1.50");
    }
}
