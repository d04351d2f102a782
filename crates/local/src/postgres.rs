//! A private PostgreSQL. Invariant: it listens on 127.0.0.1 and on a socket in a closed directory, and asks for a
//! password on both, since other users of the machine can reach the first.

mod builder;
mod options;
mod replica;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use options::Options;
use replica::Replicas;
pub use {builder::PostgresBuilder, replica::ReplicaBuilder};

use crate::{
    Error, Result,
    account::Account,
    binaries::Postgres,
    cluster::{Cluster, NAME},
    instance::Instance,
};

/// A running private PostgreSQL. Dropping it stops the server and, if it is temporary, removes its data; both happen in
/// the background. To wait for the end, call [`stop`](Self::stop) first.
///
/// All methods take `&self`, and the handle may be used from several runtimes.
#[derive(Debug)]
pub struct PostgresServer {
    // Before the cluster: the lock on a persistent directory goes last.
    instance: Instance,
    cluster: Cluster,
    postgres: Postgres,
    account: Account,
    socket_dir: PathBuf,
    /// For its replicas, which are started the same way.
    options: Options,
    start_timeout: Duration,
    replicas: Replicas,
}

impl PostgresServer {
    /// A server with fresh data that vanish with it. Fast rather than safe: `fsync` is off, so committed rows survive
    /// [`kill`](Self::kill) but not a crash of the machine.
    pub fn temporary() -> PostgresBuilder {
        PostgresBuilder::new(None)
    }

    /// A server whose data stay in `dir` for the next time, as safe as PostgreSQL's defaults make them. The directory
    /// is created if need be; it holds `data`, `password` (the role's, readable by the owner only) and `postgres.log`.
    /// [`default_data_dir`](crate::default_data_dir) is the usual place.
    pub fn persistent(dir: impl Into<PathBuf>) -> PostgresBuilder {
        PostgresBuilder::new(Some(dir.into()))
    }

    /// `postgresql://cenote:…@127.0.0.1:port/cenote`. The role is a superuser.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_for(NAME)
    }

    /// The same for another database, which need not exist yet.
    #[must_use]
    pub fn url_for(&self, database: &str) -> String {
        let database = percent_encode(database);
        format!(
            "postgresql://{NAME}:{}@127.0.0.1:{}/{database}",
            self.cluster.password.expose(),
            self.port()
        )
    }

    /// Creates an empty database.
    ///
    /// # Errors
    /// [`Error::Command`] with the server's words if it exists or the name is not usable, or if the server does not
    /// answer; [`Error::ClientMissing`] without `psql`.
    ///
    /// # Cancel safety
    /// After a drop the database may exist or not.
    pub async fn create_database(&self, name: &str) -> Result<()> {
        self.psql(&format!("create database \"{}\"", name.replace('"', "\"\"")))
            .await
            .map(drop)
    }

    /// Runs statements as the superuser, over the socket, whatever the access rules say about TCP; returns the values
    /// they answer.
    async fn psql(&self, statements: &str) -> Result<String> {
        let mut psql = self.account.command(self.postgres.client("psql")?);
        psql.env("PGPASSWORD", self.cluster.password.expose())
            .env("PGCONNECT_TIMEOUT", "10");
        psql.args(["-X", "-q", "-w", "-A", "-t", "-v", "ON_ERROR_STOP=1"]);
        psql.args(["-U", NAME, "-d", NAME, "-p", &self.port().to_string()]);
        psql.arg("-h").arg(&self.socket_dir);
        self.account.run(psql, statements).await
    }

    /// The TCP port on 127.0.0.1; the same after a restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.instance.port()
    }

    /// A command to paste into a shell. It reads the password from its file, so that it may be shown and logged.
    #[must_use]
    pub fn psql_line(&self) -> String {
        let psql = self.postgres.client("psql").unwrap_or_else(|_| "psql".into());
        format!(
            "PGPASSWORD=\"$(cat {})\" {} -h 127.0.0.1 -p {} -U {NAME} {NAME}",
            quoted(&self.cluster.password_file),
            quoted(&psql),
            self.port()
        )
    }

    /// What PostgreSQL calls PGDATA.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.cluster.data
    }

    /// The directory of the Unix socket.
    #[must_use]
    pub fn socket_dir(&self) -> &Path {
        &self.socket_dir
    }

    /// The file the server logs to.
    #[must_use]
    pub fn log_file(&self) -> &Path {
        self.instance.log()
    }

    /// The server's version, such as `17.2`.
    #[must_use]
    pub fn version(&self) -> &str {
        &self.postgres.version
    }

    /// The postmaster's process id; `None` when it does not run.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.instance.pid()
    }

    /// Crashes the server: kills the postmaster and all its children and returns when they are gone.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::SupervisorLost`].
    ///
    /// # Cancel safety
    /// Once begun it is carried out even if the future is dropped.
    pub async fn kill(&self) -> Result<()> {
        self.instance.kill().await
    }

    /// Stops the postmaster and all its children where they stand: connections stay open and nobody answers, as on a
    /// host that hangs. Returns when they stand.
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

    /// Starts the server again, on the same port and data, after [`kill`](Self::kill) or [`stop`](Self::stop). One that
    /// runs, or is frozen, is stopped first. Returns when it accepts connections.
    ///
    /// # Errors
    /// [`Error::Exited`] and [`Error::StartTimeout`] as at the first start, [`Error::SupervisorLost`].
    ///
    /// # Cancel safety
    /// After a drop the server may be stopped, starting or running; call it again.
    pub async fn restart(&self) -> Result<()> {
        self.instance.restart().await
    }

    /// Stops the server as `pg_ctl stop -m fast` does: clients are disconnected, open transactions rolled back. The
    /// data stay, even temporary ones, until the handle is dropped. Nothing happens if it does not run.
    ///
    /// A server that does not end in time (10 s, a persistent one 60 s) is made to, and recovers at its next start.
    ///
    /// # Errors
    /// [`Error::SupervisorLost`].
    ///
    /// # Cancel safety
    /// Once begun it is carried out even if the future is dropped.
    pub async fn stop(&self) -> Result<()> {
        self.instance.stop().await
    }

    /// A server that follows this one and refuses writes. Its data vanish with its handle; it is fast rather than safe
    /// like a [`temporary`](Self::temporary) one. There may be several. One that is away catches up later, unless a
    /// temporary primary has written more than 256 MB meanwhile (`wal_keep_size`; a persistent one promises less).
    pub fn replica(&self) -> ReplicaBuilder<'_> {
        ReplicaBuilder::new(self)
    }

    /// Makes a replica a primary of its own, which follows nobody, and returns when it accepts writes. The server it
    /// followed is left alone: whoever fails over [kills](Self::kill) it first.
    ///
    /// # Errors
    /// [`Error::Command`] if it is no replica, does not answer or did not make it within 60 s; [`Error::ClientMissing`]
    /// without `psql`.
    ///
    /// # Cancel safety
    /// After a drop the server may be a replica or a primary.
    pub async fn promote(&self) -> Result<()> {
        match self.psql("select pg_promote()").await?.trim() {
            "t" => Ok(()),
            _ => Err(Error::Command {
                program: "pg_promote".into(),
                reason: "the server is still a replica".into(),
            }),
        }
    }
}

/// A path as a word of a shell command.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+".contains(&byte);
    match text.bytes().all(plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

fn percent_encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes()
        .map(|byte| {
            if plain(byte) {
                char::from(byte).to_string()
            } else {
                format!("%{byte:02X}")
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_to_a_shell() {
        for path in ["/usr/bin/psql", "/a b/it's $HOME", "/tmp/\"x\";y"] {
            let script = format!("printf %s {}", quoted(Path::new(path)));
            let output = std::process::Command::new("sh").args(["-c", &script]).output().unwrap();
            assert_eq!(String::from_utf8(output.stdout).unwrap(), path);
        }
    }

    #[test]
    fn a_database_name_is_encoded_for_the_url() {
        assert_eq!(percent_encode("plain_1"), "plain_1");
        assert_eq!(percent_encode("a b/ä"), "a%20b%2F%C3%A4");
    }
}
