//! The metrics of a cache. Invariant: every figure of [`Stats`] that an operator may want to follow is here, and no key is.

use cenote_metrics::{
    Description, Metrics, Row,
    Unit::{Bytes, Seconds},
};

use crate::{State, Stats};

impl Metrics for Stats {
    const TABLE: &'static [Row<Self>] = &[
        Row::new(
            Description::counter(
                "cenote_cache_requests_total",
                "Keys read, by what answered (this process, the Redis that is shared, or the database) and with what: a \
                 cached value, `absent` if there is none, or `miss` if the database had to be asked for it.",
            )
            .labels(&["source", "outcome"])
            .look_when("the database is busy: how much is answered without it?"),
            |it, out| {
                for (source, outcome, all, absent) in [
                    ("near", "hit", it.near_hits, it.absent.near),
                    ("shared", "hit", it.redis_hits, it.absent.redis),
                    ("database", "miss", it.misses, it.absent.database),
                ] {
                    out.labelled(&[source, outcome], all.saturating_sub(absent));
                    out.labelled(&[source, "absent"], absent);
                }
            },
        ),
        Row::new(
            Description::counter(
                "cenote_cache_joined_total",
                "Reads, among all, that shared the look-up of another read.",
            ),
            |it, out| out.value(it.joined),
        ),
        Row::new(
            Description::counter(
                "cenote_cache_bypassed_total",
                "Keys read from the database because no cache was trusted or reached.",
            )
            .look_when("it grows: the cache is not used"),
            |it, out| out.value(it.bypassed),
        ),
        Row::new(
            Description::counter(
                "cenote_cache_stale_total",
                "Reads answered with an outdated value because the database failed.",
            ),
            |it, out| out.value(it.stale),
        ),
        Row::new(
            Description::counter("cenote_cache_fills_total", "Values stored after a look-up."),
            |it, out| out.value(it.fills),
        ),
        Row::new(
            Description::counter(
                "cenote_cache_fills_rejected_total",
                "Values not stored, because the key was written or dropped during the look-up.",
            ),
            |it, out| out.value(it.fills_rejected),
        ),
        Row::new(
            Description::counter(
                "cenote_cache_seals_total",
                "Look-ups that could not be stored, and dropped the key because its cached value may be \
                 older.",
            ),
            |it, out| out.value(it.seals),
        ),
        Row::new(
            Description::counter("cenote_cache_fences_total", "Keys fenced for a write."),
            |it, out| out.value(it.fences),
        ),
        Row::new(
            Description::counter(
                "cenote_cache_unreleased_total",
                "Committed writes that Redis could not be told of in time; their keys are read from the \
                 database for a while.",
            )
            .look_when("it grows: Redis is slow or away"),
            |it, out| out.value(it.pending),
        ),
        Row::new(
            Description::gauge("cenote_cache_entries", "Values kept in this process."),
            |it, out| out.value(it.keys),
        ),
        Row::new(
            Description::gauge("cenote_cache_bytes", "Bytes of the values kept in this process.").unit(Bytes),
            |it, out| out.value(it.bytes),
        ),
        Row::new(
            Description::counter(
                "cenote_cache_evictions_total",
                "Values that were dropped from this process because others needed the room.",
            )
            .look_when("it grows as fast as `cenote_cache_fills_total`: `CACHE_NEAR_BYTES` is too small for what is read"),
            |it, out| out.value(it.evictions),
        ),
        Row::new(
            Description::gauge(
                "cenote_cache_trusted",
                "1 while the cache is used, 0 while every read goes to the database.",
            )
            .look_when("it is 0 for more than some seconds; `/health` says why"),
            |it, out| out.value(it.state == State::Ok),
        ),
        Row::new(
            Description::gauge(
                "cenote_cache_epoch",
                "The number of the epoch in use. Absent in modes without epochs, and while it is not known.",
            )
            .look_when("it grows often: Redis is distrusted again and again"),
            |it, out| it.epoch.iter().for_each(|epoch| out.value(*epoch)),
        ),
        Row::new(
            Description::gauge(
                "cenote_redis_up",
                "1 while there is a session with Redis: with all servers of a cluster, or with none. Absent in modes \
                 without Redis.",
            ),
            |it, out| {
                if it.uses_redis {
                    out.value(it.redis_problem.is_none());
                }
            },
        ),
        Row::new(
            Description::histogram(
                "cenote_redis_command_duration_seconds",
                "How long Redis took to answer what was sent together, for one or many keys. Absent in \
                 modes without Redis.",
            )
            .unit(Seconds)
            .look_when("reads that are not near are slow"),
            |it, out| {
                if it.uses_redis {
                    out.durations(&[], &it.redis_times);
                }
            },
        ),
        Row::new(
            Description::counter(
                "cenote_redis_errors_total",
                "Sessions with Redis that broke or could not be opened.",
            )
            .look_when("it grows"),
            |it, out| out.value(it.redis_errors),
        ),
    ];
}
