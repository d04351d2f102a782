//! A private PostgreSQL. Invariant: it listens on 127.0.0.1 and on a socket in a closed directory, and asks for a
//! password on both, since other users of the machine can reach the first.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    Error, Result,
    account::Account,
    binaries::Postgres,
    cluster::{self, Cluster, NAME},
    directory,
    instance::{Instance, Probe},
    supervisor::Job,
};

/// A log above this size is set aside at the next start.
const LOG_LIMIT: u64 = 8 << 20;

/// Settings for servers whose data need not survive the machine: no waiting for the disk, and no shared memory outside
/// the data directory that a killed server would leave behind. `synchronous_commit` stays on, so that commits behave
/// as they do elsewhere.
const TEMPORARY: [&str; 4] = [
    "fsync=off",
    "full_page_writes=off",
    "shared_buffers=32MB",
    "dynamic_shared_memory_type=mmap",
];

/// How a [`PostgresServer`] will be started; see [`PostgresServer::temporary`] and [`PostgresServer::persistent`].
#[derive(Debug, Clone)]
#[must_use = "nothing runs before start()"]
pub struct PostgresBuilder {
    dir: Option<PathBuf>,
    settings: Vec<(String, String)>,
    bin_dir: Option<PathBuf>,
    start_timeout: Duration,
}

impl PostgresBuilder {
    fn new(dir: Option<PathBuf>) -> Self {
        Self {
            dir,
            settings: Vec::new(),
            bin_dir: None,
            start_timeout: Duration::from_secs(60),
        }
    }

    /// Adds a server setting, such as `("max_connections", "20")`. A later one of the same name wins. It holds for the
    /// life of this handle, restarts included, and is not written to the data directory.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Uses the programs in this directory, whatever `PG_BIN` says and whatever else is installed.
    pub fn bin_dir(mut self, dir: impl Into<PathBuf>) -> Self {
        self.bin_dir = Some(dir.into());
        self
    }

    /// How long the server may take until it accepts connections, recovery after a crash included. Default 60 s.
    pub fn start_timeout(mut self, limit: Duration) -> Self {
        self.start_timeout = limit;
        self
    }

    /// Starts the server and returns when it accepts connections.
    ///
    /// # Errors
    /// - [`Error::PostgresMissing`], [`Error::PostgresTooOld`]: nothing suitable is installed.
    /// - [`Error::AlreadyRunning`], [`Error::OtherMajorVersion`], [`Error::UnusableDirectory`]: about the directory
    ///   given to [`PostgresServer::persistent`].
    /// - [`Error::InvalidSetting`]: a setting cannot be put on a command line. One the server rejects is
    ///   [`Error::Exited`], with the server's words.
    /// - [`Error::Exited`], [`Error::StartTimeout`]: with the end of the server's log.
    ///
    /// # Cancel safety
    /// Dropping the future stops and removes what was begun.
    pub async fn start(self) -> Result<PostgresServer> {
        for (name, value) in &self.settings {
            check_setting(name, value)?;
        }
        let account = Account::choose().await?;
        let postgres = Postgres::find(self.bin_dir.as_deref()).await?;
        let run_dir = directory::temporary(&account)?;
        let run = run_dir.path().to_owned();
        let socket_dir = run.join("socket");
        account.create_dir(&socket_dir)?;

        // A persistent directory is opened first, because its path is needed for the command line. A temporary one is
        // made when the supervisor is already there to remove it.
        let opened = match &self.dir {
            Some(dir) => Some(cluster::persistent(&account, &postgres, dir).await?),
            None => None,
        };
        let data = opened
            .as_ref()
            .map_or_else(|| run.join("data"), |cluster| cluster.data.clone());
        let log = data.with_file_name("postgres.log");
        if fs::metadata(&log).is_ok_and(|meta| meta.len() > LOG_LIMIT) {
            let _ = fs::rename(&log, log.with_extension("log.old"));
        }
        let job = Job {
            run_dir,
            log,
            signal: "INT", // what PostgreSQL calls a fast shutdown
            patience: Duration::from_secs(if opened.is_some() { 60 } else { 10 }),
            command: self.command(&postgres, &data, &socket_dir, opened.is_none()),
        };
        let probe = Probe::PostmasterFile(data.join("postmaster.pid"));
        let mut instance = Instance::new("postgres", &account, job, probe, self.start_timeout)?;
        let cluster = match opened {
            Some(cluster) => cluster,
            None => cluster::temporary(&account, &postgres, &run).await?,
        };
        instance.launch().await?;
        Ok(PostgresServer {
            instance,
            cluster,
            postgres,
            account,
            socket_dir,
        })
    }

    fn command(
        &self,
        postgres: &Postgres,
        data: &Path,
        socket_dir: &Path,
        temporary: bool,
    ) -> Vec<OsString> {
        let mut command: Vec<OsString> = vec![
            postgres.program("postgres").into(),
            "-D".into(),
            data.into(),
        ];
        let mut set = |setting: OsString| command.extend(["-c".into(), setting]);
        set("listen_addresses=127.0.0.1".into());
        let mut sockets = OsString::from("unix_socket_directories=\"");
        sockets.push(socket_dir); // the quotes are for a comma in the path
        sockets.push("\"");
        set(sockets);
        set("logging_collector=off".into());
        if temporary {
            TEMPORARY.iter().for_each(|setting| set(setting.into()));
        }
        self.settings
            .iter()
            .for_each(|(name, value)| set(format!("{name}={value}").into()));
        command.push("-p".into());
        command
    }
}

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
            self.cluster.password,
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
        let mut psql = self.account.command(self.postgres.psql()?);
        psql.env("PGPASSWORD", &self.cluster.password)
            .env("PGCONNECT_TIMEOUT", "10");
        psql.args([
            "-X",
            "-q",
            "-w",
            "-h",
            "127.0.0.1",
            "-U",
            NAME,
            "-d",
            NAME,
            "-v",
            "ON_ERROR_STOP=1",
        ]);
        psql.args(["-p", &self.port().to_string()]);
        let statement = format!("create database \"{}\"", name.replace('"', "\"\""));
        self.account.run(psql, &statement).await.map(drop)
    }

    /// The TCP port on 127.0.0.1; the same after a restart.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.instance.port()
    }

    /// A command to paste into a shell. It reads the password from its file, so that it may be shown and logged.
    #[must_use]
    pub fn psql_line(&self) -> String {
        let psql = self.postgres.psql().unwrap_or_else(|_| "psql".into());
        format!(
            "PGPASSWORD=\"$(cat '{}')\" {} -h 127.0.0.1 -p {} -U {NAME} {NAME}",
            self.cluster.password_file.display(),
            psql.display(),
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
}

fn check_setting(name: &str, value: &str) -> Result<()> {
    let invalid = |reason| {
        Err(Error::InvalidSetting {
            name: name.to_owned(),
            reason,
        })
    };
    let named = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    match name {
        _ if name.is_empty() || !name.chars().all(named) => {
            invalid("a name consists of letters, digits, `_` and `.`")
        }
        _ if value.contains('\0') => invalid("the value contains a NUL byte"),
        "port"
        | "listen_addresses"
        | "unix_socket_directories"
        | "logging_collector"
        | "data_directory" => invalid("a private server chooses this itself"),
        _ => Ok(()),
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
    fn a_database_name_is_encoded_for_the_url() {
        assert_eq!(percent_encode("plain_1"), "plain_1");
        assert_eq!(percent_encode("a b/ä"), "a%20b%2F%C3%A4");
    }

    #[test]
    fn settings_the_server_depends_on_are_refused() {
        for name in ["port", "listen_addresses", "", "work mem"] {
            assert!(check_setting(name, "1").is_err(), "{name}");
        }
        assert!(check_setting("work_mem", "1MB").is_ok());
    }
}
