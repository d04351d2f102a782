//! The metrics of a pool. Invariant: every figure of [`Stats`] that an operator may want to follow is here.

use cenote_metrics::{Description, Metrics, Row, Unit::Seconds};

use crate::{Retired, Stats};

impl Metrics for Stats {
    const TABLE: &'static [Row<Self>] = &[
        Row::new(
            Description::gauge(
                "cenote_pool_connections",
                "Connections by what they are doing. All but `connecting` and `closing` are usable.",
            )
            .labels(&["state"])
            .look_when("requests wait: is everything in use, or does connecting take long?")
            .otel("db.client.connection.count"),
            |it, out| {
                out.labelled(&["idle"], it.idle);
                out.labelled(&["in_use"], it.in_use);
                out.labelled(&["connecting"], it.connecting);
                out.labelled(&["cleaning"], it.cleaning);
                out.labelled(&["closing"], it.closing);
            },
        ),
        Row::new(
            Description::gauge(
                "cenote_pool_connections_limit",
                "The bounds on the number of connections; `overflow` comes on top of `max`.",
            )
            .labels(&["bound"])
            .otel("db.client.connection.max"),
            |it, out| {
                out.labelled(&["min"], it.min_size);
                out.labelled(&["max"], it.max_size);
                out.labelled(&["overflow"], it.max_overflow);
            },
        ),
        Row::new(
            Description::gauge("cenote_pool_waiters", "Callers that wait for a connection now.")
                .look_when("latency rises; bursts show in `cenote_pool_waits_total` alone")
                .otel("db.client.connection.pending_requests"),
            |it, out| out.value(it.waiting),
        ),
        Row::new(
            Description::gauge(
                "cenote_pool_longest_wait_seconds",
                "How long the caller has waited that waits longest; 0 if none waits.",
            )
            .unit(Seconds)
            .look_when("callers wait: it should stay far below the timeout"),
            |it, out| out.value(it.longest_wait.unwrap_or_default()),
        ),
        Row::new(
            Description::counter("cenote_pool_acquires_total", "Connections that callers acquired."),
            |it, out| out.value(it.acquired),
        ),
        Row::new(
            Description::counter(
                "cenote_pool_waits_total",
                "Callers that had to wait for a connection, however briefly.",
            )
            .look_when("the pool may be too small: it also shows bursts between two scrapes"),
            |it, out| out.value(it.waited),
        ),
        Row::new(
            Description::counter(
                "cenote_pool_acquire_failures_total",
                "Callers that got no connection: their wait timed out, they were refused because too \
                 many waited, dropped from the queue so that others wait less, or refused because \
                 connects fail or the pool is closed.",
            )
            .labels(&["reason"])
            .look_when("requests are answered 503")
            .otel("db.client.connection.timeouts"),
            |it, out| {
                out.labelled(&["timeout"], it.timeouts);
                out.labelled(&["refused"], it.refused.saturating_sub(it.refused_unavailable));
                out.labelled(&["shed"], it.shed);
                out.labelled(&["breaker"], it.refused_unavailable);
                out.labelled(&["closed"], it.refused_closed);
            },
        ),
        Row::new(
            Description::histogram(
                "cenote_pool_wait_seconds",
                "How long successful acquires took, by whether the connection was open or was opened for \
                 them.",
            )
            .unit(Seconds)
            .labels(&["served_by"])
            .look_when("latency rises: the pool is too small, or connections are held too long")
            .otel("db.client.connection.wait_time"),
            |it, out| {
                out.durations(&["open"], &it.waiting_times);
                out.durations(&["new"], &it.connecting_times);
            },
        ),
        Row::new(
            Description::histogram(
                "cenote_pool_use_seconds",
                "How long connections were held by their callers.",
            )
            .unit(Seconds)
            .look_when("you size the pool: uses a second times seconds a use are the connections needed")
            .otel("db.client.connection.use_time"),
            |it, out| out.durations(&[], &it.use_times),
        ),
        Row::new(
            Description::histogram("cenote_pool_connect_seconds", "How long successful connects took.")
                .unit(Seconds)
                .otel("db.client.connection.create_time"),
            |it, out| out.durations(&[], &it.connect_times),
        ),
        Row::new(
            Description::counter("cenote_pool_connect_failures_total", "Connects that failed.")
                .look_when("it grows at all"),
            |it, out| out.value(it.connect_failures),
        ),
        Row::new(
            Description::gauge(
                "cenote_pool_breaker_open",
                "1 while callers are refused because connects have failed for some time.",
            ),
            |it, out| out.value(it.breaker_open),
        ),
        Row::new(
            Description::counter(
                "cenote_pool_closed_total",
                "Connections that were closed or left the pool, by reason.",
            )
            .labels(&["reason"])
            .look_when("`overflow` grows steadily: raise the maximum; `broken`: look at the network and the server"),
            |it, out| {
                for reason in Retired::ALL {
                    out.labelled(&[reason.name()], it.retired(reason));
                }
            },
        ),
        Row::new(
            Description::counter(
                "cenote_pool_cleaned_total",
                "Connections that were released dirty, and cleaned.",
            )
            .look_when("it grows steadily: some code leaves transactions open or changes its session"),
            |it, out| out.value(it.cleaned),
        ),
        Row::new(
            Description::gauge(
                "cenote_pool_leaked",
                "Connections that one caller has held for longer than a leak should last.",
            )
            .look_when("it is not 0; the log names the source line of the holder"),
            |it, out| out.value(it.leaked),
        ),
        Row::new(
            Description::counter(
                "cenote_pool_nested_waits_total",
                "Tasks seen waiting for a connection while they held one.",
            )
            .look_when("it grows at all: such tasks can block each other"),
            |it, out| out.value(it.nested_waits),
        ),
        Row::new(
            Description::gauge(
                "cenote_pool_paused",
                "1 while the pool is paused and hands out nothing.",
            ),
            |it, out| out.value(it.paused),
        ),
    ];
}

impl Retired {
    /// The value of the label.
    const fn name(self) -> &'static str {
        match self {
            Self::Broken => "broken",
            Self::Discarded => "discarded",
            Self::Lifetime => "lifetime",
            Self::Idle => "idle",
            Self::Overflow => "overflow",
            Self::Closed => "closed",
            Self::Replaced => "replaced",
            Self::Detached => "detached",
        }
    }
}
