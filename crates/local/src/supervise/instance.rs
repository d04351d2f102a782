//! One server process: start, wait until ready, stop, kill, freeze, restart. Invariant: the server keeps its first
//! port, so clients find it again after a restart.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::time::{Instant, sleep};

use super::{
    account::Account,
    port, process,
    supervisor::{Job, Request, Supervisor},
};
use crate::error::{Error, Result};

/// How often a starting server is asked whether it is ready.
const POLL: Duration = Duration::from_millis(5);
/// How often another port is tried: a free port may be taken before the server listens on it.
const PORT_ATTEMPTS: u32 = 5;

/// Tells whether a server accepts connections.
pub trait Probe: Send + Sync {
    /// Whether the process `pid` accepts connections on `port` of 127.0.0.1. It is asked every few milliseconds.
    fn is_ready(&self, pid: u32, port: u16) -> impl Future<Output = bool> + Send;
}

/// A server process and what is needed to start it again. Dropping it stops the server in the background.
#[derive(Debug)]
pub struct Instance<P> {
    program: &'static str,
    supervisor: Supervisor,
    probe: P,
    log: PathBuf,
    deadline: Duration,
    port: u16,
    /// 0 after a stop or kill. Relaxed: nothing else is read because of it.
    pid: AtomicU32,
}

impl<P: Probe> Instance<P> {
    /// Starts a supervisor for the job. The server runs only after [`launch`](Self::launch), but from now on the run
    /// directory is removed even if this process is killed.
    ///
    /// # Errors
    /// [`Error::Io`] if the supervisor cannot be started.
    pub fn new(program: &'static str, account: &Account, job: Job, probe: P, deadline: Duration) -> Result<Self> {
        let log = job.log.clone();
        let supervisor = Supervisor::start(account, job)?;
        Ok(Self {
            program,
            supervisor,
            probe,
            log,
            deadline,
            port: 0,
            pid: AtomicU32::new(0),
        })
    }

    /// Starts the server for the first time, on a free port, and returns when it accepts connections.
    ///
    /// # Errors
    /// [`Error::Exited`], [`Error::StartTimeout`], [`Error::SupervisorLost`].
    ///
    /// # Cancel safety
    /// If the future is dropped, the server may run. It ends when the handle is dropped.
    pub async fn launch(&mut self) -> Result<()> {
        let mut attempt = 1;
        loop {
            self.port = port::free()?;
            match self.start().await {
                Err(Error::Exited { log, .. }) if log.contains(PORT_TAKEN) && attempt < PORT_ATTEMPTS => attempt += 1,
                started => return started,
            }
        }
    }

    /// The port on 127.0.0.1; the same for the life of this handle.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The file that gets the server's output.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of the log.
    #[must_use]
    pub fn log_end(&self) -> String {
        tail(&self.log, 0)
    }

    /// The server's process id; `None` after a stop or kill, or if the server has ended by itself.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        Some(self.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0 && process::is_running(*pid))
    }

    /// Kills the server with all its children and returns when they are gone.
    ///
    /// # Errors
    /// [`Error::NotRunning`], [`Error::SupervisorLost`].
    ///
    /// # Cancel safety
    /// Once polled, it completes even if the future is dropped.
    pub async fn kill(&self) -> Result<()> {
        self.supervisor.ask(Request::Crash).await?;
        self.pid.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Stops the server and its children with SIGSTOP, and returns when they have stopped.
    ///
    /// Errors and cancel safety: as [`kill`](Self::kill).
    pub async fn freeze(&self) -> Result<()> {
        self.supervisor.ask(Request::Freeze).await.map(drop)
    }

    /// Undoes [`freeze`](Self::freeze).
    ///
    /// Errors and cancel safety: as [`kill`](Self::kill).
    pub async fn thaw(&self) -> Result<()> {
        self.supervisor.ask(Request::Thaw).await.map(drop)
    }

    /// Sends the signal of the [`Job`] and returns when the server has ended. Does nothing if it does not run.
    ///
    /// # Errors
    /// [`Error::SupervisorLost`].
    ///
    /// # Cancel safety
    /// Once polled, it completes even if the future is dropped.
    pub async fn stop(&self) -> Result<()> {
        self.supervisor.ask(Request::Stop).await?;
        self.pid.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Stops the server if it runs, starts it on the same port, and returns when it accepts connections.
    ///
    /// # Errors
    /// Those of [`launch`](Self::launch).
    ///
    /// # Cancel safety
    /// If the future is dropped, the server may be stopped, starting or running.
    pub async fn restart(&self) -> Result<()> {
        self.stop().await?;
        let mut attempt = 1;
        loop {
            match self.start().await {
                // An outgoing connection has this port as its source at the moment, and will give it back.
                Err(Error::Exited { log, .. }) if log.contains(PORT_TAKEN) && attempt < 5 * PORT_ATTEMPTS => {
                    attempt += 1;
                    sleep(Duration::from_millis(200)).await;
                }
                started => return started,
            }
        }
    }

    /// Starts the server and waits until it accepts connections.
    async fn start(&self) -> Result<()> {
        let log_start = fs::metadata(&self.log).map_or(0, |meta| meta.len());
        let begun = Instant::now();
        let Some(pid) = self.supervisor.ask(Request::Start(self.port)).await? else {
            return Err(Error::SupervisorLost {
                reason: "named no process",
            });
        };
        self.pid.store(pid, Ordering::Relaxed);
        while !self.probe.is_ready(pid, self.port).await {
            if !process::is_running(pid) {
                return Err(Error::Exited {
                    program: self.program,
                    log: tail(&self.log, log_start),
                });
            }
            if begun.elapsed() > self.deadline {
                let log = tail(&self.log, log_start);
                self.stop().await?;
                return Err(Error::StartTimeout {
                    program: self.program,
                    waited: self.deadline,
                    log,
                });
            }
            sleep(POLL).await;
        }
        Ok(())
    }
}

/// Both servers log the system's words for `EADDRINUSE`.
const PORT_TAKEN: &str = "Address already in use";

/// The last lines a server has logged since `start`.
fn tail(log: &Path, start: u64) -> String {
    let mut bytes = Vec::new();
    let read = File::open(log).and_then(|mut file| {
        let end = file.metadata()?.len();
        file.seek(SeekFrom::Start(start.max(end.saturating_sub(8192))))?;
        file.read_to_end(&mut bytes)
    });
    if let Err(error) = read {
        return format!("({} cannot be read: {error})", log.display());
    }
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.trim_end().lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
