//! Traces as a collector gets them, and a collector that is away.

use futures_util::future::join_all;
use opentelemetry_proto::tonic::trace::v1::Span;
use serde_json::json;

use crate::support::{
    AT_ONCE, Service,
    collector::{Behaviour, Collector, has_failed, text},
    eventually,
};

const ONE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const TWO: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "00f067aa0ba902b7";

fn traceparent(trace: &str, flags: &str) -> String {
    format!("00-{trace}-{CALLER}-{flags}")
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn is_of(span: &Span, trace: &str) -> bool {
    hexadecimal(&span.trace_id) == trace
}

/// Whether `span` links to `other`.
fn links_to(span: &Span, other: &Span) -> bool {
    let mut links = span.links.iter();
    links.any(|link| (&link.trace_id, &link.span_id) == (&other.trace_id, &other.span_id))
}

async fn dropped(service: &Service) -> f64 {
    service.scrape().await.sum("cenote_otlp_dropped_total", &[])
}

#[tokio::test]
async fn a_request_that_its_caller_traces_is_traced_to_its_statement_and_no_other_is() {
    let collector = Collector::start(Behaviour::Take).await;
    let url = collector.url();
    let settings = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", &*url),
        ("OTEL_SERVICE_NAME", "shop"),
        ("OTLP_HEADERS", "authorization=Bearer%20s3cret"),
        ("TRACE_RATIO", "0"),
        ("CACHE_MODE", "off"),
    ];
    let service = Service::start(&settings).await;
    for flags in ["00", "01"] {
        let trace = if flags == "00" { TWO } else { ONE };
        let (parent, id) = (traceparent(trace, flags), format!("id-{flags}"));
        let headers = [("traceparent", &*parent), ("x-request-id", &*id)];
        service
            .ask("GET", "/read/key", &headers, "")
            .await
            .problem(404, "not-found");
    }
    let request = collector
        .span("the request", |span| span.name == "GET /read/{key}")
        .await;
    let spans = collector.spans();
    assert!(spans.iter().all(|span| is_of(span, ONE)), "{spans:?}");
    let [queue, batch, statement] = ["queue", "batch", "key.read"].map(|name| {
        let named: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
        assert_eq!(named.len(), 1, "{name}: {spans:?}");
        named[0]
    });
    assert_eq!(hexadecimal(&request.parent_span_id), CALLER);
    assert_eq!(queue.parent_span_id, request.span_id);
    assert_eq!(batch.parent_span_id, request.span_id);
    assert_eq!(statement.parent_span_id, batch.span_id);
    assert!(links_to(batch, queue) && links_to(queue, batch));
    for (name, value) in [
        ("http.request.method", "GET"),
        ("http.route", "/read/{key}"),
        ("http.response.status_code", "404"),
        ("cenote.request_id", "id-01"),
    ] {
        assert_eq!(text(&request.attributes, name).as_deref(), Some(value), "{name}");
    }
    for (name, value) in [("db.system.name", "postgresql"), ("db.query.summary", "key.read")] {
        assert_eq!(text(&statement.attributes, name).as_deref(), Some(value), "{name}");
    }
    for (inner, outer) in [(queue, &request), (batch, &request), (statement, batch)] {
        assert!(inner.start_time_unix_nano >= outer.start_time_unix_nano, "{spans:?}");
        assert!(
            inner.end_time_unix_nano <= request.end_time_unix_nano + 1_000_000_000,
            "{spans:?}"
        );
    }
    assert!(collector.services().iter().all(|name| name == "shop"));
    assert!(collector.authorized().iter().all(|value| value == "Bearer s3cret"));
    assert!(!service.log().contains("s3cret"));
}

/// The two requests come while a third one holds the only connection.
#[tokio::test]
async fn a_batch_is_linked_with_each_of_the_traced_requests_that_it_serves() {
    let collector = Collector::start(Behaviour::Take).await;
    let url = collector.url();
    let settings = [
        ("OTLP_ENDPOINT", &*url),
        ("TRACE_RATIO", "0"),
        ("DB_POOL_MIN", "1"),
        ("DB_POOL_MAX", "1"),
        ("HTTP_CORES", "1"),
    ];
    let service = Service::start(&settings).await;
    let session = service.database.session().await;
    session.slow_writes_down(0.5).await;
    let write = async |key: &str, trace: &str, flags: &str| {
        let body = json!({"key": key, "value": "value"}).to_string();
        let parent = traceparent(trace, flags);
        let headers = [("traceparent", &*parent), ("content-type", "application/json")];
        service.ask("POST", "/write", &headers, &body).await.json(200);
    };
    let later = async |key: &str, trace: &str| {
        eventually("the first write holds the connection", async || {
            let stats = service.get("/pool-stats").await.json(200);
            (stats["checked_out"] == 1).then_some(())
        })
        .await;
        write(key, trace, "01").await;
    };
    tokio::join!(write("first", ONE, "00"), later("second", ONE), later("third", TWO));
    let batch = collector.span("the batch", |span| span.name == "batch").await;
    let queue_of = |trace: &'static str| collector.span(trace, move |span| span.name == "queue" && is_of(span, trace));
    let (one, two) = (queue_of(ONE).await, queue_of(TWO).await);
    assert_eq!(text(&batch.attributes, "requests").as_deref(), Some("2"));
    for queue in [&one, &two] {
        assert!(
            links_to(&batch, queue) && links_to(queue, &batch),
            "{batch:?} {queue:?}"
        );
    }
    let statement = collector.span("the statement", |span| span.name == "key.change").await;
    assert_eq!(statement.parent_span_id, batch.span_id);
}

#[tokio::test]
async fn a_failure_marks_the_spans_of_its_request_and_its_statement() {
    let collector = Collector::start(Behaviour::Take).await;
    let url = collector.url();
    let settings = [
        ("OTLP_ENDPOINT", &*url),
        ("TRACE_RATIO", "1"),
        ("CACHE_MODE", "off"),
        ("HTTP_CORES", "1"),
    ];
    let service = Service::start(&settings).await;
    // The statement is prepared before it fails.
    service.get("/read/key").await.problem(404, "not-found");
    let session = service.database.session().await;
    session.run("ALTER TABLE kv RENAME TO kv_away").await;
    service.get("/read/key").await.problem(503, "schema-not-ready");
    let failed = async |name: &str| collector.span(name, |span| span.name == name && has_failed(span)).await;
    let (request, statement) = (failed("GET /read/{key}").await, failed("key.read").await);
    assert!(request.parent_span_id.is_empty());
    assert_eq!(statement.trace_id, request.trace_id);
    assert_eq!(
        text(&statement.attributes, "db.response.status_code").as_deref(),
        Some("42P01")
    );
    let trace = hexadecimal(&request.trace_id);
    let line = service
        .logged_with("request failed", |line| line["trace_id"] == *trace)
        .await;
    assert_eq!(line["route"], "/read/{key}");
}

#[tokio::test]
async fn while_the_collector_is_away_spans_are_dropped_and_counted_and_afterwards_they_arrive_again() {
    let mut collector = Collector::start(Behaviour::Take).await;
    let url = collector.url();
    let service = Service::start(&[("OTLP_ENDPOINT", &*url), ("TRACE_RATIO", "1")]).await;
    collector.leave().await;
    assert_eq!(dropped(&service).await, 0.0);
    // More than wait: 2,048, and the 512 that are being sent.
    let flood = async |_| {
        let mut connection = service.connect().await;
        for _ in 0..400 {
            connection.ask("GET", "/health/live", &[], "").await.unwrap().json(200);
        }
    };
    join_all((0..10).map(flood)).await;
    assert!(dropped(&service).await >= 1_000.0);
    service.logged("traces cannot be exported").await;
    assert_eq!(service.times_logged("traces cannot be exported"), 1);

    collector.come_back().await;
    service.logged("traces are exported again").await;
    collector
        .span("a new span", |span| span.name == "GET /health/live")
        .await;
}

#[tokio::test]
async fn spans_that_the_collector_rejects_are_counted_as_dropped() {
    let collector = Collector::start(Behaviour::Reject).await;
    let url = collector.url();
    let settings = [("OTLP_ENDPOINT", &*url), ("TRACE_RATIO", "0"), ("SHUTDOWN_DELAY", "0")];
    let service = Service::start(&settings).await;
    let parent = traceparent(ONE, "01");
    for _ in 0..5 {
        let headers = [("traceparent", &*parent)];
        service.ask("GET", "/health/live", &headers, "").await.json(200);
    }
    let line = service.logged("the collector takes only a part of the traces").await;
    assert_eq!(
        (&line["spans"], &line["why"]),
        (&json!(2), &json!("the quota is used up"))
    );
    let scrape = eventually("all spans are counted", async || {
        let scrape = service.scrape().await;
        let [exported, dropped] =
            ["cenote_otlp_exported_total", "cenote_otlp_dropped_total"].map(|it| scrape.sum(it, &[]));
        (exported + dropped == 5.0).then_some(scrape)
    })
    .await;
    assert!(scrape.sum("cenote_otlp_dropped_total", &[]) >= 2.0);
}

#[tokio::test]
async fn a_collector_that_hangs_delays_neither_a_request_nor_the_end() {
    let collector = Collector::start(Behaviour::Hang).await;
    let url = collector.url();
    let service = Service::start(&[("OTLP_ENDPOINT", &*url), ("TRACE_RATIO", "1"), ("SHUTDOWN_DELAY", "0")]).await;
    for _ in 0..100 {
        service.get("/health/live").await.json(200);
    }
    let ended = service.stop(AT_ONCE).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[tokio::test]
async fn the_last_spans_arrive_before_the_end() {
    let collector = Collector::start(Behaviour::Take).await;
    let url = collector.url();
    let service = Service::start(&[("OTLP_ENDPOINT", &*url), ("TRACE_RATIO", "1"), ("SHUTDOWN_DELAY", "0")]).await;
    service.get("/read/last").await;
    service.stop(AT_ONCE).await;
    collector
        .span("the last request", |span| span.name == "GET /read/{key}")
        .await;
}
