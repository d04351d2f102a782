//! The spans that wait for their export.
//!
//! Invariant: at most [`CAPACITY`] wait, and none while nothing exports them. The others are dropped and counted.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;

use super::span::Span;

/// The most spans that wait: about 1 MB.
pub(super) const CAPACITY: usize = 2_048;
/// The most spans in one request to the collector.
pub(super) const BATCH: usize = 512;
/// How long the first span of a batch waits for others.
const GATHER: Duration = Duration::from_secs(1);

/// What was counted since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SpanStats {
    /// Spans that a collector has taken.
    pub(crate) exported: u64,
    /// Spans that found no room, or that no collector has taken.
    pub(crate) dropped: u64,
}

/// The queue and its counters. The counters are independent, so `Relaxed` is enough.
#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// Notified when spans wait, and when enough for a batch do.
    changed: Notify,
    exported: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Span>,
    /// Something takes spans out.
    is_open: bool,
}

impl Queue {
    fn state(&self) -> MutexGuard<'_, State> {
        // No statement below can panic between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on spans wait. Call it when something takes them out.
    pub(super) fn open(&self) {
        self.state().is_open = true;
    }

    /// Takes out what waits, and no more may wait.
    pub(super) fn close(&self) -> Vec<Span> {
        let mut state = self.state();
        state.is_open = false;
        state.waiting.drain(..).collect()
    }

    /// Adds a span, or drops it.
    pub(super) fn push(&self, span: Span) {
        let mut state = self.state();
        if !state.is_open || state.waiting.len() >= CAPACITY {
            let is_open = state.is_open;
            drop(state);
            if is_open {
                self.count_dropped(1);
            }
            return;
        }
        state.waiting.push_back(span);
        let is_news = matches!(state.waiting.len(), 1 | BATCH);
        drop(state);
        if is_news {
            self.changed.notify_one();
        }
    }

    /// Waits until there are spans, and then a little for others; takes up to [`BATCH`].
    ///
    /// # Cancel safety
    ///
    /// A dropped future takes nothing.
    pub(super) async fn next(&self) -> Vec<Span> {
        while self.len() == 0 {
            self.changed.notified().await;
        }
        let enough = async {
            while self.len() < BATCH {
                self.changed.notified().await;
            }
        };
        tokio::select! {
            () = enough => {}
            () = sleep(GATHER) => {}
        }
        let mut state = self.state();
        let count = state.waiting.len().min(BATCH);
        state.waiting.drain(..count).collect()
    }

    fn len(&self) -> usize {
        self.state().waiting.len()
    }

    /// Counts spans that a collector has taken.
    pub(super) fn count_exported(&self, spans: usize) {
        self.exported.fetch_add(spans as u64, Relaxed);
    }

    /// Counts spans that were dropped.
    pub(super) fn count_dropped(&self, spans: usize) {
        self.dropped.fetch_add(spans as u64, Relaxed);
    }

    pub(super) fn stats(&self) -> SpanStats {
        SpanStats {
            exported: self.exported.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
        }
    }
}

#[cfg(test)]
mod tests {
    use cenote_trace::TraceId;
    use tokio::time::Instant;

    use super::*;

    fn span() -> Span {
        Span::begin("test", TraceId::random(), None)
    }

    #[tokio::test(start_paused = true)]
    async fn spans_beyond_the_bound_are_dropped_and_counted() {
        let queue = Queue::default();
        queue.open();
        for _ in 0..CAPACITY + 7 {
            queue.push(span());
        }
        assert_eq!(queue.stats().dropped, 7);
        let mut taken = 0;
        while queue.len() > 0 {
            let batch = queue.next().await;
            assert_eq!(batch.len(), BATCH);
            taken += batch.len();
        }
        assert_eq!(taken, CAPACITY);
    }

    #[tokio::test(start_paused = true)]
    async fn a_span_waits_a_second_for_others_but_a_full_batch_does_not() {
        let queue = Queue::default();
        queue.open();
        let begun = Instant::now();
        queue.push(span());
        assert_eq!(queue.next().await.len(), 1);
        assert_eq!(begun.elapsed(), GATHER);
        let begun = Instant::now();
        for _ in 0..BATCH {
            queue.push(span());
        }
        assert_eq!(queue.next().await.len(), BATCH);
        assert_eq!(begun.elapsed(), Duration::ZERO);
    }

    #[test]
    fn nothing_waits_where_nothing_exports() {
        let queue = Queue::default();
        queue.push(span());
        assert_eq!((queue.len(), queue.stats()), (0, SpanStats::default()));
        queue.open();
        queue.push(span());
        assert_eq!(queue.close().len(), 1);
        queue.push(span());
        assert_eq!(queue.len(), 0);
    }
}
