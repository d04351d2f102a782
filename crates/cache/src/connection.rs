//! Connections to a server. Invariant: nothing here reconnects: a connection leads to one run of one server until it
//! ends, and it ends with the last handle to it.

use std::{io, sync::Arc, time::Duration};

use futures_util::future::select_ok;
use redis::{
    AsyncConnectionConfig, Cmd, Pipeline, ProtocolVersion, RedisConnectionInfo, RedisFuture, Value,
    aio::{ConnectionLike, MultiplexedConnection},
};
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
    clock,
    problem::{Cause, RedisProblem},
    redis_url::{Endpoint, RedisUrl},
};

/// A connection that its clones share.
#[derive(Clone)]
pub(crate) struct Connection {
    commands: MultiplexedConnection,
    _driver: Arc<Driver>,
}

/// The task that reads and writes. It would otherwise go on while a server owes it an answer.
struct Driver(AbortHandle);

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        self.commands.req_packed_command(command)
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        commands: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        self.commands.req_packed_commands(commands, offset, count)
    }

    fn get_db(&self) -> i64 {
        self.commands.get_db()
    }
}

/// Connects and logs in, within this time. The connection's driver runs on the current runtime.
pub(crate) async fn connect(
    url: &RedisUrl,
    tls: Option<&Arc<ClientConfig>>,
    protocol: ProtocolVersion,
    config: AsyncConnectionConfig,
    limit: Duration,
) -> Result<Connection, RedisProblem> {
    let deadline = clock::after(Instant::now(), limit);
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
    let socket = connected.map_err(late(Cause::TimedOut, "it took too long to connect"))??;
    let mut stream: Box<dyn Stream> = match (&url.endpoint, tls) {
        (Endpoint::Tcp { host, .. }, Some(tls)) => {
            let encrypted = timeout_at(deadline, encrypted(host, tls, socket)).await;
            encrypted.map_err(late(Cause::NoTls, "it did not begin TLS in time"))??
        }
        _ => socket,
    };
    let logged_in = async {
        log_in(&mut stream, url).await?;
        // Who it is has been said.
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
        Err(RedisProblem::new(Cause::TimedOut, happened))
    })
}

/// What commands go over.
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
        .map_err(|_| RedisProblem::new(Cause::Tls, "no certificate can be for a host of this name"))?;
    let stream = TlsConnector::from(tls.clone()).connect(name, socket).await;
    match stream {
        Ok(stream) => Ok(Box::new(stream)),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            let happened = "it closed the connection instead of beginning TLS";
            Err(RedisProblem::new(Cause::NoTls, happened))
        }
        Err(error) => Err(error.into()),
    }
}

/// Shows the server who comes and asks for the database, and that it answers. Done here and not by the client library,
/// which does not pass on what the server says to it, or what says that it is no Redis.
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
    // A server that refuses everybody says so and closes, perhaps before this is sent.
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

/// Answers of one line each.
#[derive(Default)]
struct Answers {
    bytes: Vec<u8>,
}

impl Answers {
    /// No server's line is longer.
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
