//! Writes spans as an `ExportTraceServiceRequest` of OTLP 1 (opentelemetry-proto, `trace.proto` and `common.proto`).
//!
//! Invariant: the bytes are a whole message of the protocol, whatever the spans hold. Fields with their default are left out,
//! as in every proto3 message.

use std::time::{SystemTime, UNIX_EPOCH};

use super::span::{Span, SpanContext, Value};

/// `SPAN_FLAGS`: the trace flag "sampled".
const SAMPLED: u32 = 1;
/// `STATUS_CODE_ERROR`.
const ERROR: u64 = 2;

/// Encodes spans of this service, whose attributes are `resource`.
pub(super) fn request(resource: &[(&'static str, String)], spans: &[Span]) -> Vec<u8> {
    let mut request = Message::default();
    request.message(1, |resource_spans| {
        resource_spans.message(1, |it| {
            for (name, value) in resource {
                it.message(1, |it| attribute(it, name, &Value::Text(value.clone())));
            }
        });
        resource_spans.message(2, |scope_spans| {
            scope_spans.message(1, |scope| {
                scope.text(1, "cenote");
                scope.text(2, env!("CARGO_PKG_VERSION"));
            });
            for span in spans {
                scope_spans.message(2, |it| write_span(it, span));
            }
        });
    });
    request.0
}

fn write_span(message: &mut Message, span: &Span) {
    write_context(message, &span.context);
    if let Some(parent) = span.parent {
        message.bytes(4, &parent.to_bytes());
    }
    message.text(5, &span.name);
    message.number(6, span.kind as u64);
    message.fixed64(7, unix_ns(span.began));
    message.fixed64(8, unix_ns(span.ended.unwrap_or(span.began)));
    for (name, value) in &span.attributes {
        message.message(9, |it| attribute(it, name, value));
    }
    for link in &span.links {
        message.message(13, |it| {
            write_context(it, link);
            it.fixed32(6, SAMPLED);
        });
    }
    message.number(14, span.dropped_links.into());
    if span.has_failed {
        message.message(15, |status| status.number(3, ERROR));
    }
    message.fixed32(16, SAMPLED);
}

/// The first two fields of a span and of a link.
fn write_context(message: &mut Message, context: &SpanContext) {
    message.bytes(1, &context.trace_id.to_bytes());
    message.bytes(2, &context.span_id.to_bytes());
}

/// A `KeyValue`.
fn attribute(message: &mut Message, name: &str, value: &Value) {
    message.text(1, name);
    // The kind of the value is told by its field, so it is written also if it is the default.
    message.message(2, |it| match value {
        Value::Text(text) => it.field(1, LENGTH, |it| it.delimited(text.as_bytes())),
        Value::Boolean(value) => it.field(2, VARINT, |it| it.varint(u64::from(*value))),
        Value::Integer(value) => it.field(3, VARINT, |it| it.varint(value.cast_unsigned())),
        Value::Float(value) => it.field(4, FIXED64, |it| it.0.extend(value.to_le_bytes())),
    });
}

fn unix_ns(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const LENGTH: u64 = 2;
const FIXED32: u64 = 5;

/// The bytes of a message of Protocol Buffers.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn field(&mut self, number: u64, wire_type: u64, write: impl FnOnce(&mut Self)) {
        self.varint(number << 3 | wire_type);
        write(self);
    }

    fn varint(&mut self, mut value: u64) {
        while value > 0x7f {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    fn delimited(&mut self, bytes: &[u8]) {
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn message(&mut self, number: u64, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.field(number, LENGTH, |it| it.delimited(&inner.0));
    }

    fn bytes(&mut self, number: u64, bytes: &[u8]) {
        self.field(number, LENGTH, |it| it.delimited(bytes));
    }

    fn text(&mut self, number: u64, text: &str) {
        if !text.is_empty() {
            self.bytes(number, text.as_bytes());
        }
    }

    fn number(&mut self, number: u64, value: u64) {
        if value > 0 {
            self.field(number, VARINT, |it| it.varint(value));
        }
    }

    fn fixed64(&mut self, number: u64, value: u64) {
        self.field(number, FIXED64, |it| it.0.extend(value.to_le_bytes()));
    }

    fn fixed32(&mut self, number: u64, value: u32) {
        self.field(number, FIXED32, |it| it.0.extend(value.to_le_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use cenote_trace::{SpanId, TraceId};
    use opentelemetry_proto::tonic::{
        collector::trace::v1::ExportTraceServiceRequest,
        common::v1::{KeyValue, any_value},
        trace::v1::status::StatusCode,
    };
    use prost::Message as _;

    use super::*;
    use crate::spans::span::Kind;

    fn decoded(attribute: &KeyValue) -> (&str, any_value::Value) {
        let value = attribute.value.clone().unwrap().value.unwrap();
        (&attribute.key, value)
    }

    #[test]
    fn an_independent_decoder_reads_what_was_written() {
        let parent = SpanId::random();
        let mut span = Span::begin("key.read", TraceId::random(), Some(parent));
        let other = Span::begin("other", TraceId::random(), None);
        (span.kind, span.has_failed) = (Kind::Client, true);
        for (name, value) in [
            ("text", Value::Text("grün".to_owned())),
            ("empty", Value::Text(String::new())),
            ("negative", Value::Integer(-7)),
            ("large", Value::Integer(i64::MAX)),
            ("zero", Value::Integer(0)),
            ("half", Value::Float(0.5)),
            ("no", Value::Boolean(false)),
        ] {
            span.set(name, value);
        }
        span.link(other.context);
        span.dropped_links = 300;
        span.end();
        let resource = [("service.name", "shop".to_owned())];
        let bytes = request(&resource, &[span.clone(), other.clone()]);
        let request = ExportTraceServiceRequest::decode(&*bytes).unwrap();

        let [of_resource] = &request.resource_spans[..] else {
            panic!("{request:?}");
        };
        let named = decoded(&of_resource.resource.as_ref().unwrap().attributes[0]);
        assert_eq!(named, ("service.name", any_value::Value::StringValue("shop".into())));
        assert_eq!(of_resource.scope_spans[0].scope.as_ref().unwrap().name, "cenote");
        let [first, second] = &of_resource.scope_spans[0].spans[..] else {
            panic!("{request:?}");
        };
        assert_eq!(first.trace_id, span.context.trace_id.to_bytes());
        assert_eq!(first.span_id, span.context.span_id.to_bytes());
        assert_eq!(first.parent_span_id, parent.to_bytes());
        assert_eq!((&*first.name, first.kind, first.flags), ("key.read", 3, 1));
        assert_eq!(first.start_time_unix_nano, unix_ns(span.began));
        assert_eq!(first.end_time_unix_nano, unix_ns(span.ended.unwrap()));
        assert_eq!(first.status.as_ref().unwrap().code(), StatusCode::Error);
        let attributes: Vec<_> = first.attributes.iter().map(decoded).collect();
        assert_eq!(
            attributes,
            [
                ("text", any_value::Value::StringValue("grün".into())),
                ("empty", any_value::Value::StringValue(String::new())),
                ("negative", any_value::Value::IntValue(-7)),
                ("large", any_value::Value::IntValue(i64::MAX)),
                ("zero", any_value::Value::IntValue(0)),
                ("half", any_value::Value::DoubleValue(0.5)),
                ("no", any_value::Value::BoolValue(false)),
            ]
        );
        assert_eq!(first.links[0].trace_id, other.context.trace_id.to_bytes());
        assert_eq!(first.links[0].span_id, other.context.span_id.to_bytes());
        assert_eq!((first.links[0].flags, first.dropped_links_count), (1, 300));
        assert_eq!((second.parent_span_id.len(), &second.status), (0, &None));
    }
}
