//! A span: what happened from one moment to another, in one trace.
//!
//! Invariant: its memory is bounded, whatever is recorded in it.

use std::borrow::Cow;
use std::time::{Instant, SystemTime};

use cenote_trace::{SpanId, TraceId};

/// The most attributes of a span.
const MOST_ATTRIBUTES: usize = 16;
/// The most bytes of an attribute's text.
const LONGEST_TEXT: usize = 256;
/// The most links of a span. A batch with more requests links to the first ones.
const MOST_LINKS: usize = 32;

/// Names a span everywhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SpanContext {
    pub(super) trace_id: TraceId,
    pub(super) span_id: SpanId,
}

/// Which side of a call a span is, with the numbers of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Internal = 1,
    Server = 2,
    Client = 3,
}

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Text(String),
    Integer(i64),
    Float(f64),
    Boolean(bool),
}

/// A span that has not ended, or has.
#[derive(Debug, Clone)]
pub(super) struct Span {
    pub(super) name: Cow<'static, str>,
    pub(super) context: SpanContext,
    /// In the same trace.
    pub(super) parent: Option<SpanId>,
    pub(super) kind: Kind,
    pub(super) has_failed: bool,
    /// By the clock, for people.
    pub(super) began: SystemTime,
    /// The same moment, for the duration.
    started: Instant,
    /// `None` until it ends.
    pub(super) ended: Option<SystemTime>,
    pub(super) attributes: Vec<(&'static str, Value)>,
    pub(super) links: Vec<SpanContext>,
    pub(super) dropped_links: u32,
}

impl Span {
    /// A span that begins now.
    pub(super) fn begin(name: &'static str, trace_id: TraceId, parent: Option<SpanId>) -> Self {
        Self {
            name: name.into(),
            context: SpanContext {
                trace_id,
                span_id: SpanId::random(),
            },
            parent,
            kind: Kind::Internal,
            has_failed: false,
            began: SystemTime::now(),
            started: Instant::now(),
            ended: None,
            attributes: Vec::new(),
            links: Vec::new(),
            dropped_links: 0,
        }
    }

    /// Adds or replaces an attribute.
    pub(super) fn set(&mut self, name: &'static str, value: Value) {
        let value = match value {
            Value::Text(text) => Value::Text(cut(text)),
            value => value,
        };
        let known = self.attributes.iter_mut().find(|(known, _)| *known == name);
        if let Some((_, known)) = known {
            *known = value;
        } else if self.attributes.len() < MOST_ATTRIBUTES {
            self.attributes.push((name, value));
        }
    }

    /// Gives it another name.
    pub(super) fn rename(&mut self, name: String) {
        self.name = cut(name).into();
    }

    /// Links to another span.
    pub(super) fn link(&mut self, to: SpanContext) {
        match self.links.len() < MOST_LINKS {
            true => self.links.push(to),
            false => self.dropped_links = self.dropped_links.saturating_add(1),
        }
    }

    /// Ends it now. The clock may have been set meanwhile, so the duration is measured.
    pub(super) fn end(&mut self) {
        self.ended = self.began.checked_add(self.started.elapsed());
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(LONGEST_TEXT));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_recorded_a_span_stays_small() {
        let mut span = Span::begin("test", TraceId::random(), None);
        for _ in 0..1_000 {
            span.set("text", Value::Text("é".repeat(10_000)));
            span.set("number", Value::Integer(7));
            span.link(span.context);
        }
        let names: [&'static str; 20] = std::array::from_fn(|number| &*format!("name-{number}").leak());
        for name in names {
            span.set(name, Value::Boolean(true));
        }
        assert_eq!(span.attributes.len(), MOST_ATTRIBUTES);
        assert_eq!(span.attributes[0], ("text", Value::Text("é".repeat(LONGEST_TEXT / 2))));
        assert_eq!((span.links.len(), span.dropped_links), (MOST_LINKS, 968));
    }
}
