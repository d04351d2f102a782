//! Holds docs/metrics.md against the descriptions of the metrics, and these against the rules of Prometheus. Invariant: every
//! word of the tables comes from the descriptions.

use std::{collections::HashSet, fs, path::Path};

use cenote_metrics::{Description, Kind};

use super::snapshot::descriptions;

/// The tables, one for each part of the service.
fn markdown() -> String {
    let mut output = String::new();
    for (part, metrics) in descriptions() {
        output += &format!("\n### {part}\n\n| Metric | Type | Labels | Meaning | Look at it when | OpenTelemetry |\n");
        output += "|---|---|---|---|---|---|\n";
        for metric in metrics {
            let cells = [
                format!("`{}`", metric.name),
                kind(metric),
                in_code(metric.labels.iter().copied()),
                metric.help.to_owned(),
                metric.look_when.to_owned(),
                in_code(metric.otel.into_iter()),
            ];
            output += &format!("| {} |\n", cells.map(|cell| cell.replace('|', "\\|")).join(" | "));
        }
    }
    output.push('\n');
    output
}

fn kind(metric: &Description) -> String {
    match (metric.kind, metric.unit) {
        (kind, None) => kind.as_str().to_owned(),
        (kind, Some(unit)) => format!("{}, {}", kind.as_str(), unit.as_str()),
    }
}

fn in_code<'a>(words: impl Iterator<Item = &'a str>) -> String {
    words.map(|word| format!("`{word}`")).collect::<Vec<_>>().join(", ")
}

#[test]
fn every_name_follows_the_rules_of_prometheus_and_is_there_once() {
    let mut seen = HashSet::new();
    for metric in descriptions().into_iter().flat_map(|(_, metrics)| metrics) {
        let name = metric.name;
        assert!(seen.insert(name), "{name} twice");
        assert!(name.starts_with("cenote_") || name.starts_with("process_"), "{name}");
        let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
        assert!(is_word(name), "{name}");
        assert_eq!(metric.kind == Kind::Counter, name.ends_with("_total"), "{name}");
        if let Some(unit) = metric.unit {
            let bare = name.trim_end_matches("_total");
            assert!(bare.ends_with(unit.as_str()), "{name} in {unit:?}");
        }
        for unit in ["_seconds", "_bytes", "_ratio"] {
            assert!(!name.contains(unit) || metric.unit.is_some(), "{name} has no unit");
        }
        for suffix in ["_count", "_sum", "_bucket", "_created"] {
            assert!(!name.ends_with(suffix), "{name} ends as a sample of a histogram");
        }
        for label in metric.labels {
            assert!(
                is_word(label) && !["le", "quantile", "job", "instance"].contains(label),
                "{label} of {name}"
            );
        }
    }
}

#[test]
fn every_metric_has_a_sentence_of_meaning() {
    for metric in descriptions().into_iter().flat_map(|(_, metrics)| metrics) {
        assert!(
            metric.help.ends_with('.') && metric.help.len() > 5,
            "{}: {}",
            metric.name,
            metric.help
        );
        assert!(
            !metric.look_when.ends_with('.'),
            "{}: {}",
            metric.name,
            metric.look_when
        );
    }
}

#[test]
fn the_document_has_every_metric() {
    const END: &str = "<!-- metrics:end -->";
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/metrics.md"));
    let document = fs::read_to_string(path).unwrap();
    let (before, rest) = document.split_once("<!-- metrics:begin").unwrap();
    let (marker, rest) = rest.split_once("-->\n").unwrap();
    let (_, after) = rest.split_once(END).unwrap();
    let expected = format!("{before}<!-- metrics:begin{marker}-->\n{}{END}{after}", markdown());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(path, &expected).unwrap();
    } else {
        assert!(
            document == expected,
            "docs/metrics.md is out of date; run `UPDATE=1 cargo test -p cenote metrics`"
        );
    }
}

/// The words in a file of `deploy` that are names of metrics.
fn metrics_in(file: &str) -> HashSet<String> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy")).join(file);
    let text = fs::read_to_string(path).unwrap();
    let words = text.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    let names = words.filter(|word| word.starts_with("cenote_") || word.starts_with("process_"));
    names.map(str::to_owned).collect()
}

#[test]
fn the_alerts_and_the_dashboard_name_only_metrics_that_exist() {
    let descriptions = descriptions();
    let metrics = || descriptions.iter().flat_map(|(_, metrics)| metrics);
    let exists = |name: &str| {
        metrics().any(|metric| {
            let suffix = name.strip_prefix(metric.name);
            match metric.kind {
                Kind::Histogram => matches!(suffix, Some("_bucket" | "_sum" | "_count")),
                Kind::Counter | Kind::Gauge => suffix == Some(""),
            }
        })
    };
    for (file, at_least) in [("alerts.yml", 15), ("alerts_test.yml", 15), ("grafana.json", 30)] {
        let names = metrics_in(file);
        assert!(names.len() >= at_least, "{file}: {names:?}");
        let unknown: Vec<_> = names.iter().filter(|name| !exists(name)).collect();
        assert!(unknown.is_empty(), "{file}: {unknown:?}");
    }
}

#[test]
fn every_alert_has_a_test_and_says_what_to_do() {
    let read = |file: &str| {
        fs::read_to_string(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy")).join(file)).unwrap()
    };
    let (rules, tests) = (read("alerts.yml"), read("alerts_test.yml"));
    let alerts: Vec<_> = rules
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- alert: "))
        .collect();
    assert!(alerts.len() > 15, "{alerts:?}");
    for alert in &alerts {
        let tested = tests.matches(&format!("alertname: {alert}\n")).count();
        assert_eq!(tested, 2, "{alert}: once as it fires and once as it is silent");
    }
    assert_eq!(rules.matches("          summary: ").count(), alerts.len());
    assert_eq!(rules.matches("          action: ").count(), alerts.len());
}
