//! The handle of a running private Redis or Valkey. Invariant: the server stores nothing on disk until it is told to
//! [save](RedisServer::save).

use std::time::Duration;

use cenote_local::supervise::{Instance, Probe};
use cenote_secret::Secret;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use super::client;
use crate::error::Result;

/// Asks whether Redis answers PING after this password.
#[derive(Debug)]
pub(super) struct Ping(pub(super) Secret<String>);

impl Probe for Ping {
    async fn is_ready(&self, _pid: u32, port: u16) -> bool {
        let exchange = async {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
            stream
                .write_all(format!("AUTH {}\r\nPING\r\n", self.0.expose()).as_bytes())
                .await?;
            let mut answer = [0; "+OK\r\n+PONG\r\n".len()];
            stream.read_exact(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = timeout(Duration::from_secs(1), exchange).await;
        matches!(answer, Ok(Ok(answer)) if answer == *b"+OK\r\n+PONG\r\n")
    }
}

/// A running private Redis. Dropping it stops the server and removes its directory, in the background.
///
/// All methods take `&self`, and the handle may be used from several runtimes.
#[derive(Debug)]
pub struct RedisServer {
    pub(super) instance: Instance<Ping>,
    pub(super) password: Secret<String>,
    pub(super) tls_port: Option<u16>,
}

impl RedisServer {
    /// `redis://:…@127.0.0.1:port/`.
    #[must_use]
    pub fn url(&self) -> String {
        let password = self.password.expose();
        format!("redis://:{password}@127.0.0.1:{}/", self.port())
    }

    /// `rediss://:…@127.0.0.1:port/`, if it speaks TLS.
    #[must_use]
    pub fn tls_url(&self) -> Option<String> {
        let port = self.tls_port?;
        let password = self.password.expose();
        Some(format!("rediss://:{password}@127.0.0.1:{port}/"))
    }

    /// The TCP port on 127.0.0.1; the same after a restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.instance.port()
    }

    /// The server's process id; `None` when it does not run.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.instance.pid()
    }

    /// Sends a command on its own connection and returns its answer: the text of a string, status or number, and the
    /// raw reply of anything else.
    ///
    /// # Errors
    /// [`Error::Command`](cenote_local::Error::Command) with the server's error, or if it does not answer within
    /// 30 s.
    ///
    /// # Cancel safety
    /// If the future is dropped, the command may have run or not.
    pub async fn command(&self, words: &[&str]) -> Result<String> {
        client::ask(self.port(), self.password.expose(), words).await
    }

    /// Writes a snapshot to disk. Every later start loads it, even if newer data existed since.
    ///
    /// # Errors
    /// As [`command`](Self::command).
    ///
    /// # Cancel safety
    /// As [`command`](Self::command).
    pub async fn save(&self) -> Result<()> {
        self.command(&["SAVE"]).await.map(drop)
    }

    /// Kills the server and returns when it is gone.
    ///
    /// # Errors
    /// [`Error::NotRunning`](cenote_local::Error::NotRunning),
    /// [`Error::SupervisorLost`](cenote_local::Error::SupervisorLost).
    ///
    /// # Cancel safety
    /// Once polled, it completes even if the future is dropped.
    pub async fn kill(&self) -> Result<()> {
        Ok(self.instance.kill().await?)
    }

    /// Stops the server with SIGSTOP: connections stay open without answers.
    ///
    /// # Errors
    /// [`Error::NotRunning`](cenote_local::Error::NotRunning),
    /// [`Error::SupervisorLost`](cenote_local::Error::SupervisorLost).
    ///
    /// # Cancel safety
    /// Once polled, it completes even if the future is dropped.
    pub async fn freeze(&self) -> Result<()> {
        Ok(self.instance.freeze().await?)
    }

    /// Undoes [`freeze`](Self::freeze).
    ///
    /// # Errors
    /// [`Error::NotRunning`](cenote_local::Error::NotRunning),
    /// [`Error::SupervisorLost`](cenote_local::Error::SupervisorLost).
    ///
    /// # Cancel safety
    /// Once polled, it completes even if the future is dropped.
    pub async fn thaw(&self) -> Result<()> {
        Ok(self.instance.thaw().await?)
    }

    /// Starts the server again on the same port, with what it last saved. One that runs is stopped first.
    ///
    /// # Errors
    /// [`Error::Exited`](cenote_local::Error::Exited) and [`Error::StartTimeout`](cenote_local::Error::StartTimeout) as
    /// at the first start, [`Error::SupervisorLost`](cenote_local::Error::SupervisorLost).
    ///
    /// # Cancel safety
    /// If the future is dropped, the server may be stopped, starting or running. Call it again.
    pub async fn restart(&self) -> Result<()> {
        Ok(self.instance.restart().await?)
    }

    /// Stops the server. Nothing happens if it does not run.
    ///
    /// # Errors
    /// [`Error::SupervisorLost`](cenote_local::Error::SupervisorLost).
    ///
    /// # Cancel safety
    /// Once polled, it completes even if the future is dropped.
    pub async fn stop(&self) -> Result<()> {
        Ok(self.instance.stop().await?)
    }
}
