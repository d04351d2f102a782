//! A server without a database: the upper limit of what HTTP and the load generator can do on a machine.
//!
//! Invariant: every request gets the same answer, as large as that to a read of a key. One runtime per core, each with
//! its own listener, is the fastest way to use hyper.

use std::{convert::Infallible, io, net::SocketAddr, thread};

use bytes::Bytes;
use http::{HeaderValue, Response, header::CONTENT_TYPE};
use http_body_util::Full;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::{
    net::TcpListener,
    runtime::Builder,
    task::{LocalSet, spawn_local},
};

use crate::{
    Outcome,
    answers::{Read, Value},
};

pub(crate) fn serve(address: SocketAddr) -> Outcome<()> {
    let value = Value {
        value: "0123456789abcdef".repeat(4),
        version: 1,
    };
    let body = serde_json::to_vec(&Read::new("key-00000".to_owned(), value, false))?;
    let body = Bytes::from(body);
    let cores = thread::available_parallelism()?.get();
    let listeners: Vec<_> = (0..cores).map(|_| listen(address)).collect::<Result<_, _>>()?;
    let threads = listeners.into_iter().map(|listener| {
        let body = body.clone();
        thread::spawn(|| accept(listener, body))
    });
    for thread in threads.collect::<Vec<_>>() {
        thread.join().map_err(|_| "a thread panicked")??;
    }
    Ok(())
}

fn listen(address: SocketAddr) -> io::Result<std::net::TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_port(true)?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(socket.into())
}

fn accept(listener: std::net::TcpListener, body: Bytes) -> io::Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let listener = TcpListener::from_std(listener)?;
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let body = body.clone();
            let service = service_fn(move |_| {
                let mut response = Response::new(Full::new(body.clone()));
                let json = HeaderValue::from_static("application/json");
                response.headers_mut().insert(CONTENT_TYPE, json);
                async { Ok::<_, Infallible>(response) }
            });
            // It does not matter how a connection ends.
            spawn_local(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
        }
    })
}
