//! A collector of traces that listens, hangs, refuses and goes away. It decodes with the crate of the protocol's authors, not
//! with the service's code.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::{KeyValue, any_value::Value},
    trace::v1::{Span, status::StatusCode as SpanStatus},
};
use prost::Message;
use tokio::{
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use super::eventually;

/// What the collector does with a request.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Behaviour {
    Take,
    /// Takes all but two spans of each request.
    Reject,
    Hang,
}

pub(crate) struct Collector {
    address: SocketAddr,
    state: Arc<State>,
    /// `None` while it is away.
    listening: Option<JoinHandle<()>>,
}

struct State {
    behaviour: Mutex<Behaviour>,
    /// The names of the service and the spans.
    taken: Mutex<Vec<(String, Span)>>,
    /// The values of `authorization`.
    authorized: Mutex<Vec<String>>,
}

impl Collector {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let state = State {
            behaviour: Mutex::new(behaviour),
            taken: Mutex::default(),
            authorized: Mutex::default(),
        };
        let mut collector = Self {
            address: listener.local_addr().unwrap(),
            state: Arc::new(state),
            listening: None,
        };
        collector.listen(listener);
        collector
    }

    fn listen(&mut self, listener: TcpListener) {
        let state = self.state.clone();
        self.listening = Some(tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(stream, state.clone()));
            }
        }));
    }

    /// Refuses connections from now on.
    pub(crate) async fn leave(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
            let _aborted = listening.await;
        }
    }

    /// Accepts connections again, at the same address.
    pub(crate) async fn come_back(&mut self) {
        let listener = eventually("the port is free", async || TcpListener::bind(self.address).await.ok()).await;
        self.listen(listener);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn authorized(&self) -> Vec<String> {
        self.state.authorized.lock().unwrap().clone()
    }

    pub(crate) fn services(&self) -> Vec<String> {
        self.state
            .taken
            .lock()
            .unwrap()
            .iter()
            .map(|(service, _)| service.clone())
            .collect()
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        self.state
            .taken
            .lock()
            .unwrap()
            .iter()
            .map(|(_, span)| span.clone())
            .collect()
    }

    /// Waits for a span for which the condition holds.
    pub(crate) async fn span(&self, what: &str, holds: impl Fn(&Span) -> bool) -> Span {
        eventually(what, async || self.spans().into_iter().find(|span| holds(span))).await
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    let service = service_fn(|request| answer(request, state.clone()));
    let _ended = http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(request: Request<Incoming>, state: Arc<State>) -> Result<Response<Full<Bytes>>, Infallible> {
    let behaviour = *state.behaviour.lock().unwrap();
    if behaviour == Behaviour::Hang {
        std::future::pending::<()>().await;
    }
    let (head, body) = request.into_parts();
    let mut response = Response::new(Full::default());
    if head.uri.path() != "/v1/traces" || head.headers["content-type"] != "application/x-protobuf" {
        *response.status_mut() = StatusCode::BAD_REQUEST;
        return Ok(response);
    }
    if let Some(value) = head.headers.get("authorization") {
        state
            .authorized
            .lock()
            .unwrap()
            .push(value.to_str().unwrap().to_owned());
    }
    let body = body.collect().await.unwrap().to_bytes();
    let request = ExportTraceServiceRequest::decode(body).unwrap();
    let mut taken = state.taken.lock().unwrap();
    for of_resource in request.resource_spans {
        let service = text(&of_resource.resource.unwrap().attributes, "service.name").unwrap();
        for span in of_resource.scope_spans.into_iter().flat_map(|it| it.spans) {
            taken.push((service.clone(), span));
        }
    }
    drop(taken);
    if behaviour == Behaviour::Reject {
        let partial = ExportTracePartialSuccess {
            rejected_spans: 2,
            error_message: "the quota is used up".to_owned(),
        };
        let partial_success = Some(partial);
        *response.body_mut() = ExportTraceServiceResponse { partial_success }.encode_to_vec().into();
    }
    Ok(response)
}

/// The text or number of an attribute.
pub(crate) fn text(attributes: &[KeyValue], name: &str) -> Option<String> {
    let attribute = attributes.iter().find(|attribute| attribute.key == name)?;
    match attribute.value.clone()?.value? {
        Value::StringValue(text) => Some(text),
        Value::IntValue(number) => Some(number.to_string()),
        other => panic!("{name} is {other:?}"),
    }
}

/// Whether a span says that it failed.
pub(crate) fn has_failed(span: &Span) -> bool {
    span.status
        .as_ref()
        .is_some_and(|status| status.code() == SpanStatus::Error)
}
