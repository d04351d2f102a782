//! The handle of a running private PostgreSQL server. Invariant: nothing that it prints holds the password.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{
    installation::Installation,
    options::Options,
    pgdata::{NAME, PgData, Primary},
};
use crate::{
    error::Result,
    supervise::{Account, Instance, Probe},
};

/// PostgreSQL writes its state to this file, which `pg_ctl` waits for too.
#[derive(Debug)]
pub(super) struct PostmasterFile(pub(super) PathBuf);

impl Probe for PostmasterFile {
    async fn is_ready(&self, pid: u32, _port: u16) -> bool {
        // Line 1 is the process id, line 8 the state. The file may be a killed server's: the process id tells.
        fs::read_to_string(&self.0).is_ok_and(|content| {
            let mut lines = content.lines();
            lines.next() == Some(&pid.to_string()) && lines.nth(6).is_some_and(|state| state.trim() == "ready")
        })
    }
}

/// A running private PostgreSQL. Dropping it stops the server and, if it is temporary, removes its data; both happen in
/// the background. To wait for the end, call [`stop`](Self::stop) first.
///
/// All methods take `&self`, and the handle may be used from several runtimes.
#[derive(Debug)]
pub struct PostgresServer {
    // Declared before `pgdata`, and so dropped before it: the lock on a persistent directory is released last.
    pub(super) instance: Instance<PostmasterFile>,
    pub(super) pgdata: PgData,
    pub(super) installation: Installation,
    pub(super) account: Account,
    pub(super) socket_dir: PathBuf,
    /// A standby of this server starts with the same.
    pub(super) options: Options,
    pub(super) start_timeout: Duration,
}

impl PostgresServer {
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
            self.pgdata.password.expose(),
            self.port()
        )
    }

    /// Creates an empty database.
    ///
    /// # Errors
    /// [`Error::Command`](crate::Error::Command) with the server's message if it exists or the name is not usable, or
    /// if the server does not answer; [`Error::ClientMissing`](crate::Error::ClientMissing) without `psql`.
    ///
    /// # Cancel safety
    /// If the future is dropped, the database may exist or not.
    pub async fn create_database(&self, name: &str) -> Result<()> {
        self.query(&format!("create database \"{}\"", name.replace('"', "\"\"")))
            .await
            .map(drop)
    }

    /// Runs statements with `psql` as the superuser and returns the values that they return: a row per line, columns
    /// separated by `|`. It connects over the Unix socket, so [access rules](crate::PostgresBuilder::access_rule) for
    /// TCP do not matter.
    ///
    /// # Errors
    /// [`Error::Command`](crate::Error::Command) if a statement fails or the server does not accept a connection within
    /// 10 s; [`Error::ClientMissing`](crate::Error::ClientMissing) without `psql`.
    ///
    /// # Cancel safety
    /// If the future is dropped, the statements may have run or not.
    pub async fn query(&self, statements: &str) -> Result<String> {
        let mut psql = self.account.command(self.installation.client("psql")?);
        psql.env("PGPASSWORD", self.pgdata.password.expose())
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

    /// A `psql` command line for a shell. It reads the password from a file, so it can be shown and logged.
    #[must_use]
    pub fn psql_line(&self) -> String {
        let psql = self.installation.client("psql").unwrap_or_else(|_| "psql".into());
        format!(
            "PGPASSWORD=\"$(cat {})\" {} -h 127.0.0.1 -p {} -U {NAME} {NAME}",
            quoted(&self.pgdata.password_file),
            quoted(&psql),
            self.port()
        )
    }

    /// The data directory, PGDATA.
    #[must_use]
    pub fn data_dir(&self) -> &Path {
        &self.pgdata.data
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
        &self.installation.version
    }

    /// The postmaster's process id; `None` when it does not run.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.instance.pid()
    }

    /// Crashes the server: kills the postmaster and all its children and returns when they are gone.
    ///
    /// # Errors
    /// [`Error::NotRunning`](crate::Error::NotRunning), [`Error::SupervisorLost`](crate::Error::SupervisorLost).
    ///
    /// # Cancel safety
    /// Once polled, it completes even if the future is dropped.
    pub async fn kill(&self) -> Result<()> {
        self.instance.kill().await
    }

    /// Stops the postmaster and all its children with SIGSTOP: connections stay open without answers, as on a host that
    /// hangs. Returns when all have stopped.
    ///
    /// # Errors
    /// [`Error::NotRunning`](crate::Error::NotRunning), [`Error::SupervisorLost`](crate::Error::SupervisorLost).
    ///
    /// # Cancel safety
    /// Once polled, it completes even if the future is dropped.
    pub async fn freeze(&self) -> Result<()> {
        self.instance.freeze().await
    }

    /// Undoes [`freeze`](Self::freeze).
    ///
    /// # Errors
    /// [`Error::NotRunning`](crate::Error::NotRunning), [`Error::SupervisorLost`](crate::Error::SupervisorLost).
    ///
    /// # Cancel safety
    /// Once polled, it completes even if the future is dropped.
    pub async fn thaw(&self) -> Result<()> {
        self.instance.thaw().await
    }

    /// Starts the server again, on the same port and data, after [`kill`](Self::kill) or [`stop`](Self::stop). One that
    /// runs, or is frozen, is stopped first. Returns when it accepts connections.
    ///
    /// # Errors
    /// [`Error::Exited`](crate::Error::Exited) and [`Error::StartTimeout`](crate::Error::StartTimeout) as at the first
    /// start, [`Error::SupervisorLost`](crate::Error::SupervisorLost).
    ///
    /// # Cancel safety
    /// If the future is dropped, the server may be stopped, starting or running. Call it again.
    pub async fn restart(&self) -> Result<()> {
        self.instance.restart().await
    }

    /// Stops the server as `pg_ctl stop -m fast` does: clients are disconnected, open transactions rolled back. The
    /// data stay, even temporary ones, until the handle is dropped. Nothing happens if it does not run.
    ///
    /// A server that does not end in time (10 s, a persistent one 60 s) is killed, and recovers at its next start.
    ///
    /// # Errors
    /// [`Error::SupervisorLost`](crate::Error::SupervisorLost).
    ///
    /// # Cancel safety
    /// Once polled, it completes even if the future is dropped.
    pub async fn stop(&self) -> Result<()> {
        self.instance.stop().await
    }

    /// How long a start may take; see [`PostgresBuilder::start_timeout`](crate::PostgresBuilder::start_timeout).
    #[must_use]
    pub fn start_timeout(&self) -> Duration {
        self.start_timeout
    }

    /// The last lines of the log.
    #[must_use]
    pub fn log_end(&self) -> String {
        self.instance.log_end()
    }

    /// What another server needs to follow this one under this name.
    pub(super) fn as_primary(&self, application_name: String) -> Primary {
        Primary {
            socket_dir: self.socket_dir.clone(),
            port: self.port(),
            password: self.pgdata.password.clone(),
            password_file: self.pgdata.password_file.clone(),
            application_name,
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
