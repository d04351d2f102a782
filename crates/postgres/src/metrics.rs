//! The metrics of statements and queues. Those of connections are the generic pool's.
//!
//! Invariant: every label comes from a closed set, and none from a statement's text or parameters.

use cenote_metrics::{
    Buckets, Description, Metrics, Row, Samples,
    Unit::{Bytes, Seconds},
};

use crate::{QueueStats, Stats};

/// Without those of [`Stats::pool`], which offers its own.
impl Metrics for Stats {
    const TABLE: &'static [Row<Self>] = &[
        Row::new(
            Description::counter(
                "cenote_statements_total",
                "Statements that were sent to the database, also those that failed.",
            ),
            |it, out| out.value(it.queries),
        ),
        Row::new(
            Description::histogram(
                "cenote_statement_duration_seconds",
                "How long statements took until they were answered or failed.",
            )
            .unit(Seconds)
            .labels(&["statement"])
            .look_when("latency rises: the database is slow, or the wait for it is long")
            .otel("db.client.operation.duration"),
            |it, out| {
                for statement in it.statements.iter().filter(|it| it.durations.count() > 0) {
                    out.durations(&[statement.name], &statement.durations);
                }
            },
        ),
        Row::new(
            Description::counter(
                "cenote_statement_errors_total",
                "Statements that failed, by name and class of their SQLSTATE; `none` has none, such as a lost \
                 connection.",
            )
            .labels(&["statement", "class"])
            .look_when("requests fail: 40 are conflicts, 53 a lack of resources, 57 an operator's doing"),
            |it, out| {
                for statement in &it.statements {
                    for (class, count) in &statement.errors_by_class {
                        out.labelled(&[statement.name, class], *count);
                    }
                }
            },
        ),
        Row::new(
            Description::counter(
                "cenote_statement_timeouts_total",
                "Statements that took longer than the command timeout, and were cancelled.",
            ),
            |it, out| out.value(it.timeouts),
        ),
        Row::new(
            Description::counter(
                "cenote_statements_slow_total",
                "Statements that took longer than a slow one may; the log has them.",
            ),
            |it, out| out.value(it.slow),
        ),
    ];
}

/// Statistics of batchers, each with its name.
#[derive(Clone, Debug, Default)]
pub struct NamedQueues(pub Vec<(&'static str, QueueStats)>);

impl NamedQueues {
    fn each(&self, out: &mut Samples<'_>, value: impl Fn(&QueueStats) -> f64) {
        for (name, stats) in &self.0 {
            out.labelled(&[name], value(stats));
        }
    }
}

impl Metrics for NamedQueues {
    const TABLE: &'static [Row<Self>] = &[
        Row::new(
            Description::gauge("cenote_queue_waiting", "Requests that wait to be sent in a batch.").labels(&["queue"]),
            |it, out| it.each(out, |queue| queue.waiting as f64),
        ),
        Row::new(
            Description::gauge(
                "cenote_queue_bytes",
                "Bytes of the requests that wait to be sent in a batch.",
            )
            .unit(Bytes)
            .labels(&["queue"]),
            |it, out| it.each(out, |queue| queue.waiting_bytes as f64),
        ),
        Row::new(
            Description::gauge(
                "cenote_queue_longest_wait_seconds",
                "How long the first request in the queue has waited.",
            )
            .unit(Seconds)
            .labels(&["queue"])
            .look_when("latency rises while the pool has idle connections"),
            |it, out| it.each(out, |queue| queue.longest_wait.as_secs_f64()),
        ),
        Row::new(
            Description::gauge(
                "cenote_queue_longest_lock_wait_seconds",
                "How long the write has waited that waits longest for a row which another session has locked.",
            )
            .unit(Seconds)
            .labels(&["queue"])
            .look_when("writes are slow: `pg_blocking_pids()` names the session that keeps the lock"),
            |it, out| it.each(out, |queue| queue.longest_lock_wait.as_secs_f64()),
        ),
        Row::new(
            Description::gauge("cenote_queue_running", "Batches that are under way.").labels(&["queue"]),
            |it, out| it.each(out, |queue| queue.running.into()),
        ),
        Row::new(
            Description::histogram("cenote_batch_size", "How many requests went in one batch.")
                .labels(&["queue"])
                .look_when("you want to know what batching saves: small batches mean that the database keeps up"),
            |it, out| {
                for (name, stats) in &it.0 {
                    let edges = stats.batch_sizes.cumulative();
                    let buckets = Buckets {
                        cumulative: edges.map(|(edge, count)| (edge as f64, count)).collect(),
                        count: stats.batches,
                        sum: stats.requests as f64,
                    };
                    out.buckets(&[name], &buckets);
                }
            },
        ),
        Row::new(
            Description::counter(
                "cenote_queue_refused_total",
                "Requests that were refused at once because too much waited.",
            )
            .labels(&["queue"])
            .look_when("requests are answered 503"),
            |it, out| it.each(out, |queue| queue.refused as f64),
        ),
        Row::new(
            Description::counter("cenote_queue_expired_total", "Requests that were not sent in time.")
                .labels(&["queue"]),
            |it, out| it.each(out, |queue| queue.expired as f64),
        ),
    ];
}
