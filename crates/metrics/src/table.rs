//! Tables of metrics: for each, its description and how to read its values from the statistics.
//!
//! Invariant: what is described is what is offered, because both are one row.

use std::time::Duration;

use crate::{Buckets, Description, Exemplar, Histogram};

/// Statistics that offer their values as metrics.
pub trait Metrics: 'static {
    /// The metrics, in the order in which they are offered.
    const TABLE: &'static [Row<Self>];

    /// Calls `take` with every value. Those of one metric follow each other.
    fn visit(&self, take: &mut dyn FnMut(Sample<'_>)) {
        for row in Self::TABLE {
            let metric = &row.description;
            (row.read)(self, &mut Samples { metric, take });
        }
    }

    /// Returns what the metrics are, also of those without a value now.
    fn descriptions() -> impl Iterator<Item = &'static Description> {
        Self::TABLE.iter().map(|row| &row.description)
    }
}

/// A row of a table: a metric of the statistics `S`.
#[derive(Debug)]
pub struct Row<S: ?Sized + 'static> {
    description: Description,
    read: fn(&S, &mut Samples<'_>),
}

/// A value of a metric.
#[derive(Clone, Copy, Debug)]
pub struct Sample<'a> {
    /// The metric.
    pub metric: &'static Description,
    /// The values of its labels, in the order of their names.
    pub labels: &'a [&'a str],
    /// The value.
    pub value: Value<'a>,
    /// Of a histogram of durations: an example for each bucket, that without an edge included. Empty if there are none.
    pub exemplars: &'a [Option<Exemplar>],
}

/// The value of a metric.
#[derive(Clone, Copy, Debug)]
pub enum Value<'a> {
    /// Of a counter or gauge. Whole numbers are exact up to 2^53.
    Number(f64),
    /// Of a histogram.
    Histogram(&'a Buckets),
}

/// Takes the values of one metric.
pub struct Samples<'a> {
    metric: &'static Description,
    take: &'a mut dyn FnMut(Sample<'_>),
}

impl<S: ?Sized> Row<S> {
    /// A metric, and how its values are read: `read` offers them.
    #[must_use]
    pub const fn new(description: Description, read: fn(&S, &mut Samples<'_>)) -> Self {
        Self { description, read }
    }
}

impl Samples<'_> {
    /// Offers the value of a metric without labels.
    pub fn value(&mut self, value: impl Number) {
        self.labelled(&[], value);
    }

    /// Offers a value, with the values of the labels in the order of their names.
    pub fn labelled(&mut self, labels: &[&str], value: impl Number) {
        self.sample(labels, Value::Number(value.into_number()), &[]);
    }

    /// Offers durations, in seconds.
    pub fn durations(&mut self, labels: &[&str], durations: &Histogram) {
        self.durations_with_exemplars(labels, durations, &[]);
    }

    /// Offers durations, in seconds, with examples as [`Exemplars::merge_into`](crate::Exemplars::merge_into) makes them.
    pub fn durations_with_exemplars(&mut self, labels: &[&str], durations: &Histogram, exemplars: &[Option<Exemplar>]) {
        self.sample(labels, Value::Histogram(&durations.buckets()), exemplars);
    }

    /// Offers the counts of other values than durations.
    pub fn buckets(&mut self, labels: &[&str], buckets: &Buckets) {
        self.sample(labels, Value::Histogram(buckets), &[]);
    }

    fn sample(&mut self, labels: &[&str], value: Value<'_>, exemplars: &[Option<Exemplar>]) {
        debug_assert_eq!(labels.len(), self.metric.labels.len(), "labels of {}", self.metric.name);
        (self.take)(Sample {
            metric: self.metric,
            labels,
            value,
            exemplars,
        });
    }
}

/// What can be the value of a metric.
pub trait Number {
    /// The value: durations in seconds, facts as 0 and 1.
    fn into_number(self) -> f64;
}

impl Number for u32 {
    fn into_number(self) -> f64 {
        self.into()
    }
}

impl Number for u64 {
    fn into_number(self) -> f64 {
        self as f64
    }
}

impl Number for usize {
    fn into_number(self) -> f64 {
        self as f64
    }
}

impl Number for f64 {
    fn into_number(self) -> f64 {
        self
    }
}

impl Number for bool {
    fn into_number(self) -> f64 {
        self.into()
    }
}

impl Number for Duration {
    fn into_number(self) -> f64 {
        self.as_secs_f64()
    }
}
