//! A private Redis or Valkey. Invariant: it listens on 127.0.0.1 only, asks for a password, and keeps nothing on disk.

use std::{fmt::Write, path::PathBuf, time::Duration};

use crate::{
    Error, Result,
    account::Account,
    binaries, directory,
    instance::{Instance, Probe},
    port,
    supervisor::Job,
};

/// How a [`RedisServer`] will be started; see [`RedisServer::temporary`].
#[derive(Debug, Clone)]
#[must_use = "nothing runs before start()"]
pub struct RedisBuilder {
    settings: Vec<(String, String)>,
    program: Option<PathBuf>,
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

    /// Starts the server and returns when it answers.
    ///
    /// # Errors
    /// [`Error::RedisMissing`] when none is installed, [`Error::InvalidSetting`], and [`Error::Exited`] or
    /// [`Error::StartTimeout`] with the end of the server's log.
    ///
    /// # Cancel safety
    /// Dropping the future stops and removes what was begun.
    pub async fn start(self) -> Result<RedisServer> {
        let program = binaries::redis(self.program.as_deref())?;
        let account = Account::choose().await?;
        let run_dir = directory::temporary(&account)?;
        let run = run_dir.path().to_owned();
        let password = port::password()?;
        let config = run.join("redis.conf");
        account.create_file(&config, &self.config(&password)?)?;
        let job = Job {
            run_dir,
            log: run.join("redis.log"),
            signal: "TERM",
            patience: Duration::from_secs(5),
            command: vec![
                program.into(),
                config.into(),
                "--dir".into(),
                run.into(),
                "--port".into(),
            ],
        };
        let probe = Probe::Ping(password.clone());
        let mut instance = Instance::new(
            "redis-server",
            &account,
            job,
            probe,
            Duration::from_secs(30),
        )?;
        instance.launch().await?;
        Ok(RedisServer { instance, password })
    }

    fn config(&self, password: &str) -> Result<String> {
        // The password is in a file because a command line can be read by everybody on the machine.
        let mut config = format!(
            "bind 127.0.0.1\nrequirepass {password}\nsave \"\"\nappendonly no\ndaemonize no\n"
        );
        for (name, value) in &self.settings {
            let invalid = |reason| {
                Err(Error::InvalidSetting {
                    name: name.clone(),
                    reason,
                })
            };
            if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
                return invalid("a name consists of letters, digits and `-`");
            }
            if value.contains(['\n', '\r', '\0']) {
                return invalid("the value contains a line break or a NUL byte");
            }
            if ["port", "bind", "dir", "requirepass", "daemonize", "logfile"]
                .contains(&name.as_str())
            {
                return invalid("a private server chooses this itself");
            }
            let _ = writeln!(config, "{name} {value}"); // writing to a String does not fail
        }
        Ok(config)
    }
}

/// A running private Redis. Dropping it stops the server and removes its directory, in the background.
///
/// All methods take `&self`, and the handle may be used from several runtimes.
#[derive(Debug)]
pub struct RedisServer {
    instance: Instance,
    password: String,
}

impl RedisServer {
    /// An empty server that keeps nothing: after [`kill`](Self::kill) or [`stop`](Self::stop) it starts empty again.
    pub fn temporary() -> RedisBuilder {
        RedisBuilder {
            settings: Vec::new(),
            program: None,
        }
    }

    /// `redis://:…@127.0.0.1:port/`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://:{}@127.0.0.1:{}/", self.password, self.port())
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

    /// Starts the server again on the same port, empty. One that runs is stopped first.
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
