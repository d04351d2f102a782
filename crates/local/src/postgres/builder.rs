//! Starts a private PostgreSQL server, with fresh data, kept data or a copy of another server's. Invariant: the
//! supervisor runs before any temporary data exist, so it removes them if the start fails or is dropped.

use std::{fs, path::PathBuf, time::Duration};

use cenote_secret::Secret;

use super::{
    installation::Installation,
    options::Options,
    pgdata::{self, Primary},
    server::{PostgresServer, PostmasterFile},
};
use crate::{
    error::Result,
    supervise::{Account, Instance, Job, temporary_directory},
};

/// A log file above this many bytes is renamed to `postgres.log.old` at the next start.
const LOG_LIMIT: u64 = 8 << 20;

/// How a [`PostgresServer`] will be started; see [`PostgresServer::temporary`] and [`PostgresServer::persistent`].
#[derive(Debug, Clone)]
#[must_use = "nothing runs before start()"]
pub struct PostgresBuilder {
    source: Source,
    options: Options,
    bin_dir: Option<PathBuf>,
    start_timeout: Duration,
}

/// Where the server's data come from.
#[derive(Debug, Clone)]
enum Source {
    /// A directory that is kept.
    Directory(PathBuf),
    /// A copy of an empty PGDATA.
    Template,
    /// A copy of a running server's PGDATA; the new server follows that one.
    Primary(Primary),
}

impl PostgresServer {
    /// A server with fresh data, which are removed when the handle is dropped. It is fast rather than safe: `fsync` is
    /// off, so committed rows survive [`kill`](Self::kill) but not a crash of the machine.
    pub fn temporary() -> PostgresBuilder {
        PostgresBuilder::new(Source::Template)
    }

    /// A server whose data stay in `dir` for the next start, as safe as PostgreSQL's defaults make them. The directory
    /// is created if it does not exist; it holds `data`, `password` (the role's, readable by the owner only) and
    /// `postgres.log`. [`default_data_dir`](crate::default_data_dir) is the usual place.
    pub fn persistent(dir: impl Into<PathBuf>) -> PostgresBuilder {
        PostgresBuilder::new(Source::Directory(dir.into()))
    }

    /// A hot standby: a server that starts with a copy of this one's data, follows this one and refuses writes. It has
    /// the settings of this one, and its data are removed when its handle is dropped. The primary lists it as
    /// `application_name` in `pg_stat_replication`. One that is away catches up later, unless a temporary primary has
    /// written more than 256 MB in the meantime (`wal_keep_size`; a persistent one keeps less).
    pub fn standby(&self, application_name: impl Into<String>) -> PostgresBuilder {
        let mut options = self.options.clone();
        // Once promoted, it must not wait for the other standbys of its former primary.
        options.settings.retain(|(name, _)| name != "synchronous_standby_names");
        // How soon it finds a restarted primary; the default is 5 s.
        let retry = ("wal_retrieve_retry_interval".into(), "100ms".into());
        options.settings.push(retry);
        PostgresBuilder {
            source: Source::Primary(self.as_primary(application_name.into())),
            options,
            bin_dir: Some(self.installation.dir.clone()),
            start_timeout: self.start_timeout,
        }
    }
}

impl PostgresBuilder {
    fn new(source: Source) -> Self {
        Self {
            source,
            options: Options::default(),
            bin_dir: None,
            start_timeout: Duration::from_secs(60),
        }
    }

    /// Adds a server setting, such as `("max_connections", "20")`. Of two with the same name the later one counts. It
    /// holds for the life of this handle, restarts included, and is not written to the data directory.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.settings.push((name.into(), value.into()));
        self
    }

    /// Adds a rule of client authentication, a line of `pg_hba.conf` such as `hostssl all all 127.0.0.1/32 cert`. The
    /// first rule that matches a connection decides; those of the data directory, which ask for a password, come last.
    /// It holds as long as a [`setting`](Self::setting).
    pub fn access_rule(mut self, rule: impl Into<String>) -> Self {
        self.options.access_rules.push(rule.into());
        self
    }

    /// Speaks TLS with this certificate (followed by its chain, if any) and private key, both PEM. Connections without
    /// TLS are still accepted unless an [`access_rule`](Self::access_rule) says otherwise:
    /// `hostnossl all all all reject`.
    pub fn tls(mut self, certificate: impl Into<String>, key: impl Into<String>) -> Self {
        self.options.tls = Some((certificate.into(), Secret::new(key.into())));
        self
    }

    /// Checks the certificates of clients against these authorities, PEM. Only an
    /// [`access_rule`](Self::access_rule) with `cert` or `clientcert=verify-full` makes clients need one.
    pub fn client_authority(mut self, certificates: impl Into<String>) -> Self {
        self.options.client_authority = Some(certificates.into());
        self
    }

    /// Uses the programs in this directory instead of those of `PG_BIN` or of the newest installation.
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
    /// - [`PostgresMissing`](crate::Error::PostgresMissing), [`PostgresTooOld`](crate::Error::PostgresTooOld): no suitable
    ///   PostgreSQL is installed.
    /// - [`AlreadyRunning`](crate::Error::AlreadyRunning), [`OtherMajorVersion`](crate::Error::OtherMajorVersion),
    ///   [`UnusableDirectory`](crate::Error::UnusableDirectory): the directory given to [`PostgresServer::persistent`]
    ///   cannot be used.
    /// - [`InvalidSetting`](crate::Error::InvalidSetting): a setting cannot be put on a command line, or an access rule is
    ///   not a single line. What the server itself rejects is an [`Exited`](crate::Error::Exited) with the server's
    ///   message.
    /// - [`Exited`](crate::Error::Exited), [`StartTimeout`](crate::Error::StartTimeout): with the end of the server's log.
    /// - [`Command`](crate::Error::Command), [`ClientMissing`](crate::Error::ClientMissing): for a
    ///   [standby](PostgresServer::standby), the primary cannot be copied.
    ///
    /// # Cancel safety
    /// If the future is dropped, the server is stopped and its temporary files are removed.
    pub async fn start(self) -> Result<PostgresServer> {
        self.options.check()?;
        let account = Account::choose().await?;
        let installation = Installation::find(self.bin_dir.as_deref()).await?;
        // A persistent directory is opened before the supervisor starts, because its path is part of the command line.
        // Other data are made afterwards, so that the supervisor removes them if this start fails or is dropped.
        let opened = match &self.source {
            Source::Directory(dir) => Some(pgdata::persistent(&account, &installation, dir).await?),
            Source::Template | Source::Primary(_) => None,
        };
        let run_dir = temporary_directory(&account)?;
        let run = run_dir.path().to_owned();
        let socket_dir = run.join("socket");
        account.create_dir(&socket_dir)?;
        let is_temporary = opened.is_none();
        let data = opened
            .as_ref()
            .map_or_else(|| run.join("data"), |pgdata| pgdata.data.clone());
        let log = data.with_file_name("postgres.log");
        if fs::metadata(&log).is_ok_and(|meta| meta.len() > LOG_LIMIT) {
            let _ = fs::rename(&log, log.with_extension("log.old"));
        }
        let mut command = vec![
            installation.program("postgres").into(),
            "-D".into(),
            data.clone().into(),
        ];
        command.extend(self.options.arguments(&run, &socket_dir, is_temporary));
        command.push("-p".into());
        let job = Job {
            run_dir,
            log,
            signal: "INT", // what PostgreSQL calls a fast shutdown
            patience: Duration::from_secs(if is_temporary { 10 } else { 60 }),
            command,
        };
        let probe = PostmasterFile(data.join("postmaster.pid"));
        let mut instance = Instance::new("postgres", &account, job, probe, self.start_timeout)?;
        let pgdata = match (opened, &self.source) {
            (Some(pgdata), _) => pgdata,
            (None, Source::Primary(primary)) => pgdata::standby(&account, &installation, &run, primary).await?,
            (None, _) => pgdata::temporary(&account, &installation, &run).await?,
        };
        self.options.write_files(&account, &run, &data)?;
        instance.launch().await?;
        Ok(PostgresServer {
            instance,
            pgdata,
            installation,
            account,
            socket_dir,
            options: self.options,
            start_timeout: self.start_timeout,
        })
    }
}
