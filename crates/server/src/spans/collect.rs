//! Makes spans of those of `tracing`.
//!
//! Invariant: a span is in the trace of the span that it was created in; the first of a request is in the request's trace.
//!
//! Three fields have a meaning, as in the crate `tracing-opentelemetry`: `otel.name`, `otel.kind` and `otel.status_code`.
//! `follows_from` makes a link.

use std::fmt::Debug;
use std::sync::Arc;

use cenote_trace::{TraceContext, with_current};
use tracing::{
    Subscriber,
    field::{Field, Visit},
    span::{Attributes, Id, Record},
};
use tracing_subscriber::{
    Layer,
    layer::Context,
    registry::{LookupSpan, SpanRef},
};

use super::queue::Queue;
use super::span::{Kind, Span, SpanContext, Value};

/// Keeps each span with the registry until it ends.
pub(super) struct Collector(Arc<Queue>);

impl Collector {
    pub(super) fn new(queue: Arc<Queue>) -> Self {
        Self(queue)
    }
}

impl<S> Layer<S> for Collector
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(registered) = context.span(id) else {
            return;
        };
        let name = attributes.metadata().name();
        let mut span = match registered.parent().and_then(|parent| context_of(&parent)) {
            Some(parent) => Span::begin(name, parent.trace_id, Some(parent.span_id)),
            None => {
                let trace = with_current(|request| request.trace).flatten();
                let TraceContext { trace_id, parent, .. } = trace.unwrap_or_else(|| TraceContext::begin(true));
                Span::begin(name, trace_id, parent)
            }
        };
        attributes.record(&mut Fields(&mut span));
        registered.extensions_mut().insert(span);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(registered) = context.span(id)
            && let Some(span) = registered.extensions_mut().get_mut::<Span>()
        {
            values.record(&mut Fields(span));
        }
    }

    fn on_follows_from(&self, id: &Id, follows: &Id, context: Context<'_, S>) {
        let linked = context.span(follows).and_then(|linked| context_of(&linked));
        if let (Some(registered), Some(linked)) = (context.span(id), linked)
            && let Some(span) = registered.extensions_mut().get_mut::<Span>()
        {
            span.link(linked);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context
            .span(&id)
            .and_then(|registered| registered.extensions_mut().remove::<Span>());
        if let Some(mut span) = span {
            span.end();
            self.0.push(span);
        }
    }
}

fn context_of<'a, S: LookupSpan<'a>>(span: &SpanRef<'a, S>) -> Option<SpanContext> {
    span.extensions().get::<Span>().map(|span| span.context)
}

/// Records fields as attributes.
struct Fields<'a>(&'a mut Span);

impl Visit for Fields<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        match (field.name(), value) {
            ("otel.name", value) => self.0.rename(value.to_owned()),
            ("otel.kind", "server") => self.0.kind = Kind::Server,
            ("otel.kind", "client") => self.0.kind = Kind::Client,
            ("otel.status_code", value) => self.0.has_failed = value.eq_ignore_ascii_case("error"),
            (name, value) => self.0.set(name, Value::Text(value.to_owned())),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.0.set(field.name(), Value::Integer(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0
            .set(field.name(), Value::Integer(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.0.set(field.name(), Value::Float(value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.set(field.name(), Value::Boolean(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}
