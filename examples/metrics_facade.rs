//! The metrics of a pool through the facade `metrics`, for whatever recorder the program has installed.
//!
//!     cargo run --example metrics_facade
//!
//! The facade keeps values, so a task copies them there now and then. It cannot be given the counts of a histogram: they
//! become counters with the label `le`, as Prometheus has them.

use std::error::Error;

use cenote_metrics::{Description, Kind, Metrics, Sample, Unit, Value};
use cenote_postgres::{Config, Pool, PoolStats, Stats};
use metrics::{Label, counter, gauge};
use metrics_util::debugging::{DebugValue, DebuggingRecorder};

/// Tells the recorder what the metrics are. Once, at the start.
fn describe() {
    for metric in PoolStats::descriptions().chain(Stats::descriptions()) {
        let Description { name, help, unit, .. } = *metric;
        let unit = match unit {
            Some(Unit::Seconds) => metrics::Unit::Seconds,
            Some(Unit::Bytes) => metrics::Unit::Bytes,
            Some(Unit::Ratio) | None => metrics::Unit::Count,
        };
        match metric.kind {
            Kind::Gauge => metrics::describe_gauge!(name, unit, help),
            Kind::Counter => metrics::describe_counter!(name, unit, help),
            Kind::Histogram => metrics::describe_counter!(format!("{name}_bucket"), unit, help),
        }
    }
}

/// Copies the values of now. Call it every few seconds.
fn publish(pool: &Pool) {
    let stats = pool.stats();
    stats.pool.visit(&mut |sample| copy(&sample));
    stats.visit(&mut |sample| copy(&sample));
}

fn copy(sample: &Sample<'_>) {
    let Description { name, kind, labels, .. } = *sample.metric;
    let pairs = labels.iter().zip(sample.labels);
    let mut labels: Vec<_> = pairs
        .map(|(key, value)| Label::new(*key, (*value).to_owned()))
        .collect();
    match sample.value {
        Value::Number(value) if kind == Kind::Counter => counter!(name, labels).absolute(value as u64),
        Value::Number(value) => gauge!(name, labels).set(value),
        Value::Histogram(buckets) => {
            counter!(format!("{name}_count"), labels.clone()).absolute(buckets.count);
            // The counters of the facade are whole numbers.
            gauge!(format!("{name}_sum"), labels.clone()).set(buckets.sum);
            let bucket = format!("{name}_bucket");
            for (edge, count) in &buckets.cumulative {
                labels.push(Label::new("le", edge.to_string()));
                counter!(bucket.clone(), labels.clone()).absolute(*count);
                labels.pop();
            }
            labels.push(Label::from_static_parts("le", "+Inf"));
            counter!(bucket, labels).absolute(buckets.count);
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    // Stands for the recorder of your program.
    let recorder = DebuggingRecorder::new();
    let snapshotter = recorder.snapshotter();
    recorder.install()?;
    describe();

    let database = cenote_examples::database().await?;
    let mut config = Config::from_url(database.url())?;
    config.pool.max_size = 2;
    let pool = Pool::new(config)?;
    for number in 0..5 {
        pool.get().await?.query_one("SELECT $1 + 1", &[&number]).await?;
    }
    publish(&pool);

    let mut lines = Vec::new();
    for (key, _, help, value) in snapshotter.snapshot().into_vec() {
        let value = match value {
            DebugValue::Counter(value) => value.to_string(),
            DebugValue::Gauge(value) => value.to_string(),
            DebugValue::Histogram(_) => continue,
        };
        let labels: Vec<_> = key
            .key()
            .labels()
            .map(|label| format!("{}={}", label.key(), label.value()))
            .collect();
        let help = help.map(|help| format!(" # {help}")).unwrap_or_default();
        lines.push(format!("{} {{{}}} {value}{help}", key.key().name(), labels.join(",")));
    }
    lines.sort();
    for line in lines.iter().filter(|line| !line.contains("_bucket")) {
        println!("{line}");
    }
    pool.close().await;
    Ok(())
}
