//! The metrics of connections and requests. Invariant: routes are counted by template, never by path.

use cenote_metrics::{Description, Metrics, Row, Unit::Seconds};

use crate::http::TrafficStats;

impl Metrics for TrafficStats {
    const TABLE: &'static [Row<Self>] = &[
        Row::new(
            Description::counter(
                "cenote_http_requests_total",
                "Requests, by route, method and class of status; the code is `none` if the client left \
                 before the response.",
            )
            .labels(&["route", "method", "code"])
            .look_when("anything is wrong: its rate is the load, the share of `5xx` the errors"),
            |it, out| {
                for route in &it.routes {
                    for (method, code, count) in &route.requests {
                        out.labelled(&[route.route, method, code], *count);
                    }
                }
            },
        ),
        Row::new(
            Description::histogram(
                "cenote_http_request_duration_seconds",
                "Time from the last byte of a request's head to its response, by route.",
            )
            .unit(Seconds)
            .labels(&["route"])
            .look_when(
                "clients find the service slow; `cenote_pool_wait_seconds` and \
                 `cenote_statement_duration_seconds` say where the time goes",
            )
            .otel("http.server.request.duration"),
            |it, out| {
                // A route without requests would only take room.
                for route in it.routes.iter().filter(|route| route.durations.count() > 0) {
                    out.durations_with_exemplars(&[route.route], &route.durations, &route.exemplars);
                }
            },
        ),
        Row::new(
            Description::gauge("cenote_http_requests_in_flight", "Requests that are being answered.")
                .otel("http.server.active_requests"),
            |it, out| out.value(it.in_flight),
        ),
        Row::new(
            Description::gauge("cenote_http_connections", "Open connections of clients."),
            |it, out| out.value(it.connections),
        ),
        Row::new(
            Description::counter(
                "cenote_http_connections_accepted_total",
                "Connections of clients that were served.",
            )
            .look_when("it grows as fast as requests: clients do not keep their connections"),
            |it, out| out.value(it.accepted),
        ),
        Row::new(
            Description::counter(
                "cenote_http_connections_refused_total",
                "Connections that were answered 503: beyond `HTTP_MAX_CONNECTIONS`, or without a file \
                 descriptor left.",
            )
            .labels(&["reason"])
            .look_when("it grows at all"),
            |it, out| {
                out.labelled(&["limit"], it.refused_at_limit);
                out.labelled(&["descriptors"], it.refused_without_descriptor);
            },
        ),
        Row::new(
            Description::counter(
                "cenote_http_request_timeouts_total",
                "Requests whose client was too slow: to finish what precedes HTTP, to begin, to send head or body, to \
                 take the response.",
            )
            .labels(&["stage"])
            .look_when("it grows fast: slow networks, or clients that hold connections on purpose"),
            |it, out| {
                for (stage, count) in &it.timeouts {
                    out.labelled(&[stage], *count);
                }
            },
        ),
    ];
}
