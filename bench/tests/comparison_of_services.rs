//! `compare_services` from end to end, with real servers and services and short measurements. It needs the programs
//! `cenote` and `cenote-rivals`: a build of the whole workspace makes them.
#![cfg(target_os = "linux")]
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test fails by panicking"
)]

use std::{
    collections::HashSet,
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

const PATIENCE: Duration = Duration::from_secs(60);

fn compare(arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_compare_services"));
    command.args(arguments.split_whitespace());
    command
}

/// The cells of the table rows that name this service.
fn rows<'a>(report: &'a str, service: &str) -> Vec<Vec<&'a str>> {
    let rows = report.lines().filter(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
        .filter(|row: &Vec<&str>| row.contains(&service))
        .collect()
}

/// The output of a comparison, which must succeed.
fn report(arguments: &str) -> String {
    let output = compare(arguments).output().unwrap();
    let report = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{report}\n{errors}");
    assert!(report.contains(&format!("make bench ARGS=\"{arguments}\"")));
    report
}

#[test]
fn every_service_is_found_right_and_measured_without_errors() {
    let report = report(
        "--workload read,cached --service cenote,deadpool,sqlx,cenote-strong,deadpool-redis \
         --clients 4 --seconds 0.2 --rounds 1",
    );
    for service in ["cenote", "deadpool", "sqlx", "cenote-strong", "deadpool-redis"] {
        let rows = rows(&report, service);
        assert_eq!(rows.len(), 1, "{report}");
        let per_second: f64 = rows[0][2].parse().unwrap();
        assert!(per_second > 0.0, "{report}");
        assert_eq!(rows[0].last(), Some(&"0"), "errors: {report}");
    }
}

#[test]
fn a_service_is_measured_under_overload_and_beside_idle_clients() {
    let report = report("--workload overload,idle --service cenote --seconds 0.2 --rounds 1 --idle-clients 20");
    assert_eq!(rows(&report, "cenote").len(), 2, "{report}");
}

#[test]
fn an_interrupted_comparison_leaves_no_process_behind() {
    let mut comparison = compare("--workload read --service cenote,sqlx --clients 2 --rounds 1000")
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(comparison.stderr.take().unwrap()).lines();
    let first = lines.next().unwrap().unwrap();
    assert!(first.starts_with("round 1 of 1000"), "{first}");
    let started = descendants(comparison.id());
    // PostgreSQL alone has more processes.
    assert!(started.len() > 5, "{started:?}");
    let id = Pid::from_child(&comparison);
    kill_process(id, Signal::INT).unwrap();
    assert_eq!(comparison.wait().unwrap().code(), Some(130));
    let begun = Instant::now();
    while started.iter().any(|&id| runs(id)) {
        assert!(begun.elapsed() < PATIENCE, "some of {started:?} still run");
        #[allow(clippy::disallowed_methods, reason = "there is no runtime here")]
        sleep(Duration::from_millis(20));
    }
}

/// The state and the parent of a process.
fn stat(id: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    Some((fields.next()?.to_owned(), fields.next()?.parse().ok()?))
}

fn runs(id: u32) -> bool {
    stat(id).is_some_and(|(state, _)| state != "Z")
}

fn descendants(root: u32) -> HashSet<u32> {
    let names = fs::read_dir("/proc").unwrap();
    let names = names.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let all: Vec<(u32, u32)> = names
        .filter_map(|name| name.parse().ok())
        .filter_map(|id| Some((id, stat(id)?.1)))
        .collect();
    let mut found = HashSet::from([root]);
    loop {
        let before = found.len();
        let children = all.iter().filter(|(_, parent)| found.contains(parent));
        let children: Vec<u32> = children.map(|&(id, _)| id).collect();
        found.extend(children);
        if found.len() == before {
            found.remove(&root);
            return found;
        }
    }
}
