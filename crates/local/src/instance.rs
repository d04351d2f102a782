//! One server process through its life: started, ready, stopped, crashed, frozen, started again; the same for
//! PostgreSQL and Redis. Invariant: it returns to the port it first got, so that clients find it again.

use std::{
    fs::{self, File},
    io::{Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use cenote_secret::Secret;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::{Instant, sleep, timeout},
};

use crate::{
    Error, Result,
    account::Account,
    port, process,
    supervisor::{Job, Request, Supervisor},
};

const POLL: Duration = Duration::from_millis(5);
const PORT_ATTEMPTS: u32 = 5;

/// How to tell that a server accepts connections.
#[derive(Debug)]
pub(crate) enum Probe {
    /// PostgreSQL writes its state to this file, which is also what `pg_ctl` waits for.
    PostmasterFile(PathBuf),
    /// Redis answers PING after this password.
    Ping(Secret<String>),
}

/// A server and what is needed to start it again.
#[derive(Debug)]
pub(crate) struct Instance {
    program: &'static str,
    supervisor: Supervisor,
    probe: Probe,
    log: PathBuf,
    deadline: Duration,
    port: u16,
    /// 0 while it is known not to run.
    pid: AtomicU32,
}

impl Instance {
    /// Hands the job to a supervisor. Nothing runs before [`launch`](Self::launch); but from here on the run directory
    /// is removed even if this process is killed.
    pub(crate) fn new(
        program: &'static str,
        account: &Account,
        job: Job,
        probe: Probe,
        deadline: Duration,
    ) -> Result<Self> {
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

    /// Starts the server for the first time, on a free port.
    pub(crate) async fn launch(&mut self) -> Result<()> {
        let mut attempt = 1;
        loop {
            self.port = port::free()?;
            match self.start().await {
                Err(Error::Exited { log, .. }) if log.contains(PORT_TAKEN) && attempt < PORT_ATTEMPTS => attempt += 1,
                started => return started,
            }
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    pub(crate) fn log(&self) -> &Path {
        &self.log
    }

    /// The last lines of the log.
    pub(crate) fn log_end(&self) -> String {
        tail(&self.log, 0)
    }

    /// The server's process, `None` after a stop or kill, or if it ended by itself.
    pub(crate) fn pid(&self) -> Option<u32> {
        Some(self.pid.load(Ordering::Relaxed)).filter(|pid| *pid != 0 && process::is_running(*pid))
    }

    pub(crate) async fn kill(&self) -> Result<()> {
        self.supervisor.ask(Request::Crash).await?;
        self.pid.store(0, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) async fn freeze(&self) -> Result<()> {
        self.supervisor.ask(Request::Freeze).await.map(drop)
    }

    pub(crate) async fn thaw(&self) -> Result<()> {
        self.supervisor.ask(Request::Thaw).await.map(drop)
    }

    pub(crate) async fn stop(&self) -> Result<()> {
        self.supervisor.ask(Request::Stop).await?;
        self.pid.store(0, Ordering::Relaxed);
        Ok(())
    }

    pub(crate) async fn restart(&self) -> Result<()> {
        self.stop().await?;
        let mut attempt = 1;
        loop {
            match self.start().await {
                // Somebody connects through this port just now; it is ours again in a moment.
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
        while !self.ready(pid).await {
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

    async fn ready(&self, pid: u32) -> bool {
        match &self.probe {
            Probe::PostmasterFile(path) => fs::read_to_string(path).is_ok_and(|content| {
                let mut lines = content.lines();
                lines.next() == Some(&pid.to_string()) && lines.nth(6).is_some_and(|state| state.trim() == "ready")
            }),
            Probe::Ping(password) => {
                let exchange = async {
                    let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
                    stream
                        .write_all(format!("AUTH {}\r\nPING\r\n", password.expose()).as_bytes())
                        .await?;
                    let mut answer = [0; "+OK\r\n+PONG\r\n".len()];
                    stream.read_exact(&mut answer).await?;
                    Ok::<_, std::io::Error>(answer)
                };
                let answer = timeout(Duration::from_secs(1), exchange).await;
                matches!(answer, Ok(Ok(answer)) if answer == *b"+OK\r\n+PONG\r\n")
            }
        }
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
