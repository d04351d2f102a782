//! Sends spans to the collector, on its own thread.
//!
//! Invariant: every span that is taken from the queue is counted once, as exported or as dropped. Each request to the
//! collector has a timeout, and so has the end.

use std::io;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use axum::http::{
    Method, Request, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use bytes::Bytes;
use http_body_util::Full;
use tokio::runtime::Builder;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::config::OtlpConfig;
use super::protobuf;
use super::queue::{BATCH, Queue};
use super::response::{Rejected, rejected};
use super::span::Span;
use crate::http_client::{Client, HttpUrl};

/// How long a collector may take for a request.
const REQUEST: Duration = Duration::from_secs(5);
/// How often the same spans are sent, if the collector is away or asks for it.
const TRIES: u32 = 3;
/// The pause after a failure. It doubles with each, up to the longest.
const PAUSE: Duration = Duration::from_millis(500);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// How long the end waits for the last spans.
const FLUSH: Duration = Duration::from_secs(2);
/// The most bytes of a response. It tells which spans were rejected, in some hundred bytes.
const LONGEST_RESPONSE: usize = 64 * 1024;

/// A running export. Without a [`stop`](Self::stop) it ends with the process.
pub(crate) struct Exporter {
    stop: oneshot::Sender<()>,
    stopped: oneshot::Receiver<()>,
}

impl Exporter {
    /// Starts the thread.
    pub(super) fn start(queue: Arc<Queue>, config: OtlpConfig) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (stop, stopping) = oneshot::channel();
        let (has_stopped, stopped) = oneshot::channel();
        queue.open();
        let sender = Sender::new(queue.clone(), config);
        let run = move || {
            runtime.block_on(sender.run(stopping));
            // Does not wait for the look-up of a name.
            runtime.shutdown_background();
            // Nobody waits after the timeout.
            let _gone = has_stopped.send(());
        };
        match thread::Builder::new().name("otlp".to_owned()).spawn(run) {
            Ok(_) => Ok(Self { stop, stopped }),
            Err(error) => {
                queue.close();
                Err(error)
            }
        }
    }

    /// Sends what waits, for two seconds at most. Later spans are not kept.
    pub(crate) async fn stop(self) {
        // Fails only if the thread has panicked.
        let _gone = self.stop.send(());
        // The thread bounds itself; this is for one that gets no processor time.
        let _late = timeout(FLUSH * 2, self.stopped).await;
    }
}

/// How a collector took a request.
enum Outcome {
    /// But for those that were rejected.
    Taken(Rejected),
    /// It may take them later.
    Later(String),
    /// It never will.
    Never(String),
}

struct Sender {
    queue: Arc<Queue>,
    client: Client,
    config: OtlpConfig,
    url: HttpUrl,
    resource: Vec<(&'static str, String)>,
    /// The last request failed.
    is_failing: bool,
    /// The last request was taken in part.
    is_rejecting: bool,
    pause: Duration,
}

impl Sender {
    fn new(queue: Arc<Queue>, config: OtlpConfig) -> Self {
        let resource = vec![
            ("service.name", config.service.clone()),
            ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
            ("service.instance.id", format!("{:032x}", fastrand::u128(..))),
        ];
        Self {
            queue,
            client: Client::default(),
            url: config.url.of_traces(),
            config,
            resource,
            is_failing: false,
            is_rejecting: false,
            pause: PAUSE,
        }
    }

    /// Sends what comes until it is told to stop, then what is left.
    async fn run(mut self, mut stopping: oneshot::Receiver<()>) {
        let mut taken = Vec::new();
        loop {
            let stopped = tokio::select! {
                biased;
                _ = &mut stopping => true,
                () = self.send_next(&mut taken) => false,
            };
            if stopped {
                break;
            }
        }
        taken.extend(self.queue.close());
        let deadline = Instant::now() + FLUSH;
        for batch in taken.chunks(BATCH) {
            match timeout_at(deadline, self.post(batch)).await {
                Ok(Outcome::Taken(rejected)) => self.count(batch.len(), &rejected),
                _ => self.queue.count_dropped(batch.len()),
            }
        }
    }

    /// Takes spans and sends them. `taken` has those that are not counted yet, also if the future is dropped.
    async fn send_next(&mut self, taken: &mut Vec<Span>) {
        if taken.is_empty() {
            *taken = self.queue.next().await;
        }
        for attempt in 1..=TRIES {
            let outcome = self.post(taken).await;
            self.report(&outcome);
            match outcome {
                Outcome::Taken(rejected) => {
                    self.pause = PAUSE;
                    self.count(taken.len(), &rejected);
                    taken.clear();
                    return;
                }
                Outcome::Never(_) => break,
                Outcome::Later(_) => {
                    // Instances that lost the same collector do not come back in step.
                    sleep(self.pause.mul_f64(0.75 + fastrand::f64() / 2.0)).await;
                    self.pause = (self.pause * 2).min(LONGEST_PAUSE);
                    if attempt == TRIES {
                        break;
                    }
                }
            }
        }
        self.queue.count_dropped(taken.len());
        taken.clear();
    }

    /// Counts spans that were taken, but for those that were rejected.
    fn count(&self, spans: usize, rejected: &Rejected) {
        let rejected = usize::try_from(rejected.spans).unwrap_or(spans).min(spans);
        self.queue.count_exported(spans - rejected);
        self.queue.count_dropped(rejected);
    }

    async fn post(&self, spans: &[Span]) -> Outcome {
        let body = Bytes::from(protobuf::request(&self.resource, spans));
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        request.headers_mut().clone_from(self.config.headers.expose());
        let protobuf = HeaderValue::from_static("application/x-protobuf");
        request.headers_mut().insert(CONTENT_TYPE, protobuf);
        let answered = timeout(REQUEST, self.client.send(&self.url, request, LONGEST_RESPONSE)).await;
        match answered {
            Err(_) => Outcome::Later(format!("it did not answer within {} s", REQUEST.as_secs())),
            Ok(Err(error)) => Outcome::Later(error.to_string()),
            Ok(Ok(answer)) if answer.status.is_success() => Outcome::Taken(rejected(&answer.body)),
            Ok(Ok(answer)) => {
                let refused = format!("it answered {}", answer.status);
                match may_pass(answer.status) {
                    true => Outcome::Later(refused),
                    false => Outcome::Never(refused),
                }
            }
        }
    }

    /// Logs when the export begins to fail or to be rejected, and when it works again.
    fn report(&mut self, outcome: &Outcome) {
        if let Outcome::Taken(Rejected { spans, why }) = outcome {
            let is_rejecting = *spans > 0 || !why.is_empty();
            if is_rejecting && !self.is_rejecting {
                tracing::warn!(
                    collector = %self.url, spans, why,
                    "the collector takes only a part of the traces, or complains; requests are not affected"
                );
            }
            self.is_rejecting = is_rejecting;
        }
        match outcome {
            Outcome::Taken(_) if self.is_failing => {
                tracing::info!(collector = %self.url, "traces are exported again");
            }
            Outcome::Later(error) | Outcome::Never(error) if !self.is_failing => {
                tracing::warn!(
                    collector = %self.url, error,
                    "traces cannot be exported; requests are not affected, and spans are dropped until it works again"
                );
            }
            _ => {}
        }
        self.is_failing = !matches!(outcome, Outcome::Taken(_));
    }
}

/// Whether the protocol says to try again after this status.
fn may_pass(status: StatusCode) -> bool {
    matches!(status.as_u16(), 429 | 502 | 503 | 504)
}
