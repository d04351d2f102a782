//! One connection's life: open it, serve it with hyper, end it.
//!
//! Invariant: the connection is polled only inside its [`ConnectionGuard`], so every state it can be in has a timeout.
//!
//! hyper's own `header_read_timeout` stays off, because it creates and drops a timer for each request.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use pin_project_lite::pin_project;
use tokio::net::TcpStream;

use super::body::TrackedBody;
use super::config::HttpConfig;
use super::connections::{ConnectionPermit, ServerPhase};
use super::opening::{Opened, Opening, Version};
use super::peer::Peer;
use super::request_layer::{RequestLayer, respond};
use super::service::Service;
use super::socket::Socket;
use super::stream::ObservedStream;
use super::timeouts::{Activity, ConnectionGuard};

/// Bytes that hyper may buffer in each direction of an HTTP/1 connection, unless a head may be longer.
const MAX_BUFFERED: usize = 64 * 1024;
/// The smallest bound of a head: hyper refuses a smaller buffer.
const SMALLEST_HEAD: u32 = 8 * 1024;
/// Bytes queued for sending on each HTTP/2 stream.
const MAX_QUEUED: usize = 64 * 1024;

/// Bounds the ping interval: hyper adds it to an `Instant`, which would overflow.
const LONGEST_PING: Duration = Duration::from_secs(365 * 24 * 3600);

/// hyper's settings for a connection, made once for all connections.
pub(super) struct Protocol {
    http1: http1::Builder,
    /// For connections whose first bytes are, or may become, the preface of HTTP/2.
    either: auto::Builder<TokioExecutor>,
}

impl Protocol {
    pub(super) fn new(config: &HttpConfig) -> Self {
        let head = config.max_header_bytes.max(SMALLEST_HEAD);
        let buffered = MAX_BUFFERED.max(head as usize);
        let mut http1 = http1::Builder::new();
        http1
            .half_close(true)
            .max_buf_size(buffered)
            .max_header_size(head as usize)
            .header_read_timeout(None);
        let ping_interval = config.ping_interval.min(LONGEST_PING);
        let mut either = auto::Builder::new(TokioExecutor::new());
        either
            .http1()
            .half_close(true)
            .max_buf_size(head as usize)
            .header_read_timeout(None);
        either
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(u32::from(config.max_streams))
            .max_header_list_size(head)
            .max_send_buf_size(MAX_QUEUED)
            .keep_alive_interval(ping_interval)
            .keep_alive_timeout(ping_interval);
        Self { http1, either }
    }
}

/// Serves one connection to its end, on the runtime that polls this future. Connection errors are not reported: only
/// the peer can cause them.
pub(super) async fn run<S: Service>(
    stream: std::net::TcpStream,
    peer: Peer,
    permit: ConnectionPermit,
    opening: Arc<Opening>,
    protocol: Arc<Protocol>,
    layer: Arc<RequestLayer<S>>,
) {
    // Fails only on a runtime that is shutting down.
    let Ok(stream) = TcpStream::from_std(stream) else {
        return;
    };
    // A failure costs latency, not correctness.
    let _ = stream.set_nodelay(true);
    let activity = Arc::new(Activity::new());
    let config = layer.config.load_full();
    let traffic = Arc::clone(&layer.traffic);
    let mut guard = pin!(ConnectionGuard::new(
        permit.connections(),
        &activity,
        &config,
        &traffic.timeouts
    ));

    let mut opening = pin!(opening.perform(Socket::new(stream, Arc::clone(&activity)), peer));
    let opened = poll_fn(|cx| {
        guard.as_mut().poll(cx, |cx, phase| match phase {
            ServerPhase::Serving | ServerPhase::Leaving => opening.as_mut().poll(cx),
            // No request has begun.
            _ => Poll::Ready(None),
        })
    });
    let Some(Opened {
        transport,
        version,
        peer,
    }) = opened.await
    else {
        return;
    };
    let io = TokioIo::new(ObservedStream::new(transport, Arc::clone(&activity)));
    let requests = Arc::clone(&activity);
    let service = service_fn(move |request| respond(Arc::clone(&layer), &requests, &peer, request));
    let mut conversation = pin!(match version {
        Version::Http1 => Conversation::Http1 {
            connection: protocol.http1.serve_connection(io, service),
        },
        Version::Unclear => Conversation::Either {
            connection: Box::pin(protocol.either.serve_connection(io, service)),
        },
    });
    let mut told = ServerPhase::Serving;
    let talk = poll_fn(|cx| {
        guard.as_mut().poll(cx, |cx, phase| {
            if phase != told {
                told = phase;
                conversation.as_mut().graceful_shutdown(phase);
            }
            conversation.as_mut().poll(cx).map(|()| None::<Infallible>)
        })
    });
    let _ended = talk.await;
}

type Io = TokioIo<ObservedStream>;

pin_project! {
    /// hyper's state of the connection.
    #[project = ConversationProjection]
    enum Conversation<'a, S: HttpService<Incoming>> {
        Http1 {
            #[pin]
            connection: http1::Connection<Io, S>,
        },
        /// Boxed, because it is large and rare.
        Either {
            connection: Pin<Box<auto::Connection<'a, Io, S, TokioExecutor>>>,
        },
    }
}

impl<S> Conversation<'_, S>
where
    S: hyper::service::Service<
            Request<Incoming>,
            Response = Response<TrackedBody>,
            Error = Infallible,
            Future: Send + 'static,
        >,
{
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.project() {
            ConversationProjection::Http1 { connection } => connection.poll(cx).map(drop),
            ConversationProjection::Either { connection } => connection.as_mut().poll(cx).map(drop),
        }
    }

    /// Lets requests in flight finish and accepts no new ones.
    ///
    /// HTTP/1 does nothing in [`ServerPhase::Leaving`]: there each response carries `connection: close`, and hyper
    /// would close an idle connection at once.
    fn graceful_shutdown(self: Pin<&mut Self>, phase: ServerPhase) {
        match self.project() {
            ConversationProjection::Http1 { .. } if phase == ServerPhase::Leaving => {}
            ConversationProjection::Http1 { connection } => connection.graceful_shutdown(),
            ConversationProjection::Either { connection } => connection.as_mut().graceful_shutdown(),
        }
    }
}
