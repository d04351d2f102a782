//! A strict reader of the text formats of metrics, written from their specifications and not from the service's writer.
//!
//! Invariant: a text that a strict scraper would refuse makes the test fail.

use std::collections::{BTreeMap, BTreeSet};

/// The labels of a series.
pub(crate) type Labels = BTreeMap<String, String>;

/// A metric with its samples.
#[derive(Debug)]
pub(crate) struct Family {
    pub(crate) kind: String,
    pub(crate) help: String,
    pub(crate) unit: Option<String>,
    /// The name of the sample, its labels and its value.
    pub(crate) samples: Vec<(String, Labels, f64)>,
    /// The labels of buckets, and the trace of the example that each has.
    pub(crate) exemplars: Vec<(Labels, String)>,
}

/// A scrape.
#[derive(Debug)]
pub(crate) struct Scrape {
    pub(crate) families: BTreeMap<String, Family>,
}

impl Scrape {
    /// Reads the format of Prometheus, version 0.0.4.
    pub(crate) fn prometheus(text: &str) -> Self {
        Self::read(text, false)
    }

    /// Reads OpenMetrics 1.0.
    pub(crate) fn openmetrics(text: &str) -> Self {
        let text = text.strip_suffix("# EOF\n").expect("it ends with # EOF");
        Self::read(text, true)
    }

    fn read(text: &str, open: bool) -> Self {
        assert!(text.ends_with('\n'), "the last line has an end");
        let mut families = BTreeMap::<String, Family>::new();
        let mut current = String::new();
        let mut help = None;
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# HELP ") {
                let (name, text) = rest.split_once(' ').unwrap();
                assert!(help.is_none(), "{line}: HELP twice");
                help = Some((name.to_owned(), text.to_owned()));
            } else if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
                let (of, text) = help.take().expect("HELP precedes TYPE");
                assert_eq!(of, name, "HELP and TYPE are of the same metric");
                assert!(is_name(name), "{line}");
                name.clone_into(&mut current);
                let family = Family {
                    kind: kind.to_owned(),
                    help: text,
                    unit: None,
                    samples: Vec::new(),
                    exemplars: Vec::new(),
                };
                assert!(families.insert(current.clone(), family).is_none(), "{name} twice");
            } else if let Some(rest) = line.strip_prefix("# UNIT ") {
                let (name, unit) = rest.split_once(' ').unwrap();
                assert!(open && name == current && name.ends_with(&format!("_{unit}")), "{line}");
                families.get_mut(name).unwrap().unit = Some(unit.to_owned());
            } else {
                assert!(!line.starts_with('#') && !line.is_empty(), "{line:?}");
                let family = families.get_mut(&current).expect("TYPE precedes samples");
                let (line, example) = match line.split_once(" # ") {
                    Some((line, example)) => (line, Some(example)),
                    None => (line, None),
                };
                let sample = sample(line);
                assert!(
                    belongs(&sample.0, &current, &family.kind, open),
                    "{line} after {current}"
                );
                if let Some(example) = example {
                    assert!(open && sample.0.ends_with("_bucket"), "{line}");
                    family.exemplars.push((sample.1.clone(), trace_of(example, &sample.1)));
                }
                family.samples.push(sample);
            }
        }
        let scrape = Self { families };
        scrape.check();
        scrape
    }

    fn check(&self) {
        let mut seen = BTreeSet::new();
        for (name, family) in &self.families {
            assert!(!family.samples.is_empty(), "{name} has no sample");
            for (sample, labels, value) in &family.samples {
                assert!(seen.insert((sample, labels)), "{sample} {labels:?} twice");
                if family.kind != "gauge" {
                    assert!(*value >= 0.0 && value.is_finite(), "{sample} {labels:?} {value}");
                }
            }
            if family.kind == "histogram" {
                check_histogram(name, family);
            }
        }
    }

    /// All series.
    pub(crate) fn series(&self) -> BTreeSet<(String, Labels)> {
        let samples = self.families.values().flat_map(|family| &family.samples);
        samples
            .map(|(name, labels, _)| (name.clone(), labels.clone()))
            .collect()
    }

    /// The value of a series; 0 if it is not there.
    pub(crate) fn value(&self, name: &str, labels: &Labels) -> f64 {
        let mut samples = self.families.values().flat_map(|family| &family.samples);
        let sample = samples.find(|(of, with, _)| of == name && with == labels);
        sample.map_or(0.0, |(.., value)| *value)
    }

    /// The sum of all samples with this name that have these labels among theirs.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let samples = self.families.values().flat_map(|family| &family.samples);
        let wanted = samples.filter(|(sample, of, _)| {
            sample == name
                && labels
                    .iter()
                    .all(|(key, value)| of.get(*key).is_some_and(|it| it == value))
        });
        wanted.map(|(.., value)| value).sum()
    }
}

/// Whether a sample of this name may belong to a metric of this name and kind.
fn belongs(sample: &str, metric: &str, kind: &str, open: bool) -> bool {
    let suffix = sample.strip_prefix(metric);
    match kind {
        "histogram" => matches!(suffix, Some("_bucket" | "_sum" | "_count")),
        "counter" if open => suffix == Some("_total"),
        "counter" => suffix == Some("") && metric.ends_with("_total"),
        _ => suffix == Some(""),
    }
}

fn check_histogram(name: &str, family: &Family) {
    let mut by_labels = BTreeMap::<Labels, (Vec<(f64, f64)>, Option<f64>, Option<f64>)>::new();
    for (sample, labels, value) in &family.samples {
        let mut labels = labels.clone();
        let edge = labels.remove("le");
        let (buckets, sum, count) = by_labels.entry(labels).or_default();
        match edge {
            Some(edge) if sample.ends_with("_bucket") => buckets.push((number(&edge), *value)),
            None if sample.ends_with("_sum") => *sum = Some(*value),
            None if sample.ends_with("_count") => *count = Some(*value),
            _ => panic!("{sample} with {edge:?}"),
        }
    }
    for (labels, (buckets, sum, count)) in by_labels {
        assert!(sum.is_some(), "{name} {labels:?} has no sum");
        assert_eq!(buckets.last().unwrap().0, f64::INFINITY, "{name} {labels:?}");
        assert_eq!(Some(buckets.last().unwrap().1), count, "{name} {labels:?}");
        let rises = buckets
            .windows(2)
            .all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1);
        assert!(rises, "{name} {labels:?} {buckets:?}");
    }
}

/// Reads `name{label="value",…} 12.5`.
fn sample(line: &str) -> (String, Labels, f64) {
    let end = line.find(['{', ' ']).unwrap();
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name), "{line}");
    let mut labels = Labels::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap();
            assert!(is_name(label) && !label.contains(':'), "{line}");
            let (value, after) = quoted(after);
            assert!(
                labels.insert(label.to_owned(), value).is_none(),
                "{line}: {label} twice"
            );
            if let Some(after) = after.strip_prefix('}') {
                rest = after;
                break;
            }
            rest = after.strip_prefix(',').expect(line);
        }
    }
    let value = rest.strip_prefix(' ').expect(line);
    (name.to_owned(), labels, number(value))
}

/// Reads an example, which must lie in the bucket with these labels, and returns its trace.
fn trace_of(example: &str, bucket: &Labels) -> String {
    let (trace, rest) = quoted(example.strip_prefix("{trace_id=\"").expect(example));
    let (value, time) = rest.strip_prefix("} ").unwrap().split_once(' ').unwrap();
    assert!(number(value) < number(&bucket["le"]), "{example} in {bucket:?}");
    assert!(number(time) > 1.7e9, "{example}");
    let is_hexadecimal = trace.bytes().all(|byte| byte.is_ascii_hexdigit());
    assert!(trace.len() == 32 && is_hexadecimal, "{example}");
    trace
}

/// Reads the rest of a quoted text, and returns what follows it.
fn quoted(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return (value, &text[at + 1..]),
            '\\' => match characters.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, escaped @ ('\\' | '"'))) => value.push(escaped),
                other => panic!("{other:?} is escaped in {text}"),
            },
            character => value.push(character),
        }
    }
    panic!("no end: {text}");
}

fn number(text: &str) -> f64 {
    match text {
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        "NaN" => f64::NAN,
        text => {
            assert!(text.bytes().all(|byte| b"0123456789.eE+-".contains(&byte)), "{text}");
            text.parse().unwrap()
        }
    }
}

fn is_name(name: &str) -> bool {
    let is_first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_' || byte == b':';
    let mut bytes = name.bytes();
    bytes.next().is_some_and(is_first) && bytes.all(|byte| is_first(byte) || byte.is_ascii_digit())
}
