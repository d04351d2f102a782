//! The server of this module's tests, and connections to it without a pool.
//!
//! Invariant: the server is private to the test process and ends with it.

use std::str::FromStr;
use std::time::Duration;

use cenote_local::PostgresServer;
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::OnceCell;
use tokio::time::Instant;
use tokio_postgres::{Client, Config};

use super::{Link, open};
use crate::connect::socket::Socket;

/// The shared server.
pub(super) struct Server(PostgresServer);

/// The server all tests share.
pub(super) async fn server() -> &'static Server {
    static SHARED: OnceCell<Server> = OnceCell::const_new();
    let start = async || {
        let server = PostgresServer::temporary().setting("max_connections", "60");
        Server(server.start().await.unwrap())
    };
    SHARED.get_or_init(start).await
}

pub(super) fn within(milliseconds: u64) -> Instant {
    Instant::now() + Duration::from_millis(milliseconds)
}

impl Server {
    fn config(&self) -> Config {
        Config::from_str(&self.0.url()).unwrap()
    }

    /// A raw stream to the server.
    pub(super) async fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.0.port())).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    pub(super) async fn connect(&self) -> (Client, Link) {
        self.open(Socket::Tcp(self.tcp().await)).await
    }

    pub(super) async fn connect_unix(&self) -> (Client, Link) {
        let socket = format!(".s.PGSQL.{}", self.0.port());
        let stream = UnixStream::connect(self.0.socket_dir().join(socket)).await;
        self.open(Socket::Unix(stream.unwrap())).await
    }

    async fn open(&self, socket: Socket) -> (Client, Link) {
        let opened = open(socket, &self.config(), within(5_000)).await;
        let opened = opened.unwrap();
        (opened.client, opened.link)
    }
}
