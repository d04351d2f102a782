//! Opens connections: socket, TLS, login. Invariant: a connection never reconnects; it leads to one run of one server until
//! it ends, and it ends with the last handle to it.

use std::{io, sync::Arc};

use futures_util::future::select_ok;
use redis::{AsyncConnectionConfig, ProtocolVersion, RedisConnectionInfo, aio::MultiplexedConnection};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixStream, lookup_host},
    task::AbortHandle,
    time::{Instant, timeout_at},
};
use tokio_rustls::{
    TlsConnector,
    rustls::{ClientConfig, pki_types::ServerName},
};

use crate::{
    redis::problem::{RedisProblem, RedisProblemKind},
    url::{Endpoint, RedisUrl},
};

/// A connection, which its clones share.
#[derive(Clone)]
pub(crate) struct Connection {
    /// What commands are sent with.
    pub(crate) commands: MultiplexedConnection,
    _driver: Arc<Driver>,
}

/// The task that reads and writes. Aborted with the last handle: it would otherwise go on for as long as a server owes it an
/// answer.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Connects and logs in, until this deadline. The connection's driver runs on the current runtime.
pub(crate) async fn connect(
    url: &RedisUrl,
    tls: Option<&Arc<ClientConfig>>,
    protocol: ProtocolVersion,
    config: AsyncConnectionConfig,
    deadline: Instant,
) -> Result<Connection, RedisProblem> {
    let opened = open(url, tls, protocol, config, deadline).await;
    opened.map_err(|problem| problem.at(url))
}

async fn open(
    url: &RedisUrl,
    tls: Option<&Arc<ClientConfig>>,
    protocol: ProtocolVersion,
    config: AsyncConnectionConfig,
    deadline: Instant,
) -> Result<Connection, RedisProblem> {
    let late = |cause, happened| move |_| RedisProblem::new(cause, happened);
    let connected = timeout_at(deadline, socket(&url.endpoint)).await;
    let socket = connected.map_err(late(RedisProblemKind::TimedOut, "it took too long to connect"))??;
    let mut stream: Box<dyn Stream> = match (&url.endpoint, tls) {
        (Endpoint::Tcp { host, .. }, Some(tls)) => {
            let encrypted = timeout_at(deadline, encrypted(host, tls, socket)).await;
            encrypted.map_err(late(RedisProblemKind::NoTls, "it did not begin TLS in time"))??
        }
        _ => socket,
    };
    let logged_in = async {
        log_in(&mut stream, url).await?;
        // `log_in` has sent AUTH and SELECT.
        let settings = RedisConnectionInfo::default()
            .set_protocol(protocol)
            .set_skip_set_lib_name();
        let made = MultiplexedConnection::new_with_config(&settings, stream, config).await;
        let (commands, driver) = made?;
        let _driver = Arc::new(Driver(tokio::spawn(driver).abort_handle()));
        Ok(Connection { commands, _driver })
    };
    let logged_in = timeout_at(deadline, logged_in).await;
    logged_in.unwrap_or_else(|_| {
        let happened = "it took too long to log in";
        Err(RedisProblem::new(RedisProblemKind::TimedOut, happened))
    })
}

/// A TCP or Unix socket, with or without TLS.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// The first of the host's addresses that answers.
async fn socket(endpoint: &Endpoint) -> io::Result<Box<dyn Stream>> {
    match endpoint {
        Endpoint::Unix(path) => Ok(Box::new(UnixStream::connect(path).await?)),
        Endpoint::Tcp { host, port, .. } => {
            let addresses = lookup_host((&**host, *port)).await?;
            let connects: Vec<_> = addresses.map(|address| Box::pin(TcpStream::connect(address))).collect();
            if connects.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the host has no address"));
            }
            let (stream, _others) = select_ok(connects).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream))
        }
    }
}

async fn encrypted(
    host: &str,
    tls: &Arc<ClientConfig>,
    socket: Box<dyn Stream>,
) -> Result<Box<dyn Stream>, RedisProblem> {
    let name = ServerName::try_from(host.to_owned())
        .map_err(|_| RedisProblem::new(RedisProblemKind::Tls, "no certificate can be for a host of this name"))?;
    let stream = TlsConnector::from(tls.clone()).connect(name, socket).await;
    match stream {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            let happened = "it closed the connection instead of beginning TLS";
            Err(RedisProblem::new(RedisProblemKind::NoTls, happened))
        }
        Err(error) => Err(error.into()),
    }
}

/// Sends AUTH, SELECT and PING as the URL asks for. Done here because the client library hides the server's error text, and
/// the first bytes of a server that is not a Redis.
async fn log_in(stream: &mut Box<dyn Stream>, url: &RedisUrl) -> Result<(), RedisProblem> {
    let mut words = Vec::new();
    let mut commands = 1;
    if let Some(password) = &url.password {
        let mut auth = redis::cmd("AUTH");
        auth.arg(url.user.as_deref()).arg(password.expose());
        words.extend(auth.get_packed_command());
        commands += 1;
    }
    if url.database != 0 {
        words.extend(redis::cmd("SELECT").arg(url.database).get_packed_command());
        commands += 1;
    }
    words.extend(redis::cmd("PING").get_packed_command());
    // Errors are ignored: a server that refuses all clients says why and closes, perhaps before this is sent.
    let _closed = stream.write_all(&words).await;
    let _closed = stream.flush().await;
    let mut answers = Answers::default();
    for _ in 0..commands {
        answers.next(stream).await?;
    }
    match answers.is_empty() {
        true => Ok(()),
        false => Err(RedisProblem::not_redis(&answers.bytes)),
    }
}

/// Reads answers of one line each.
#[derive(Default)]
struct Answers {
    bytes: Vec<u8>,
}

impl Answers {
    /// A Redis sends no longer line during login.
    const LONGEST: usize = 4096;

    fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    async fn next(&mut self, stream: &mut Box<dyn Stream>) -> Result<(), RedisProblem> {
        loop {
            if !matches!(self.bytes.first(), None | Some(b'+' | b'-')) || self.bytes.len() > Self::LONGEST {
                return Err(RedisProblem::not_redis(&self.bytes));
            }
            if let Some(end) = self.bytes.windows(2).position(|pair| pair == b"\r\n") {
                let line: Vec<_> = self.bytes.drain(..end + 2).collect();
                return match line[0] {
                    b'-' => Err(RedisProblem::said(&String::from_utf8_lossy(&line[1..end]))),
                    _ => Ok(()),
                };
            }
            let read = stream.read_buf(&mut self.bytes).await?;
            if read == 0 {
                return Err(match self.is_empty() {
                    true => io::Error::from(io::ErrorKind::UnexpectedEof).into(),
                    false => RedisProblem::not_redis(&self.bytes),
                });
            }
        }
    }
}
