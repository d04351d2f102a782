//! The spans of a queue and its batches.
//!
//! Invariant: a batch has a span only if one of its callers is traced, and then each of these is linked with it.

use cenote_trace::SPANS;
use tracing::Span;

/// A caller that is traced.
pub(super) struct TracedCaller {
    /// Its own span.
    span: Span,
    /// Its time in the queue.
    queue: Span,
}

impl TracedCaller {
    /// Begins the time of the current caller in a queue. `None` if it is not traced.
    pub(super) fn enqueued() -> Option<Box<Self>> {
        let span = Span::current();
        if span.is_none() {
            return None;
        }
        let queue = tracing::info_span!(target: SPANS, parent: &span, "queue");
        Some(Box::new(Self { span, queue }))
    }
}

/// Begins the span of a batch of this many requests, of which these are traced; it ends their time in the queue.
///
/// A batch belongs to several traces. Its span is in that of the first caller, and linked with the queue span of each.
pub(super) fn begin_batch(traced: impl IntoIterator<Item = Box<TracedCaller>>, requests: usize) -> Span {
    let mut traced = traced.into_iter().peekable();
    let Some(first) = traced.peek() else {
        return Span::none();
    };
    let batch = tracing::info_span!(target: SPANS, parent: &first.span, "batch", requests);
    for caller in traced {
        batch.follows_from(&caller.queue);
        caller.queue.follows_from(&batch);
    }
    batch
}
