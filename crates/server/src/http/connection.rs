//! One connection: hyper's protocol, and the one timer that bounds it.
//!
//! Invariant: hyper is never polled without asking the [`Watchdog`] afterwards, so no state of the connection
//! goes unbounded.
//!
//! hyper's own `header_read_timeout` stays off. It begins with the first poll of HTTP/1, which comes only
//! after the peer's first byte (the protocol is detected before), and it makes and drops a timer per request.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Poll, ready};

use axum::Router;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::TcpStream;
use tokio::task::unconstrained;

use super::activity::{Activity, Limit};
use super::config::HttpConfig;
use super::edge::Edge;
use super::fleet::{Member, Phase};
use super::request_log::RequestLog;
use super::stream::Watched;
use super::watchdog::{Verdict, Watchdog};

/// Bytes hyper may buffer per direction of an HTTP/1 connection; also the longest head.
const MOST_BUFFERED: usize = 64 * 1024;
/// Bytes of an HTTP/2 head, counted as the protocol does.
const MOST_HEADERS: u32 = 32 * 1024;
/// Bytes queued for sending per HTTP/2 stream.
const MOST_QUEUED: usize = 64 * 1024;

/// What all connections on a core share.
pub(super) struct Protocol {
    builder: auto::Builder<TokioExecutor>,
    router: Router,
    config: Arc<HttpConfig>,
    log: Arc<RequestLog>,
}

impl Protocol {
    pub(super) fn new(router: Router, config: Arc<HttpConfig>, log: Arc<RequestLog>) -> Self {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .max_buf_size(MOST_BUFFERED)
            .header_read_timeout(None);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(u32::from(config.max_streams))
            .max_header_list_size(MOST_HEADERS)
            .max_send_buf_size(MOST_QUEUED)
            .keep_alive_interval(config.ping_interval)
            .keep_alive_timeout(config.ping_interval);
        Self {
            builder,
            router,
            log,
            config,
        }
    }
}

/// Serves one connection to its end, on the runtime that polls this. Its errors are the peer's business and end here.
pub(super) async fn run(stream: std::net::TcpStream, member: Member, protocol: Arc<Protocol>) {
    // Refused only by a runtime that is ending.
    let Ok(stream) = TcpStream::from_std(stream) else {
        return;
    };
    // Failing costs latency, not correctness.
    let _ = stream.set_nodelay(true);
    let limits = &*protocol.config;
    let activity = Arc::new(Activity::new());
    let edge = Edge::new(
        protocol.router.clone(),
        Arc::clone(&activity),
        Arc::clone(&protocol.config),
        Arc::clone(&protocol.log),
    );
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity)));
    let mut connection = pin!(protocol.builder.serve_connection(io, edge));

    let fleet = member.fleet();
    let mut phase = Phase::Serving;
    let (draining, cut) = fleet.signals();
    let (mut draining, mut cut) = (pin!(unconstrained(draining)), pin!(unconstrained(cut)));
    let mut registered = false;
    let mut watchdog = pin!(Watchdog::new(limits));

    poll_fn(|cx| {
        if !registered {
            // Once is enough: this future is the root of its task, so its waker stays the same.
            registered =
                draining.as_mut().poll(cx).is_pending() && cut.as_mut().poll(cx).is_pending();
        }
        let now = fleet.phase();
        if now == Phase::Cut {
            return Poll::Ready(());
        }
        if now != phase {
            phase = now;
            connection.as_mut().graceful_shutdown();
        }
        if connection.as_mut().poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let verdict = ready!(watchdog.as_mut().poll_verdict(cx, &activity, limits));
        tracing::debug!(?verdict, "a connection ran into a limit");
        match verdict {
            Verdict::Goodbye => {
                connection.as_mut().graceful_shutdown();
                // The goodbye is sent when the connection is polled again.
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            Verdict::Close(limit) => {
                if limit == Limit::Stall {
                    activity.ask_reset();
                }
                Poll::Ready(())
            }
        }
    })
    .await;
}
