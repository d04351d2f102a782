//! The metrics of a pool in a registry of `prometheus-client`, beside those of the program itself.
//!
//!     cargo run --example prometheus_client
//!
//! A [`Collector`] is asked at each scrape, as [`Metrics::visit`] is, so nothing is kept in between.

use std::{error::Error, fmt};

use cenote_metrics::{Description, Kind, Metrics, Sample, Unit, Value};
use cenote_postgres::{Config, Pool};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text::encode},
    metrics::{MetricType, counter::Counter},
    registry::{self, Registry},
};

#[derive(Debug)]
struct PoolMetrics(Pool);

impl Collector for PoolMetrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let stats = self.0.stats();
        let mut written = Written::default();
        stats.pool.visit(&mut |sample| written.add(&sample));
        stats.visit(&mut |sample| written.add(&sample));
        written
            .metrics
            .iter()
            .try_for_each(|metric| metric.encode(&mut encoder))
    }
}

/// Samples by metric: `prometheus-client` wants all of a metric at once.
#[derive(Default)]
struct Written {
    metrics: Vec<Metric>,
}

struct Metric {
    description: &'static Description,
    samples: Vec<(Vec<(&'static str, String)>, Copied)>,
}

/// A value that outlives the visit.
enum Copied {
    Number(f64),
    /// Sum, count and buckets, each with its own count.
    Histogram(f64, u64, Vec<(f64, u64)>),
}

impl Written {
    fn add(&mut self, sample: &Sample<'_>) {
        let names = sample.metric.labels.iter().copied();
        let labels = names
            .zip(sample.labels.iter().map(|value| (*value).to_owned()))
            .collect();
        let value = match sample.value {
            Value::Number(value) => Copied::Number(value),
            Value::Histogram(buckets) => {
                let mut below = 0;
                let last = (f64::MAX, buckets.count);
                let each = buckets.cumulative.iter().copied().chain([last]).map(|(edge, up_to)| {
                    let own = up_to - below;
                    below = up_to;
                    (edge, own)
                });
                Copied::Histogram(buckets.sum, buckets.count, each.collect())
            }
        };
        match self.metrics.last_mut() {
            Some(metric) if metric.description.name == sample.metric.name => metric.samples.push((labels, value)),
            _ => self.metrics.push(Metric {
                description: sample.metric,
                samples: vec![(labels, value)],
            }),
        }
    }
}

impl Metric {
    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let Description { help, kind, .. } = *self.description;
        let unit = self.description.unit.map(|unit| match unit {
            Unit::Seconds => registry::Unit::Seconds,
            Unit::Bytes => registry::Unit::Bytes,
            Unit::Ratio => registry::Unit::Other("ratio".to_owned()),
        });
        let name = bare_name(self.description);
        let mut encoder = encoder.encode_descriptor(name, help, unit.as_ref(), metric_type(kind))?;
        for (labels, value) in &self.samples {
            match labels.is_empty() {
                true => value.encode(kind, &mut encoder)?,
                false => value.encode(kind, &mut encoder.encode_family(labels)?)?,
            }
        }
        Ok(())
    }
}

impl Copied {
    fn encode(&self, kind: Kind, encoder: &mut MetricEncoder<'_>) -> fmt::Result {
        match self {
            Self::Number(value) if kind == Kind::Counter => encoder.encode_counter::<NoLabelSet, _, f64>(value, None),
            Self::Number(value) => encoder.encode_gauge(value),
            Self::Histogram(sum, count, buckets) => encoder.encode_histogram::<NoLabelSet>(*sum, *count, buckets, None),
        }
    }
}

/// The name without what `prometheus-client` adds by itself: the unit, and `_total`.
fn bare_name(metric: &Description) -> &'static str {
    let name = metric.name.strip_suffix("_total").unwrap_or(metric.name);
    let without = metric
        .unit
        .and_then(|unit| name.strip_suffix(unit.as_str())?.strip_suffix('_'));
    without.unwrap_or(name)
}

fn metric_type(kind: Kind) -> MetricType {
    match kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let database = cenote_examples::database().await?;
    let mut config = Config::from_url(database.url())?;
    config.pool.max_size = 2;
    let pool = Pool::new(config)?;

    let mut registry = Registry::default();
    let orders = Counter::<u64>::default();
    registry.register("orders", "Orders of this program", orders.clone());
    registry.register_collector(Box::new(PoolMetrics(pool.clone())));

    for number in 0..5 {
        pool.get().await?.query_one("SELECT $1 + 1", &[&number]).await?;
        orders.inc();
    }

    // What a handler of `/metrics` would return.
    let mut text = String::new();
    encode(&mut text, &registry)?;
    for line in text
        .lines()
        .filter(|line| !line.contains("_bucket") && !line.starts_with("# HELP"))
    {
        println!("{line}");
    }
    pool.close().await;
    Ok(())
}
