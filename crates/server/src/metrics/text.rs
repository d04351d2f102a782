//! Writes metrics as text: the format of Prometheus, version 0.0.4, and OpenMetrics 1.0.
//!
//! Invariant: a reader that follows either specification can read it, whatever the values of labels are. Both texts have the
//! same series. Examples are in OpenMetrics alone: a reader of the other format takes them for garbage.

use std::fmt::Write;

use std::time::UNIX_EPOCH;

use cenote_metrics::{Buckets, Description, Exemplar, Kind, Sample, Value};

/// A text format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>
    Prometheus,
    /// <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>
    OpenMetrics,
}

impl Format {
    pub(crate) const fn content_type(self) -> &'static str {
        match self {
            Self::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            Self::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A text that grows by samples. Those of one metric must follow each other.
pub(crate) struct Text {
    format: Format,
    text: String,
    /// The metric of the last sample.
    metric: Option<&'static Description>,
}

impl Text {
    pub(crate) fn new(format: Format, capacity: usize) -> Self {
        Self {
            format,
            text: String::with_capacity(capacity),
            metric: None,
        }
    }

    /// Adds a sample, and before the first of a metric its description.
    pub(crate) fn add(&mut self, sample: Sample<'_>) {
        let Sample {
            metric,
            labels,
            value,
            exemplars,
        } = sample;
        if self.metric.is_none_or(|last| last.name != metric.name) {
            self.describe(metric);
            self.metric = Some(metric);
        }
        match value {
            Value::Number(value) => self.line(metric, "", labels, None, value),
            Value::Histogram(buckets) => self.histogram(metric, labels, buckets, exemplars),
        }
    }

    /// Ends the text.
    pub(crate) fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }

    fn describe(&mut self, metric: &Description) {
        let name = match (self.format, metric.kind) {
            // There the name is that of the family, without the suffix of its samples.
            (Format::OpenMetrics, Kind::Counter) => metric.name.trim_end_matches("_total"),
            _ => metric.name,
        };
        self.text.push_str("# HELP ");
        self.text.push_str(name);
        self.text.push(' ');
        self.escaped(metric.help, self.format == Format::OpenMetrics);
        self.text.push('\n');
        self.comment("TYPE", name, metric.kind.as_str());
        if let (Format::OpenMetrics, Some(unit)) = (self.format, metric.unit) {
            self.comment("UNIT", name, unit.as_str());
        }
    }

    fn comment(&mut self, word: &str, name: &str, rest: &str) {
        for part in ["# ", word, " ", name, " ", rest, "\n"] {
            self.text.push_str(part);
        }
    }

    fn histogram(&mut self, metric: &Description, labels: &[&str], buckets: &Buckets, exemplars: &[Option<Exemplar>]) {
        let last = (f64::INFINITY, buckets.count);
        for (at, (edge, count)) in buckets.cumulative.iter().chain([&last]).enumerate() {
            self.sample(metric, "_bucket", labels, Some(*edge), *count as f64);
            if self.format == Format::OpenMetrics {
                self.exemplar(exemplars.get(at).copied().flatten());
            }
            self.text.push('\n');
        }
        self.line(metric, "_sum", labels, None, buckets.sum);
        self.line(metric, "_count", labels, None, buckets.count as f64);
    }

    fn exemplar(&mut self, exemplar: Option<Exemplar>) {
        let Some(Exemplar { trace_id, duration, at }) = exemplar else {
            return;
        };
        let trace_id = u128::from_be_bytes(trace_id);
        let seconds = duration.as_secs_f64();
        let at = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64();
        let _never = write!(self.text, " # {{trace_id=\"{trace_id:032x}\"}} {seconds} {at:.3}");
    }

    fn line(&mut self, metric: &Description, suffix: &str, labels: &[&str], edge: Option<f64>, value: f64) {
        self.sample(metric, suffix, labels, edge, value);
        self.text.push('\n');
    }

    fn sample(&mut self, metric: &Description, suffix: &str, labels: &[&str], edge: Option<f64>, value: f64) {
        self.text.push_str(metric.name);
        self.text.push_str(suffix);
        let mut before = '{';
        for (name, value) in metric.labels.iter().zip(labels) {
            self.text.push(before);
            self.text.push_str(name);
            self.text.push_str("=\"");
            self.escaped(value, true);
            self.text.push('"');
            before = ',';
        }
        if let Some(edge) = edge {
            self.text.push(before);
            self.text.push_str("le=\"");
            self.edge(edge);
            self.text.push('"');
            before = ',';
        }
        if before == ',' {
            self.text.push('}');
        }
        self.text.push(' ');
        self.number(value);
    }

    /// An edge is a label, so it must read the same in both formats: with a decimal, as OpenMetrics demands.
    fn edge(&mut self, edge: f64) {
        self.number(edge);
        if edge.is_finite() && edge.fract() == 0.0 {
            self.text.push_str(".0");
        }
    }

    fn number(&mut self, value: f64) {
        // Writing to a text cannot fail.
        let _never = match value {
            f64::INFINITY => self.text.write_str("+Inf"),
            f64::NEG_INFINITY => self.text.write_str("-Inf"),
            value if value.is_nan() => self.text.write_str("NaN"),
            // Never with an exponent, which both formats would take as well.
            value => write!(self.text, "{value}"),
        };
    }

    fn escaped(&mut self, text: &str, with_quotes: bool) {
        for character in text.chars() {
            match character {
                '\\' => self.text.push_str("\\\\"),
                '\n' => self.text.push_str("\\n"),
                '"' if with_quotes => self.text.push_str("\\\""),
                character => self.text.push(character),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cenote_metrics::{Exemplars, Histogram, Metrics, Row, Unit};

    use super::*;

    struct Things;

    impl Metrics for Things {
        const TABLE: &'static [Row<Self>] = &[
            Row::new(
                Description::counter("things_total", "Things, \"so\\to speak\".\nAll of them.").labels(&["kind"]),
                |_, out| {
                    out.labelled(&["a\"b\\c\nd"], 3u64);
                    out.labelled(&["ü"], 0.5);
                },
            ),
            Row::new(Description::gauge("free_bytes", "Free.").unit(Unit::Bytes), |_, out| {
                out.value(9_007_199_254_740_992_u64);
            }),
            Row::new(Description::gauge("nothing", "Never offered."), |_, _| {}),
            Row::new(
                Description::histogram("wait_seconds", "Waits.")
                    .unit(Unit::Seconds)
                    .labels(&["by"]),
                |_, out| {
                    let (mut waits, exemplars) = (Histogram::default(), Exemplars::default());
                    let at = UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
                    for (trace, duration) in [(7, Duration::from_micros(20)), (8, Duration::from_secs(100))] {
                        waits.record(duration);
                        exemplars.record(Exemplar {
                            trace_id: [trace; 16],
                            duration,
                            at,
                        });
                    }
                    let mut newest = Vec::new();
                    exemplars.merge_into(&mut newest);
                    out.durations_with_exemplars(&["x"], &waits, &newest);
                },
            ),
            Row::new(Description::histogram("sizes", "Sizes."), |_, out| {
                out.buckets(
                    &[],
                    &Buckets {
                        cumulative: vec![(1.0, 2), (2.5, 3)],
                        count: 3,
                        sum: 4.5,
                    },
                );
            }),
        ];
    }

    fn written(format: Format) -> String {
        let mut text = Text::new(format, 0);
        Things.visit(&mut |sample| text.add(sample));
        text.finish()
    }

    #[test]
    fn the_text_for_prometheus() {
        let text = written(Format::Prometheus);
        let (before, waits) = text.split_once("# HELP wait_seconds").unwrap();
        assert_eq!(
            before,
            "# HELP things_total Things, \"so\\\\to speak\".\\nAll of them.\n\
             # TYPE things_total counter\n\
             things_total{kind=\"a\\\"b\\\\c\\nd\"} 3\n\
             things_total{kind=\"ü\"} 0.5\n\
             # HELP free_bytes Free.\n\
             # TYPE free_bytes gauge\n\
             free_bytes 9007199254740992\n"
        );
        for line in [
            "wait_seconds_bucket{by=\"x\",le=\"0.000016\"} 0",
            "wait_seconds_bucket{by=\"x\",le=\"0.000032\"} 1",
            "wait_seconds_bucket{by=\"x\",le=\"33.554432\"} 1",
            "wait_seconds_bucket{by=\"x\",le=\"+Inf\"} 2",
            "wait_seconds_sum{by=\"x\"} 100.00002",
            "wait_seconds_count{by=\"x\"} 2",
        ] {
            assert!(waits.contains(&format!("\n{line}\n")), "{line}\n{waits}");
        }
        assert!(waits.ends_with(
            "# TYPE sizes histogram\n\
             sizes_bucket{le=\"1.0\"} 2\n\
             sizes_bucket{le=\"2.5\"} 3\n\
             sizes_bucket{le=\"+Inf\"} 3\n\
             sizes_sum 4.5\n\
             sizes_count 3\n"
        ));
    }

    #[test]
    fn the_text_for_openmetrics_names_families_and_units_and_has_an_end() {
        let text = written(Format::OpenMetrics);
        for line in [
            "# TYPE things counter",
            "# HELP things Things, \\\"so\\\\to speak\\\".\\nAll of them.",
            "things_total{kind=\"ü\"} 0.5",
            "# UNIT free_bytes bytes",
            "# UNIT wait_seconds seconds",
            "wait_seconds_bucket{by=\"x\",le=\"0.000016\"} 0",
            "wait_seconds_bucket{by=\"x\",le=\"0.000032\"} 1 # {trace_id=\"07070707070707070707070707070707\"} 0.00002 \
             1700000000.250",
            "wait_seconds_bucket{by=\"x\",le=\"+Inf\"} 2 # {trace_id=\"08080808080808080808080808080808\"} 100 \
             1700000000.250",
        ] {
            assert!(text.lines().any(|it| it == line), "{line}\n{text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
    }

    #[test]
    fn both_texts_have_the_same_series() {
        let samples = |format| {
            let text = written(format);
            let samples = text.lines().filter(|line| !line.starts_with('#'));
            let without_examples = |line: &str| line.split(" # ").next().map(str::to_owned);
            samples.filter_map(without_examples).collect::<Vec<_>>()
        };
        assert_eq!(samples(Format::Prometheus), samples(Format::OpenMetrics));
    }
}
