//! The metrics of the service as a whole and of its process. Invariant: the names `process_…` are those of Prometheus'
//! client libraries, with their meaning.

use std::time::{SystemTime, UNIX_EPOCH};

use cenote_metrics::{
    Description, Metrics, Row, Samples,
    Unit::{Bytes, Ratio, Seconds},
};

use super::super::snapshot::ServiceFigures;
use crate::memory_watch::{Level, MemoryReport};

impl Metrics for ServiceFigures {
    const TABLE: &'static [Row<Self>] = &[
        Row::new(
            Description::gauge(
                "cenote_build_info",
                "1, with the version and the source's revision as labels.",
            )
            .labels(&["version", "revision"]),
            |_, out| {
                let revision = option_env!("CENOTE_REVISION").unwrap_or("unknown");
                out.labelled(&[env!("CARGO_PKG_VERSION"), revision], 1u32);
            },
        ),
        Row::new(
            Description::gauge(
                "cenote_tls_certificate_expiry_timestamp_seconds",
                "When the certificate or one of its chain expires, in seconds since 1970. Absent without TLS.",
            )
            .unit(Seconds)
            .look_when("it is less than 14 days away"),
            |it, out| it.tls.iter().for_each(|tls| out.value(tls.expires)),
        ),
        Row::new(
            Description::counter(
                "cenote_tls_reloads_total",
                "Reloads of the TLS files. Absent without TLS.",
            )
            .labels(&["outcome"])
            .look_when("`failed` grows: the new files cannot be used, and the old certificate stays in force"),
            |it, out| {
                if let Some(tls) = &it.tls {
                    out.labelled(&["loaded"], tls.reloads);
                    out.labelled(&["failed"], tls.failed_reloads);
                }
            },
        ),
        Row::new(
            Description::gauge(
                "cenote_database_connections_limit",
                "Connections that the database leaves for ordinary users, as the start found it: `max_connections` \
                 without reserves, or a lower CONNECTION LIMIT.",
            )
            .look_when("you add an instance: those of all instances must fit"),
            |it, out| it.connection_limit.into_iter().for_each(|limit| out.value(limit)),
        ),
        Row::new(
            Description::counter(
                "cenote_otlp_exported_total",
                "Spans that the collector of OTLP_ENDPOINT has taken.",
            ),
            |it, out| out.value(it.spans.exported),
        ),
        Row::new(
            Description::counter(
                "cenote_otlp_dropped_total",
                "Spans that found no room, or that the collector of OTLP_ENDPOINT has not taken.",
            )
            .look_when("it grows: the collector is away or slow, the log says which; or lower `TRACE_RATIO`"),
            |it, out| out.value(it.spans.dropped),
        ),
        Row::new(
            Description::gauge(
                "cenote_memory_used_bytes",
                "The working set that counts against the limit. Absent if memory is not watched, as the \
                 others here.",
            )
            .unit(Bytes),
            |it, out| of_memory(it, out, |memory| memory.reading.used as f64),
        ),
        Row::new(
            Description::gauge(
                "cenote_memory_limit_bytes",
                "The bytes at which the kernel slows the process down or ends it.",
            )
            .unit(Bytes),
            |it, out| of_memory(it, out, |memory| memory.reading.limit as f64),
        ),
        Row::new(
            Description::gauge(
                "cenote_memory_level",
                "How short memory is: 0 normal, 1 a warning, 2 critical.",
            )
            .look_when("it is not 0: the service keeps less near, and at 2 refuses long bodies"),
            |it, out| {
                of_memory(it, out, |memory| match memory.level {
                    Level::Normal => 0.0,
                    Level::Warning => 1.0,
                    Level::Critical => 2.0,
                });
            },
        ),
        Row::new(
            Description::gauge(
                "cenote_memory_stall_ratio",
                "The share of the last ten seconds in which a task waited for memory. Absent if the \
                 kernel does not tell.",
            )
            .unit(Ratio),
            |it, out| {
                let stall = it.memory.as_ref().and_then(|memory| memory.reading.stall);
                stall
                    .into_iter()
                    .for_each(|percent| out.value(f64::from(percent) / 100.0));
            },
        ),
        Row::new(
            Description::gauge(
                "cenote_response_memory_bytes",
                "Bytes of large responses on their way to clients.",
            )
            .unit(Bytes)
            .look_when("it stays near `HTTP_ANSWER_MEMORY`: clients are slow to read"),
            |it, out| out.value(it.response_bytes),
        ),
        Row::new(
            Description::gauge(
                "cenote_change_feed_up",
                "1 while the change feed is connected. Absent without one, as the others of the feed.",
            )
            .look_when("it is 0: changes made outside the service are not seen"),
            |it, out| it.feed.iter().for_each(|feed| out.value(feed.listening)),
        ),
        Row::new(
            Description::counter(
                "cenote_change_feed_keys_total",
                "Keys dropped from the cache because they were changed outside the service.",
            ),
            |it, out| it.feed.iter().for_each(|feed| out.value(feed.keys)),
        ),
        Row::new(
            Description::counter(
                "cenote_change_feed_resets_total",
                "How often the whole cache was dropped: at the start, after an interruption, after too \
                 many changes.",
            ),
            |it, out| it.feed.iter().for_each(|feed| out.value(feed.everything)),
        ),
        Row::new(
            Description::gauge(
                "cenote_change_feed_lag_seconds",
                "The last measured delay of the change feed.",
            )
            .unit(Seconds),
            |it, out| it.feed.iter().for_each(|feed| out.value(feed.lag)),
        ),
        Row::new(
            Description::counter(
                "process_cpu_seconds_total",
                "Time on processors, of the program and the kernel for it.",
            )
            .unit(Seconds),
            |it, out| it.process.cpu.into_iter().for_each(|time| out.value(time)),
        ),
        Row::new(
            Description::gauge("process_resident_memory_bytes", "Resident memory.").unit(Bytes),
            |it, out| it.process.resident_bytes.into_iter().for_each(|bytes| out.value(bytes)),
        ),
        Row::new(
            Description::gauge("process_virtual_memory_bytes", "Virtual memory.").unit(Bytes),
            |it, out| it.process.virtual_bytes.into_iter().for_each(|bytes| out.value(bytes)),
        ),
        Row::new(
            Description::gauge("process_open_fds", "Open file descriptors."),
            |it, out| it.process.open_files.into_iter().for_each(|files| out.value(files)),
        ),
        Row::new(
            Description::gauge("process_max_fds", "The limit of open file descriptors.")
                .look_when("`process_open_fds` comes near it"),
            |it, out| it.process.max_files.into_iter().for_each(|files| out.value(files)),
        ),
        Row::new(Description::gauge("process_threads", "Threads."), |it, out| {
            it.process.threads.into_iter().for_each(|threads| out.value(threads))
        }),
        Row::new(
            Description::gauge(
                "process_start_time_seconds",
                "When the service started, in seconds since 1970.",
            )
            .unit(Seconds)
            .look_when("it changes: the service has restarted"),
            |it, out| out.value(since_1970(it.started)),
        ),
    ];
}

fn of_memory(it: &ServiceFigures, out: &mut Samples<'_>, value: impl Fn(&MemoryReport) -> f64) {
    it.memory.iter().for_each(|memory| out.value(value(memory)));
}

fn since_1970(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).map_or(0.0, |since| since.as_secs_f64())
}
