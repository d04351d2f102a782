//! An instance: a process of the built program. Invariant: it gets only the environment that it is given, and ends with
//! its handle.

use std::{
    fs::{File, OpenOptions},
    io::{Read, Seek, SeekFrom},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use http::Method;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tokio::{
    process::{Child, Command},
    sync::Mutex as AsyncMutex,
    time::{Instant, sleep, timeout},
};

use crate::{Result, client::Connection};

/// How long a start may take on a busy machine.
const START: Duration = Duration::from_secs(30);
const GLANCE: Duration = Duration::from_millis(10);

pub(crate) struct Service {
    program: PathBuf,
    /// The settings of its next start.
    settings: Mutex<Vec<(&'static str, String)>>,
    log: PathBuf,
    child: AsyncMutex<Option<Child>>,
    /// Changes at every start.
    address: Mutex<SocketAddr>,
}

impl Service {
    /// Starts an instance that writes its log into this file.
    pub(crate) async fn start(program: &Path, settings: Vec<(&'static str, String)>, log: PathBuf) -> Result<Self> {
        let service = Self {
            program: program.to_owned(),
            settings: Mutex::new(settings),
            log,
            child: AsyncMutex::new(None),
            address: Mutex::new(([127, 0, 0, 1], 0).into()),
        };
        service.launch().await?;
        Ok(service)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes a setting; it holds from the next start.
    pub(crate) fn set(&self, name: &'static str, value: String) {
        let mut settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner);
        settings.retain(|(other, _)| *other != name);
        settings.push((name, value));
    }

    /// Starts it again after a [`kill`](Self::kill); returns when it listens.
    pub(crate) async fn launch(&self) -> Result<()> {
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let start = log.metadata()?.len();
        let settings = self.settings.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut command = Command::new(&self.program);
        command
            .arg("serve")
            .env_clear()
            .envs(std::env::var_os("PATH").map(|path| ("PATH", path)))
            .envs(settings)
            .env("LOG_FORMAT", "json")
            .env("PORT", "0")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true);
        if let Some(directory) = self.log.parent() {
            command.current_dir(directory);
        }
        *self.child.lock().await = Some(command.spawn()?);
        let deadline = Instant::now() + START;
        loop {
            if let Some(address) = listening(&self.log, start)? {
                *self.address.lock().unwrap_or_else(PoisonError::into_inner) = address;
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(format!("an instance does not start: {}", self.log.display()).into());
            }
            sleep(GLANCE).await;
        }
    }

    /// Kills it, and returns when it is gone.
    pub(crate) async fn kill(&self) -> Result<()> {
        let child = self.child.lock().await.take();
        match child {
            Some(mut child) => Ok(child.kill().await?),
            None => Ok(()),
        }
    }

    /// Stops the process with SIGSTOP.
    pub(crate) async fn freeze(&self) -> Result<()> {
        self.signal(Signal::STOP).await
    }

    /// Undoes [`freeze`](Self::freeze).
    pub(crate) async fn thaw(&self) -> Result<()> {
        self.signal(Signal::CONT).await
    }

    #[allow(
        clippy::significant_drop_tightening,
        reason = "no other task may await the process, and so free its id, before the signal is sent"
    )]
    async fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.lock().await;
        let id = child.as_ref().and_then(Child::id);
        let pid = id.and_then(|id| Pid::from_raw(id.cast_signed()));
        kill_process(pid.ok_or("the instance does not run")?, signal)?;
        Ok(())
    }

    /// Waits until it is ready for requests.
    pub(crate) async fn is_ready(&self) -> Result<()> {
        self.until("/health/ready", |body| body["status"] == "ok").await
    }

    /// Waits until it reports no problem.
    pub(crate) async fn is_well(&self) -> Result<()> {
        self.until("/health", |body| body["status"] == "ok").await
    }

    /// Repeats a request until the answer is right. The caller sets a timeout.
    async fn until(&self, path: &str, is_right: impl Fn(&Value) -> bool) -> Result<()> {
        loop {
            let asked = timeout(Duration::from_secs(1), async {
                let mut connection = Connection::open(self.address()).await?;
                connection.ask(Method::GET, path, String::new()).await
            });
            if let Ok(Ok(answer)) = asked.await
                && serde_json::from_slice(&answer.body).is_ok_and(|body| is_right(&body))
            {
                return Ok(());
            }
            sleep(GLANCE * 5).await;
        }
    }
}

/// The address on which it listens, read from its log after this byte.
fn listening(log: &Path, start: u64) -> Result<Option<SocketAddr>> {
    let mut text = String::new();
    let mut file = File::open(log)?;
    file.seek(SeekFrom::Start(start))?;
    file.read_to_string(&mut text)?;
    let events = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut addresses = events
        .filter(|event| event["message"].as_str().is_some_and(|it| it.starts_with("listening")))
        .filter_map(|event| event["address"].as_str()?.parse().ok());
    Ok(addresses.next())
}
