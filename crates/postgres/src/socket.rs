//! From a configuration to a connected socket. Invariant: every host is tried in order, each within
//! its own limit, and the error names the last one tried.

use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpStream, UnixStream, lookup_host},
    time::timeout,
};
use tokio_postgres::{Config, config::Host};

use crate::ConnectionError;

const DEFAULT_PORT: u16 = 5432;
/// For one address, where the configuration sets no `connect_timeout`: short enough that the pool's own limit on the
/// whole connect leaves time for a second one.
const ADDRESS_TIMEOUT: Duration = Duration::from_secs(2);

/// Where a server was reached, so that a cancel request goes to the same one.
#[derive(Clone, Debug)]
pub(crate) enum Endpoint {
    Tcp(SocketAddr),
    Unix(PathBuf),
}

/// A connected socket.
pub(crate) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Connects to the first host that answers.
pub(crate) async fn connect(config: &Config) -> Result<(Socket, Endpoint), ConnectionError> {
    let mut last = ConnectionError::Failed("the configuration names no host".to_owned());
    for target in targets(config) {
        match reach(&target, config).await {
            Ok(reached) => return Ok(reached),
            Err(cause) => {
                last = ConnectionError::Unreachable {
                    host: target.to_string(),
                    cause,
                };
            }
        }
    }
    Err(last)
}

/// Connects to a server reached before.
pub(crate) async fn reconnect(endpoint: &Endpoint) -> io::Result<Socket> {
    match endpoint {
        Endpoint::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Socket::Tcp(stream))
        }
        Endpoint::Unix(path) => Ok(Socket::Unix(UnixStream::connect(path).await?)),
    }
}

enum Target<'a> {
    Name(&'a str, u16),
    Address(SocketAddr),
    Directory(&'a Path, u16),
}

impl std::fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Name(name, port) => write!(f, "{name}:{port}"),
            Self::Address(address) => write!(f, "{address}"),
            Self::Directory(path, port) => write!(f, "{}/.s.PGSQL.{port}", path.display()),
        }
    }
}

/// Hosts with their ports, as libpq pairs them: one port for all, or one for each. A `hostaddr`
/// stands in for its host's name.
fn targets(config: &Config) -> impl Iterator<Item = Target<'_>> {
    let (hosts, addresses) = (config.get_hosts(), config.get_hostaddrs());
    let ports = config.get_ports();
    (0..hosts.len().max(addresses.len())).map(move |index| {
        let port = ports.get(index).or_else(|| ports.first());
        let port = port.copied().unwrap_or(DEFAULT_PORT);
        match (addresses.get(index), hosts.get(index)) {
            (Some(&address), _) => Target::Address(SocketAddr::new(address, port)),
            (None, Some(Host::Tcp(name))) => Target::Name(name, port),
            (None, Some(Host::Unix(path))) => Target::Directory(path, port),
            (None, None) => Target::Name("localhost", port),
        }
    })
}

async fn reach(target: &Target<'_>, config: &Config) -> io::Result<(Socket, Endpoint)> {
    let limit = config.get_connect_timeout().copied();
    let limit = limit.unwrap_or(ADDRESS_TIMEOUT);
    match target {
        Target::Address(address) => tcp(*address, config, limit).await,
        Target::Name(name, port) => {
            let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
            for address in within(limit, lookup_host((*name, *port))).await? {
                match tcp(address, config, limit).await {
                    Ok(reached) => return Ok(reached),
                    Err(error) => last = error,
                }
            }
            Err(last)
        }
        Target::Directory(path, port) => {
            let path = path.join(format!(".s.PGSQL.{port}"));
            let stream = within(limit, UnixStream::connect(&path)).await?;
            Ok((Socket::Unix(stream), Endpoint::Unix(path)))
        }
    }
}

async fn tcp(
    address: SocketAddr,
    config: &Config,
    limit: Duration,
) -> io::Result<(Socket, Endpoint)> {
    let stream = within(limit, TcpStream::connect(address)).await?;
    stream.set_nodelay(true)?;
    if config.get_keepalives() {
        let mut keepalive = TcpKeepalive::new().with_time(config.get_keepalives_idle());
        if let Some(interval) = config.get_keepalives_interval() {
            keepalive = keepalive.with_interval(interval);
        }
        if let Some(retries) = config.get_keepalives_retries() {
            keepalive = keepalive.with_retries(retries);
        }
        SockRef::from(&stream).set_tcp_keepalive(&keepalive)?;
    }
    #[cfg(target_os = "linux")]
    if let Some(&limit) = config.get_tcp_user_timeout() {
        SockRef::from(&stream).set_tcp_user_timeout(Some(limit))?;
    }
    Ok((Socket::Tcp(stream), Endpoint::Tcp(address)))
}

async fn within<T>(limit: Duration, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    match timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}
