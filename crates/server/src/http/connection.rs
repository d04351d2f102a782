//! One connection, spoken on by hyper. Invariant: it is only polled under its [`Guard`], so no state of it goes unbounded.
//!
//! hyper's own `header_read_timeout` stays off: it makes and drops a timer per request.

use std::convert::Infallible;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{HttpService, service_fn};
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use pin_project_lite::pin_project;
use tokio::io::ReadBuf;
use tokio::net::TcpStream;

use super::activity::Activity;
use super::body::ResponseBody;
use super::config::HttpConfig;
use super::edge::{Edge, answer};
use super::fleet::{Member, Phase};
use super::guard::Guard;
use super::service::Service;
use super::stream::Watched;

/// Bytes hyper may buffer per direction of an HTTP/1 connection; also the longest head.
const MOST_BUFFERED: usize = 64 * 1024;
/// Bytes of an HTTP/2 head, counted as the protocol does.
const MOST_HEADERS: u32 = 32 * 1024;
/// Bytes queued for sending per HTTP/2 stream.
const MOST_QUEUED: usize = 64 * 1024;

/// With what an HTTP/2 connection begins (RFC 9113, section 3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// hyper adds the interval to its clock, which does not go on for ever.
const LONGEST_PING: Duration = Duration::from_secs(365 * 24 * 3600);

/// How connections are spoken on.
pub(super) struct Protocol {
    http1: http1::Builder,
    /// For those whose first bytes are, or may become, the preface of HTTP/2.
    either: auto::Builder<TokioExecutor>,
}

impl Protocol {
    pub(super) fn new(config: &HttpConfig) -> Self {
        let mut http1 = http1::Builder::new();
        http1
            .half_close(true)
            .max_buf_size(MOST_BUFFERED)
            .max_header_size(MOST_BUFFERED)
            .header_read_timeout(None);
        let ping_interval = config.ping_interval.min(LONGEST_PING);
        let mut either = auto::Builder::new(TokioExecutor::new());
        either
            .http1()
            .half_close(true)
            .max_buf_size(MOST_BUFFERED)
            .header_read_timeout(None);
        either
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(u32::from(config.max_streams))
            .max_header_list_size(MOST_HEADERS)
            .max_send_buf_size(MOST_QUEUED)
            .keep_alive_interval(ping_interval)
            .keep_alive_timeout(ping_interval);
        Self { http1, either }
    }
}

/// Serves one connection to its end, on the runtime that polls this. Its errors are the peer's business and end here.
pub(super) async fn run<S: Service>(
    stream: std::net::TcpStream,
    member: Member,
    protocol: Arc<Protocol>,
    edge: Arc<Edge<S>>,
) {
    // Refused only by a runtime that is ending.
    let Ok(stream) = TcpStream::from_std(stream) else {
        return;
    };
    // Failing costs latency, not correctness.
    let _ = stream.set_nodelay(true);
    let activity = Arc::new(Activity::new());
    let config = Arc::clone(&edge.config);
    let mut guard = pin!(Guard::new(member.fleet(), &activity, &config));

    let first_bytes = poll_fn(|cx| {
        guard.as_mut().poll(cx, |cx, phase| match phase {
            Phase::Serving | Phase::Leaving => poll_first_bytes(&stream, cx),
            // It has not asked for anything yet.
            _ => Poll::Ready(None),
        })
    });
    let Some(version) = first_bytes.await else {
        return;
    };
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&activity)));
    let requests = Arc::clone(&activity);
    let service = service_fn(move |request| answer(Arc::clone(&edge), &requests, request));
    let mut conversation = pin!(match version {
        Version::Http1 => Conversation::Http1 {
            connection: protocol.http1.serve_connection(io, service),
        },
        Version::Unclear => Conversation::Either {
            connection: Box::pin(protocol.either.serve_connection(io, service)),
        },
    });
    let mut told = Phase::Serving;
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

/// What the first bytes of a connection say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Version {
    Http1,
    /// It may be HTTP/2.
    Unclear,
}

/// Looks at them and leaves them where they are. `None` if there will be none.
fn poll_first_bytes(stream: &TcpStream, cx: &mut Context<'_>) -> Poll<Option<Version>> {
    let mut bytes = [0; PREFACE.len()];
    let mut bytes = ReadBuf::new(&mut bytes);
    Poll::Ready(match ready!(stream.poll_peek(cx, &mut bytes)) {
        Ok(0) | Err(_) => None,
        Ok(_) if PREFACE.starts_with(bytes.filled()) => Some(Version::Unclear),
        Ok(_) => Some(Version::Http1),
    })
}

type Io = TokioIo<Watched>;

pin_project! {
    /// hyper at work.
    #[project = ConversationProjection]
    enum Conversation<'a, S: HttpService<Incoming>> {
        Http1 {
            #[pin]
            connection: http1::Connection<Io, S>,
        },
        /// In a box: it is large, and seldom.
        Either {
            connection: Pin<Box<auto::Connection<'a, Io, S, TokioExecutor>>>,
        },
    }
}

impl<S> Conversation<'_, S>
where
    S: hyper::service::Service<
            Request<Incoming>,
            Response = Response<ResponseBody>,
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

    /// Finishes what is in flight, takes nothing new. On HTTP/1 not while leaving: there the answers say so, and a
    /// connection without a request would be closed at once.
    fn graceful_shutdown(self: Pin<&mut Self>, phase: Phase) {
        match self.project() {
            ConversationProjection::Http1 { .. } if phase == Phase::Leaving => {}
            ConversationProjection::Http1 { connection } => connection.graceful_shutdown(),
            ConversationProjection::Either { connection } => connection.as_mut().graceful_shutdown(),
        }
    }
}
