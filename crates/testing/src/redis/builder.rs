//! Starts a private Redis. Invariant: a caller cannot change the settings on which the private server depends.

use std::{
    fmt::{self, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use cenote_local::supervise::{
    Account, Instance, Job, find_program, free_port, is_program, random_password, temporary_directory,
};
use cenote_secret::Secret;

use super::{
    server::{Ping, RedisServer},
    wait::wait_for,
};
use crate::error::{Error, Result};

/// How a [`RedisServer`] will be started; see [`RedisServer::temporary`].
#[derive(Clone, Default)]
#[must_use = "nothing runs before start()"]
pub struct RedisBuilder {
    settings: Vec<(String, String)>,
    program: Option<PathBuf>,
    /// Certificate chain and key, PEM.
    tls: Option<(String, Secret<String>)>,
    /// The authorities of the clients' certificates, PEM.
    tls_clients: Option<String>,
    /// Lines of the configuration that callers cannot set.
    role: Secret<String>,
    is_replica: bool,
    /// Random if `None`.
    password: Option<Secret<String>>,
}

/// Shows no values of settings, because they may be passwords.
impl fmt::Debug for RedisBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBuilder")
            .field(
                "settings",
                &self.settings.iter().map(|(name, _)| name).collect::<Vec<_>>(),
            )
            .field("program", &self.program)
            .field("tls", &self.tls.is_some())
            .finish_non_exhaustive()
    }
}

impl RedisServer {
    /// An empty server that stores nothing by itself: after [`kill`](Self::kill) or [`stop`](Self::stop) it starts with
    /// what it held at the last [`save`](Self::save), or empty.
    pub fn temporary() -> RedisBuilder {
        RedisBuilder::default()
    }

    /// A replica of this server, with the same password. `REPLICAOF NO ONE` makes it a primary.
    pub fn replica(&self) -> RedisBuilder {
        RedisBuilder::default().following(self.port(), self.password.expose())
    }
}

impl RedisBuilder {
    /// Adds a line to the configuration file, such as `("maxmemory", "10mb")`. Values with spaces need Redis's quotes.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Uses this program instead of looking for one in PATH.
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// Speaks TLS with this certificate (followed by its chain, if any) and private key, both PEM, on a port of its
    /// own: see [`RedisServer::tls_url`]. The program must have been built with TLS.
    pub fn tls(mut self, certificate: impl Into<String>, key: impl Into<String>) -> Self {
        self.tls = Some((certificate.into(), Secret::new(key.into())));
        self
    }

    /// Requires a certificate of one of these authorities, PEM, from every client of the TLS port.
    pub fn tls_clients(mut self, authorities: impl Into<String>) -> Self {
        self.tls_clients = Some(authorities.into());
        self
    }

    /// Follows the server at this port.
    pub(super) fn following(mut self, port: u16, password: &str) -> Self {
        self.is_replica = true;
        let line = format!("replicaof 127.0.0.1 {port}\nmasterauth {password}\n");
        self.with_role(&line).with_password(password)
    }

    /// Adds lines to the configuration that callers cannot set.
    pub(super) fn with_role(mut self, lines: &str) -> Self {
        self.role = Secret::new(self.role.into_exposed() + lines);
        self
    }

    pub(super) fn with_password(mut self, password: &str) -> Self {
        self.password = Some(Secret::new(password.to_owned()));
        self
    }

    /// Starts the server and returns when it answers; a replica, when it has caught up.
    ///
    /// # Errors
    /// [`Error::RedisMissing`] if none is installed, and [`Error::Server`] with
    /// [`InvalidSetting`](cenote_local::Error::InvalidSetting), or with [`Exited`](cenote_local::Error::Exited) or
    /// [`StartTimeout`](cenote_local::Error::StartTimeout) and the end of the server's log.
    ///
    /// # Cancel safety
    /// If the future is dropped, the server is stopped and its files are removed.
    pub async fn start(self) -> Result<RedisServer> {
        let program = find(self.program.as_deref())?;
        let account = Account::choose().await?;
        let run_dir = temporary_directory(&account)?;
        let run = run_dir.path().to_owned();
        let password = match &self.password {
            Some(password) => password.clone(),
            None => Secret::new(random_password()?),
        };
        let mut config = self.config(password.expose())?;
        let mut tls_port = None;
        if let Some((certificate, key)) = &self.tls {
            let (certificate_file, key_file) = (run.join("server.crt"), run.join("server.key"));
            account.create_file(&certificate_file, certificate)?;
            account.create_file(&key_file, key.expose())?;
            let port = *tls_port.insert(free_port()?);
            let _ = writeln!(
                config,
                "tls-port {port}\ntls-cert-file {}\ntls-key-file {}",
                certificate_file.display(),
                key_file.display()
            );
            let clients = if self.tls_clients.is_some() { "yes" } else { "no" };
            let _ = writeln!(config, "tls-auth-clients {clients}");
        }
        if let Some(authorities) = &self.tls_clients {
            let file = run.join("clients.crt");
            account.create_file(&file, authorities)?;
            let _ = writeln!(config, "tls-ca-cert-file {}", file.display());
        }
        let file = run.join("redis.conf");
        account.create_file(&file, &config)?;
        let job = Job {
            run_dir,
            log: run.join("redis.log"),
            signal: "TERM",
            patience: Duration::from_secs(5),
            command: vec![program.into(), file.into(), "--dir".into(), run.into(), "--port".into()],
        };
        let probe = Ping(password.clone());
        let mut instance = Instance::new("redis-server", &account, job, probe, Duration::from_secs(30))?;
        instance.launch().await?;
        let server = RedisServer {
            instance,
            password,
            tls_port,
        };
        if self.is_replica {
            let server = &server;
            let caught_up = || async move {
                let told = server.command(&["INFO", "replication"]).await?;
                Ok(told.contains("master_link_status:up"))
            };
            wait_for("the replica has caught up", caught_up).await?;
        }
        Ok(server)
    }

    fn config(&self, password: &str) -> Result<String> {
        // The password is in a file because every user of the machine can read command lines.
        let mut config = format!(
            "bind 127.0.0.1\nrequirepass {password}\nsave \"\"\nappendonly no\ndaemonize no\n\
             repl-diskless-sync-delay 0\n{}",
            self.role.expose()
        );
        for (name, value) in &self.settings {
            let invalid = |reason| {
                Err(Error::Server(cenote_local::Error::InvalidSetting {
                    name: name.clone(),
                    reason,
                }))
            };
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
                return invalid("a name consists of letters, digits and `-`");
            }
            if value.contains(['\n', '\r', '\0']) {
                return invalid("the value contains a line break or a NUL byte");
            }
            if [
                "port",
                "bind",
                "dir",
                "requirepass",
                "daemonize",
                "logfile",
                "dbfilename",
            ]
            .contains(&name.as_str())
            {
                return invalid("a private server chooses this itself");
            }
            let _ = writeln!(config, "{name} {value}"); // writing to a String does not fail
        }
        Ok(config)
    }
}

/// The path of `redis-server` or `valkey-server`.
fn find(program: Option<&Path>) -> Result<PathBuf> {
    let (found, looked) = match program {
        Some(program) => (
            Some(program.to_owned()).filter(|path| is_program(path)),
            program.display().to_string(),
        ),
        None => (
            find_program("redis-server").or_else(|| find_program("valkey-server")),
            "PATH, /usr/sbin, /usr/local/bin, /opt/homebrew/bin".into(),
        ),
    };
    found.ok_or(Error::RedisMissing { looked })
}
