//! What a metric is. Invariant: plain static data, so that documentation and values come from the same table.

/// What a metric is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Description {
    /// The name, as Prometheus has it: with the unit, and `_total` at the end of a counter.
    pub name: &'static str,
    /// What it counts, in a sentence.
    pub help: &'static str,
    /// How its values behave.
    pub kind: Kind,
    /// What its values are in. `None`: a number of things, or a fact that is 0 or 1.
    pub unit: Option<Unit>,
    /// The names of its labels. Their values come from closed sets.
    pub labels: &'static [&'static str],
    /// What an operator should look at it for. Empty if that is obvious.
    pub look_when: &'static str,
    /// The name in the semantic conventions of OpenTelemetry, if it has one.
    pub otel: Option<&'static str>,
}

/// How the values of a metric behave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, and begins with the process.
    Counter,
    /// May go up and down.
    Gauge,
    /// Counts values in buckets.
    Histogram,
}

/// What the values of a metric are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Seconds.
    Seconds,
    /// Bytes.
    Bytes,
    /// A share, from 0 to 1.
    Ratio,
}

impl Description {
    /// A metric that only grows, and begins with the process.
    #[must_use]
    pub const fn counter(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Counter, name, help)
    }

    /// A metric that may go up and down.
    #[must_use]
    pub const fn gauge(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Gauge, name, help)
    }

    /// A metric that counts values in buckets.
    #[must_use]
    pub const fn histogram(name: &'static str, help: &'static str) -> Self {
        Self::new(Kind::Histogram, name, help)
    }

    const fn new(kind: Kind, name: &'static str, help: &'static str) -> Self {
        Self {
            name,
            help,
            kind,
            unit: None,
            labels: &[],
            look_when: "",
            otel: None,
        }
    }

    /// With this unit.
    #[must_use]
    pub const fn unit(self, unit: Unit) -> Self {
        Self {
            unit: Some(unit),
            ..self
        }
    }

    /// With labels of these names.
    #[must_use]
    pub const fn labels(self, labels: &'static [&'static str]) -> Self {
        Self { labels, ..self }
    }

    /// With what an operator should look at it for.
    #[must_use]
    pub const fn look_when(self, look_when: &'static str) -> Self {
        Self { look_when, ..self }
    }

    /// With its name in the semantic conventions of OpenTelemetry.
    #[must_use]
    pub const fn otel(self, name: &'static str) -> Self {
        Self {
            otel: Some(name),
            ..self
        }
    }
}

impl Kind {
    /// The word that Prometheus and OpenMetrics have for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

impl Unit {
    /// The word at the end of names.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Bytes => "bytes",
            Self::Ratio => "ratio",
        }
    }
}
