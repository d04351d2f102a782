//! Spans of requests, and their export to a collector by OTLP over HTTP.
//!
//! Invariant: whatever the collector does, a request never waits for it, and the memory of spans is bounded: spans that find
//! no room are dropped and counted.
//!
//! | To find | Look in |
//! |---|---|
//! | what is kept of a span | `span` |
//! | how spans of `tracing` become these | `collect` |
//! | the bound | `queue` |
//! | their bytes, and what the collector answers | `protobuf`, `response` |
//! | the collector's address, and what is told of this service | `config` |
//! | the thread that sends, and how it tries again | `export` |
//!
//! The messages are written by hand: they have fifteen fields, and the crates for them would bring an SDK with its own
//! threads, queues and batches.

mod collect;
mod config;
mod export;
mod protobuf;
mod queue;
mod response;
mod span;

use std::sync::Arc;

use tracing::Subscriber;
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    registry::LookupSpan,
};

pub use self::config::OtlpUrl;
pub(crate) use self::config::{OtlpConfig, OtlpHeaders};
use self::{collect::Collector, queue::Queue};
pub(crate) use self::{export::Exporter, queue::SpanStats};

/// The spans of this process. Clones share them. They are kept only while an exporter runs.
#[derive(Clone, Default)]
pub(crate) struct Spans(Arc<Queue>);

impl Spans {
    /// Returns the part of the log that sees spans. It sees nothing else.
    pub(crate) fn layer<S>(&self) -> impl Layer<S> + Send + Sync + use<S>
    where
        S: Subscriber + for<'span> LookupSpan<'span>,
    {
        let only_spans = Targets::new().with_target(cenote_trace::SPANS, LevelFilter::INFO);
        Collector::new(self.0.clone()).with_filter(only_spans)
    }

    /// Starts to export the spans.
    ///
    /// # Errors
    ///
    /// The system's: too many threads or open files.
    pub(crate) fn export(&self, config: OtlpConfig) -> std::io::Result<Exporter> {
        Exporter::start(self.0.clone(), config)
    }

    /// Returns what was counted.
    pub(crate) fn stats(&self) -> SpanStats {
        self.0.stats()
    }
}

/// Reads a collector's response, and returns how many spans it rejects. For the fuzz target.
#[cfg(fuzzing)]
#[must_use]
pub fn rejected_spans(response: &[u8]) -> u64 {
    response::rejected(response).spans
}
