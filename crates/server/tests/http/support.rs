//! A server on a free port, and a client that sends exactly the bytes that it is given.
//!
//! Invariant: each wait has a bound.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use cenote::http::{
    Core, Drained, HttpConfig, RouteNames, Service, TcpListeners, Traffic, bind, serve, with_fallbacks,
};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A limit under test.
pub(crate) const SHORT: Duration = Duration::from_millis(150);
/// A bound against hanging: far more than anything takes, even on a slow machine that does other work.
pub(crate) const LONG: Duration = Duration::from_secs(60);

pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    leave: oneshot::Sender<()>,
    stop: oneshot::Sender<()>,
    done: JoinHandle<Drained>,
}

pub(crate) fn start(router: Router, config: HttpConfig) -> Server {
    start_on(vec![Handle::current()], router, config)
}

/// Serves on these runtimes.
pub(crate) fn start_on(runtimes: Vec<Handle>, router: Router, config: HttpConfig) -> Server {
    serve_with(|listeners| listeners, runtimes, with_fallbacks(router), config)
}

/// Serves over listeners that are set up by `prepare`.
pub(crate) fn serve_with<S: Service + Clone>(
    prepare: impl FnOnce(TcpListeners) -> TcpListeners,
    runtimes: Vec<Handle>,
    service: S,
    config: HttpConfig,
) -> Server {
    let listener = bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = listener.local_addr().unwrap();
    let listeners = prepare(listener.into());
    let (leave, left) = oneshot::channel();
    let (stop, stopped) = oneshot::channel();
    let core = |runtime| Core {
        runtime,
        service: service.clone(),
    };
    let cores: Vec<_> = runtimes.into_iter().map(core).collect();
    let traffic = Arc::new(Traffic::new(cores.len(), RouteNames::ANY));
    // A test may drop the sender; that must not stop the server.
    let told = async |sender: oneshot::Receiver<()>| {
        if sender.await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let done = tokio::spawn(async move { serve(listeners, cores, config, traffic, told(left), told(stopped)).await });
    Server {
        address,
        leave,
        stop,
        done,
    }
}

impl Server {
    /// Makes each answer close its connection. The sender that is returned asks for the shutdown.
    pub(crate) fn leave(self) -> (oneshot::Sender<()>, JoinHandle<Drained>) {
        self.leave.send(()).unwrap();
        (self.stop, self.done)
    }

    /// Asks for the shutdown and returns the task that drains the connections.
    pub(crate) fn stop(self) -> JoinHandle<Drained> {
        self.stop.send(()).unwrap();
        self.done
    }

    pub(crate) async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// One request on a connection of its own.
    pub(crate) async fn ask(&self, request: impl AsRef<[u8]>) -> Answer {
        let mut client = self.client().await;
        client.send(request).await;
        client.answer().await
    }

    /// One `POST` of `body`, declared as JSON.
    pub(crate) async fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        let body = body.as_ref();
        let mut request = format!(
            "POST {path} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.ask(request).await
    }
}

pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n")
}

pub(crate) struct Client<S = TcpStream> {
    pub(crate) stream: S,
    buffer: Vec<u8>,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    /// The body, checked to be a complete problem that agrees with the status.
    pub(crate) fn problem(&self) -> Value {
        assert_eq!(self.headers["content-type"], "application/problem+json");
        let problem: Value = serde_json::from_slice(&self.body).unwrap();
        assert!(problem["type"].as_str().unwrap().starts_with("urn:cenote:problem:"));
        assert!(problem["title"].is_string() && problem["detail"].is_string());
        assert_eq!(problem["status"], self.status);
        problem
    }

    /// The names in `errors`.
    pub(crate) fn fields(&self) -> Vec<String> {
        let problem = self.problem();
        let errors = problem["errors"].as_array().unwrap();
        errors
            .iter()
            .map(|error| error["field"].as_str().unwrap().to_owned())
            .collect()
    }
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap())
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    pub(crate) fn over(stream: S) -> Self {
        Self {
            stream,
            buffer: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
        // TLS may keep bytes that the socket did not take at once.
        self.stream.flush().await.unwrap();
    }

    /// The next response, framed by its `content-length`.
    pub(crate) async fn answer(&mut self) -> Answer {
        let head = loop {
            if let Some(at) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") {
                let rest = self.buffer.split_off(at + 4);
                break String::from_utf8(std::mem::replace(&mut self.buffer, rest)).unwrap();
            }
            assert!(self.more().await, "closed before an answer");
        };
        let mut lines = head.lines();
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers: HashMap<_, _> = lines
            .filter_map(|line| line.split_once(": "))
            .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
            .collect();
        let length = headers.get("content-length").map_or(0, |n| n.parse::<usize>().unwrap());
        while self.buffer.len() < length {
            assert!(self.more().await, "closed within an answer");
        }
        let rest = self.buffer.split_off(length);
        let body = std::mem::replace(&mut self.buffer, rest);
        Answer { status, headers, body }
    }

    /// Waits until the server has ended the connection, and returns what it sent before.
    pub(crate) async fn ended(mut self) -> Vec<u8> {
        while self.more().await {}
        self.buffer
    }

    async fn more(&mut self) -> bool {
        let mut chunk = [0; 4096];
        match timeout(LONG, self.stream.read(&mut chunk))
            .await
            .expect("the server does nothing")
        {
            Ok(n) => {
                self.buffer.extend_from_slice(&chunk[..n]);
                n > 0
            }
            Err(_) => false,
        }
    }
}
