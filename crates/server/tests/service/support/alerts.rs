//! Which alerts of deploy/alerts.yml fire on real scrapes, as Prometheus' own program finds.
//!
//! Invariant: the series are those that were scraped; where promtool is not installed nothing is looked at, which is said.

use std::{
    fmt::Write,
    fs,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use super::exposition::{Labels, Scrape};

/// How long things go on as in the scrapes, in minutes: more than any window and any `for` of the alerts.
const MINUTES: u32 = 80;

/// Fails unless these alerts fire when things go on as between the two scrapes: gauges stay, and counters grow by the same
/// each minute.
pub(crate) fn assert_firing(before: &Scrape, now: &Scrape, alerts: &[&str]) {
    let names = alerts.join("|");
    let firing = format!(r#"count by (alertname) (ALERTS{{alertstate="firing",alertname=~"{names}"}})"#);
    let samples: String = alerts
        .iter()
        .map(|name| format!("\n          - {{ labels: '{{alertname=\"{name}\"}}', value: 1 }}"))
        .collect();
    evaluate(before, now, &firing, &samples);
}

/// Fails if any alert fires when things go on as in this scrape.
pub(crate) fn assert_silent(scrape: &Scrape) {
    evaluate(
        scrape,
        scrape,
        r#"count by (alertname) (ALERTS{alertstate="firing"})"#,
        " []",
    );
}

fn evaluate(before: &Scrape, now: &Scrape, expression: &str, samples: &str) {
    if Command::new("promtool").arg("--version").output().is_err() {
        println!("skipped: promtool is not installed");
        return;
    }
    let rules = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/alerts.yml");
    let mut test = format!(
        "rule_files: ['{rules}']\nevaluation_interval: 1m\ntests:\n  - interval: 1m\n    input_series:\n      \
         - {{ series: 'up{{job=\"cenote\",instance=\"a\"}}', values: '1+0x{MINUTES}' }}\n"
    );
    for (name, family) in &now.families {
        for (series, labels, value) in &family.samples {
            let growth = match &*family.kind {
                "gauge" => 0.0,
                _ => value - before.value(series, labels),
            };
            let value = match name.ends_with("_timestamp_seconds") {
                true => moved(*value),
                false => *value,
            };
            let series = text_of(series, labels);
            writeln!(
                test,
                "      - {{ series: '{series}', values: '{value}+{growth}x{MINUTES}' }}"
            )
            .unwrap();
        }
    }
    write!(
        test,
        "    promql_expr_test:\n      - expr: '{expression}'\n        eval_time: {MINUTES}m\n        exp_samples:{samples}\n"
    )
    .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("test.yml");
    fs::write(&file, &test).unwrap();
    let checked = Command::new("promtool")
        .args(["test", "rules"])
        .arg(&file)
        .output()
        .unwrap();
    let said = [checked.stdout, checked.stderr].concat();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&said));
}

/// The clock of promtool's tests begins at 1970: at the time of evaluation the moment is as far away as it is now.
fn moved(timestamp: f64) -> f64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs_f64();
    timestamp - now + f64::from(MINUTES * 60)
}

/// The series with the labels of a scrape, for a text of YAML in single quotes.
fn text_of(name: &str, labels: &Labels) -> String {
    let mut text = format!(r#"{name}{{job="cenote",instance="a""#);
    for (label, value) in labels {
        write!(text, ",{label}={value:?}").unwrap();
    }
    (text + "}").replace('\'', "''")
}
