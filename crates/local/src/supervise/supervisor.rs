//! Starts and controls a supervisor: a shell script (`supervisor.sh`) that is the parent of the server. Invariant: only
//! this process holds the write end of the supervisor's standard input, so the supervisor sees when this process ends.

use std::{
    ffi::OsString,
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{ChildStdin, Stdio},
    thread,
    time::Duration,
};

use tempfile::TempDir;
use tokio::{
    sync::{Mutex, mpsc},
    time::timeout,
};

use super::account::Account;
use crate::error::{Doing, Error, Result};

const SCRIPT: &str = include_str!("supervisor.sh");

/// The server that a supervisor runs.
pub struct Job {
    /// Removed when the supervisor ends.
    pub run_dir: TempDir,
    /// Gets the server's output.
    pub log: PathBuf,
    /// The name of the signal that asks the server to end soon.
    pub signal: &'static str,
    /// How long the signal is repeated before the server is killed.
    pub patience: Duration,
    /// The server's command line; the port follows.
    pub command: Vec<OsString>,
}

/// A request to the supervisor.
#[derive(Debug, Clone, Copy)]
pub(super) enum Request {
    /// Start the server on this port, unless it runs. The answer is its process id.
    Start(u16),
    /// Stop it with the signal; kill it after `patience`.
    Stop,
    /// Kill it with all its children.
    Crash,
    /// Stop it and its children with SIGSTOP.
    Freeze,
    /// Continue them with SIGCONT.
    Thaw,
}

/// A running supervisor. Dropping it ends the server and removes the run directory, in the background.
#[derive(Debug)]
pub(super) struct Supervisor {
    conversation: Mutex<Conversation>,
    /// Timeout of a request: longer than the supervisor takes for any.
    patience: Duration,
}

#[derive(Debug)]
struct Conversation {
    requests: ChildStdin,
    replies: mpsc::UnboundedReceiver<String>,
    /// Numbers the requests, so that the reply to a request whose future was dropped is not taken for a later one's.
    number: u64,
}

impl Supervisor {
    /// Starts the supervisor, not yet the server.
    pub(super) fn start(account: &Account, job: Job) -> Result<Self> {
        let mut command = account.command("/bin/sh");
        command.args(["-c", SCRIPT, "cenote-supervisor"]);
        command
            .arg(job.run_dir.path())
            .arg(&job.log)
            .arg(job.signal)
            .arg(job.patience.as_secs().to_string());
        command.args(&job.command);
        // Its own process group, so that Ctrl-C in a terminal does not stop the server: its owner may still need it.
        command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let doing = || "starting /bin/sh".into();
        let mut child = command.spawn().doing(doing)?;
        let (Some(requests), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(Error::SupervisorLost { reason: "has no pipes" });
        };
        let run_dir = job.run_dir.keep();
        let (sender, replies) = mpsc::unbounded_channel();
        // A thread instead of a task: a handle may be used from several runtimes, and the child must be waited for even
        // after the runtime has ended.
        let reading = thread::Builder::new().name("cenote-supervisor".into()).spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = sender.send(line); // fails after the handle was dropped; then only the end matters
            }
            let _ = child.wait();
            let _ = fs::remove_dir_all(run_dir); // for a parent directory in which only root may remove
        });
        reading.doing(|| "starting a thread".into())?;
        let conversation = Mutex::new(Conversation {
            requests,
            replies,
            number: 0,
        });
        Ok(Self {
            conversation,
            patience: job.patience + Duration::from_secs(15),
        })
    }

    /// Sends a request and waits for the answer: a process id for `Start`, otherwise `None`.
    ///
    /// Cancel safety: once sent, a request is carried out even if the future is dropped.
    #[allow(
        clippy::significant_drop_tightening,
        reason = "one request at a time, each with its reply"
    )]
    pub(super) async fn ask(&self, request: Request) -> Result<Option<u32>> {
        let mut conversation = self.conversation.lock().await;
        conversation.number += 1;
        let number = conversation.number.to_string();
        let line = match request {
            Request::Start(port) => format!("{number} start {port}\n"),
            Request::Stop => format!("{number} stop\n"),
            Request::Crash => format!("{number} crash\n"),
            Request::Freeze => format!("{number} freeze\n"),
            Request::Thaw => format!("{number} thaw\n"),
        };
        // Does not block: the pipe is empty, because the supervisor reads each request before it answers.
        let sent = conversation.requests.write_all(line.as_bytes());
        sent.map_err(|_| Error::SupervisorLost { reason: "has ended" })?;
        let reply = timeout(self.patience, async {
            loop {
                match conversation.replies.recv().await {
                    Some(reply) => match reply.split_once(' ') {
                        Some((to, answer)) if to == number => break Ok(answer.to_owned()),
                        _ => {} // the reply to an abandoned request
                    },
                    None => {
                        break Err(Error::SupervisorLost { reason: "has ended" });
                    }
                }
            }
        });
        let answer = reply.await.map_err(|_| Error::SupervisorLost {
            reason: "does not answer",
        })??;
        match answer.strip_prefix("ok") {
            Some(pid) => Ok(pid.trim().parse().ok()),
            None => Err(Error::NotRunning),
        }
    }
}
