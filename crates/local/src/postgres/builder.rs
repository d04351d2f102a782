//! Starts a PostgreSQL with data from one of several origins. Invariant: whatever was begun when a start fails or is
//! abandoned is removed by the supervisor, which is there before the data are.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use cenote_secret::Secret;

use super::{PostgresServer, options::Options, replica::Replicas};
use crate::{
    Error, Result,
    account::Account,
    binaries::Postgres,
    cluster::{self, Cluster},
    directory,
    instance::{Instance, Probe},
    supervisor::Job,
};

/// A log above this size is set aside at the next start.
const LOG_LIMIT: u64 = 8 << 20;

/// How a [`PostgresServer`] will be started; see [`PostgresServer::temporary`] and [`PostgresServer::persistent`].
#[derive(Debug, Clone)]
#[must_use = "nothing runs before start()"]
pub struct PostgresBuilder {
    dir: Option<PathBuf>,
    options: Options,
    bin_dir: Option<PathBuf>,
    start_timeout: Duration,
}

impl PostgresBuilder {
    pub(super) fn new(dir: Option<PathBuf>) -> Self {
        Self {
            dir,
            options: Options::default(),
            bin_dir: None,
            start_timeout: Duration::from_secs(60),
        }
    }

    /// Adds a server setting, such as `("max_connections", "20")`. A later one of the same name wins. It holds for the
    /// life of this handle, restarts included, and is not written to the data directory.
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
    /// - [`Error::InvalidSetting`]: a setting cannot be put on a command line, or an access rule is not a line. What
    ///   the server itself rejects is [`Error::Exited`], with the server's words.
    /// - [`Error::Exited`], [`Error::StartTimeout`]: with the end of the server's log.
    ///
    /// # Cancel safety
    /// Dropping the future stops and removes what was begun.
    pub async fn start(self) -> Result<PostgresServer, Error> {
        self.options.check()?;
        let account = Account::choose().await?;
        let postgres = Postgres::find(self.bin_dir.as_deref()).await?;
        // A persistent directory is opened first, because its path is needed for the command line. Other data are
        // made when the supervisor is already there to remove them.
        let origin = match &self.dir {
            Some(dir) => Origin::Opened(cluster::persistent(&account, &postgres, dir).await?),
            None => Origin::Template,
        };
        launch(account, postgres, origin, self.options, self.start_timeout).await
    }
}

/// Where a server's data come from.
pub(super) enum Origin<'a> {
    /// A directory that is kept.
    Opened(Cluster),
    /// A copy of an empty cluster.
    Template,
    /// A copy of a running server's, which will follow that server under this name.
    Primary(&'a PostgresServer, &'a str),
}

impl Origin<'_> {
    async fn cluster(self, account: &Account, postgres: &Postgres, run: &Path) -> Result<Cluster> {
        match self {
            Self::Opened(cluster) => Ok(cluster),
            Self::Template => cluster::temporary(account, postgres, run).await,
            Self::Primary(primary, name) => {
                let address = (primary.socket_dir(), primary.port());
                cluster::replica(account, postgres, run, &primary.cluster, address, name).await
            }
        }
    }
}

/// Gets the data ready, starts the server on them and waits until it accepts connections.
pub(super) async fn launch(
    account: Account,
    postgres: Postgres,
    origin: Origin<'_>,
    options: Options,
    start_timeout: Duration,
) -> Result<PostgresServer> {
    let run_dir = directory::temporary(&account)?;
    let run = run_dir.path().to_owned();
    let socket_dir = run.join("socket");
    account.create_dir(&socket_dir)?;
    let (data, temporary) = match &origin {
        Origin::Opened(cluster) => (cluster.data.clone(), false),
        Origin::Template | Origin::Primary(..) => (run.join("data"), true),
    };
    let log = data.with_file_name("postgres.log");
    if fs::metadata(&log).is_ok_and(|meta| meta.len() > LOG_LIMIT) {
        let _ = fs::rename(&log, log.with_extension("log.old"));
    }
    let mut command = vec![postgres.program("postgres").into(), "-D".into(), data.clone().into()];
    command.extend(options.arguments(&run, &socket_dir, temporary));
    command.push("-p".into());
    let job = Job {
        run_dir,
        log,
        signal: "INT", // what PostgreSQL calls a fast shutdown
        patience: Duration::from_secs(if temporary { 10 } else { 60 }),
        command,
    };
    let probe = Probe::PostmasterFile(data.join("postmaster.pid"));
    let mut instance = Instance::new("postgres", &account, job, probe, start_timeout)?;
    let cluster = origin.cluster(&account, &postgres, &run).await?;
    options.write_files(&account, &run, &data)?;
    instance.launch().await?;
    Ok(PostgresServer {
        instance,
        cluster,
        postgres,
        account,
        socket_dir,
        options,
        start_timeout,
        replicas: Replicas::default(),
    })
}
