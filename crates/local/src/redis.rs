//! A private Redis or Valkey. Invariant: it listens on 127.0.0.1 only, asks for a password, and keeps nothing on disk
//! but what it is told to save.

mod builder;
mod cluster;
mod conversation;

use std::time::Duration;

use cenote_secret::Secret;
use tokio::time::{Instant, sleep};

pub use self::{
    builder::RedisBuilder,
    cluster::{RedisCluster, RedisClusterBuilder},
};
use crate::{Error, Result, instance::Instance};

const POLL: Duration = Duration::from_millis(20);
const PATIENCE: Duration = Duration::from_secs(60);

/// A running private Redis. Dropping it stops the server and removes its directory, in the background.
///
/// All methods take `&self`, and the handle may be used from several runtimes.
#[derive(Debug)]
pub struct RedisServer {
    instance: Instance,
    password: Secret<String>,
    tls_port: Option<u16>,
}

impl RedisServer {
    /// An empty server that keeps nothing by itself: after [`kill`](Self::kill) or [`stop`](Self::stop) it starts with
    /// what it held at the last [`save`](Self::save), or empty.
    pub fn temporary() -> RedisBuilder {
        RedisBuilder::default()
    }

    /// A replica of this server, with the same password. `REPLICAOF NO ONE` makes it a server of its own.
    pub fn replica(&self) -> RedisBuilder {
        RedisBuilder::default().following(self.port(), self.password.expose())
    }

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

    /// Sends a command on a connection of its own and returns its answer: the text of a string, a status or a number,
    /// and of anything else what the server sent.
    ///
    /// # Errors
    /// [`Error::Command`] with what the server said, or if it does not answer within 30 s.
    ///
    /// # Cancel safety
    /// After a drop the command may be carried out or not.
    pub async fn command(&self, words: &[&str]) -> Result<String> {
        conversation::ask(self.port(), self.password.expose(), words).await
    }

    /// Writes what it holds to disk: from then on every start begins with it, however old it is by then.
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
    /// [`Error::NotRunning`], [`Error::SupervisorLost`].
    ///
    /// # Cancel safety
    /// Once begun it is carried out even if the future is dropped.
    pub async fn kill(&self) -> Result<()> {
        self.instance.kill().await
    }

    /// Stops the server where it stands: connections stay open and nobody answers.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::SupervisorLost`].
    ///
    /// # Cancel safety
    /// Once begun it is carried out even if the future is dropped.
    pub async fn freeze(&self) -> Result<()> {
        self.instance.freeze().await
    }

    /// Undoes [`freeze`](Self::freeze).
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::SupervisorLost`].
    ///
    /// # Cancel safety
    /// Once begun it is carried out even if the future is dropped.
    pub async fn thaw(&self) -> Result<()> {
        self.instance.thaw().await
    }

    /// Starts the server again on the same port, with what it last saved. One that runs is stopped first.
    ///
    /// # Errors
    /// [`Error::Exited`] and [`Error::StartTimeout`] as at the first start, [`Error::SupervisorLost`].
    ///
    /// # Cancel safety
    /// After a drop the server may be stopped, starting or running; call it again.
    pub async fn restart(&self) -> Result<()> {
        self.instance.restart().await
    }

    /// Stops the server. Nothing happens if it does not run.
    ///
    /// # Errors
    /// [`Error::SupervisorLost`].
    ///
    /// # Cancel safety
    /// Once begun it is carried out even if the future is dropped.
    pub async fn stop(&self) -> Result<()> {
        self.instance.stop().await
    }
}

/// Asks again and again until the answer is yes. An error is an answer only when the patience is over.
async fn wait_for<F>(what: &str, mut holds: impl FnMut() -> F) -> Result<()>
where
    F: Future<Output = Result<bool>>,
{
    let begun = Instant::now();
    loop {
        let answer = holds().await;
        if matches!(answer, Ok(true)) {
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(Error::Command {
                program: "redis".into(),
                reason: match answer {
                    Err(error) => format!("not within {PATIENCE:?}: {what}; last: {error}"),
                    Ok(_) => format!("not within {PATIENCE:?}: {what}"),
                },
            });
        }
        sleep(POLL).await;
    }
}
