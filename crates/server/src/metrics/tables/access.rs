//! The metrics of authentication and limits. Invariant: no key, token, name or address is in them.

use cenote_metrics::{Description, Metrics, Row, Unit::Seconds};

use super::super::snapshot::AccessFigures;

impl Metrics for AccessFigures {
    const TABLE: &'static [Row<Self>] = &[
        Row::new(
            Description::counter(
                "cenote_auth_requests_total",
                "Requests whose credentials were looked at, by what they showed and how that ended.",
            )
            .labels(&["method", "outcome"])
            .look_when("clients are answered 401 or 403: the outcome is the reason, which they are not told"),
            |it, out| {
                for (method, outcome, count) in &it.outcomes {
                    out.labelled(&[method.name(), outcome.name()], *count);
                }
            },
        ),
        Row::new(
            Description::gauge(
                "cenote_api_keys_known",
                "API keys in memory. Absent if none are accepted.",
            ),
            |it, out| it.known_keys.into_iter().for_each(|keys| out.value(keys)),
        ),
        Row::new(
            Description::counter(
                "cenote_jwt_cache_requests_total",
                "Look-ups of tokens whose signature was verified lately. Absent if no tokens are accepted.",
            )
            .labels(&["result"])
            .look_when("the processor is busy: a miss costs the verification of a signature"),
            |it, out| {
                if let Some(tokens) = &it.tokens {
                    out.labelled(&["hit"], tokens.cache.hits);
                    out.labelled(&["miss"], tokens.cache.misses);
                }
            },
        ),
        Row::new(
            Description::counter(
                "cenote_jwt_cache_evictions_total",
                "Accepted tokens that were forgotten because others needed the room.",
            )
            .look_when("it grows steadily: more tokens are in use than are remembered"),
            |it, out| it.tokens.iter().for_each(|tokens| out.value(tokens.cache.evictions)),
        ),
        Row::new(
            Description::gauge("cenote_jwt_cache_entries", "Accepted tokens that are remembered."),
            |it, out| it.tokens.iter().for_each(|tokens| out.value(tokens.cache.cached)),
        ),
        Row::new(
            Description::gauge(
                "cenote_jwks_age_seconds",
                "Time since the keys of tokens were last read. Absent until they were.",
            )
            .unit(Seconds)
            .look_when("it is above an hour: the issuer cannot be reached, and new keys are not known"),
            |it, out| {
                let age = it.tokens.as_ref().and_then(|tokens| tokens.keys.age);
                age.into_iter().for_each(|age| out.value(age));
            },
        ),
        Row::new(
            Description::gauge("cenote_jwks_keys", "Keys that tokens are verified with."),
            |it, out| it.tokens.iter().for_each(|tokens| out.value(tokens.keys.keys)),
        ),
        Row::new(
            Description::counter(
                "cenote_limit_refused_total",
                "Requests refused by a rate limit, by its class.",
            )
            .labels(&["class"])
            .look_when("clients are answered 429; `auth-failures` grows: somebody guesses credentials"),
            |it, out| {
                for (class, count) in &it.limits.refused {
                    out.labelled(&[class], *count);
                }
            },
        ),
        Row::new(
            Description::counter(
                "cenote_limit_admitted_total",
                "Requests admitted by a rate limit, by its class. Of failed logins: those that were counted.",
            )
            .labels(&["class"]),
            |it, out| {
                for (class, count) in &it.limits.admitted {
                    out.labelled(&[class], *count);
                }
            },
        ),
        Row::new(
            Description::counter(
                "cenote_limit_untracked_total",
                "Requests of callers for which the table of limits had no room; they share a limit.",
            )
            .look_when("it grows: there are more callers than `RATE_LIMIT_KEYS`, or an attack"),
            |it, out| out.value(it.limits.untracked),
        ),
        Row::new(
            Description::gauge("cenote_limit_buckets", "Entries in use in the table of limits."),
            |it, out| out.value(it.limits.buckets_in_use),
        ),
        Row::new(
            Description::gauge(
                "cenote_limit_shared",
                "1 while the instances hear of each other's requests, 0 while each admits only its part. \
                 Absent if they do not share limits, as the others of sharing.",
            )
            .look_when("it is 0: the limits of callers are lower than they should be; `/health` says why"),
            |it, out| {
                it.limits
                    .shared
                    .iter()
                    .for_each(|shared| out.value(shared.problem.is_none()))
            },
        ),
        Row::new(
            Description::counter(
                "cenote_limit_reports_total",
                "Reports of admitted requests that Redis answered.",
            ),
            |it, out| it.limits.shared.iter().for_each(|shared| out.value(shared.reports)),
        ),
        Row::new(
            Description::counter(
                "cenote_limit_reports_lost_total",
                "Reports of admitted requests that Redis may not know of. They are made once more.",
            ),
            |it, out| it.limits.shared.iter().for_each(|shared| out.value(shared.lost)),
        ),
    ];
}
