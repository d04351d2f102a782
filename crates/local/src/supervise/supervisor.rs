//! The owner's side of the supervisor, a shell script that is the server's parent (`supervisor.sh`). Invariant: the
//! write end of its standard input is held by this process alone, so that the supervisor sees the end of this process.

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

/// What the supervisor needs to know from the beginning.
pub struct Job {
    /// Removed when the supervisor ends.
    pub run_dir: TempDir,
    /// Gets the server's output.
    pub log: PathBuf,
    /// The name of the signal that asks the server to end soon.
    pub signal: &'static str,
    /// How long it is asked before it is made to end.
    pub patience: Duration,
    /// The server's command line; the port follows.
    pub command: Vec<OsString>,
}

/// What it is asked to do.
#[derive(Debug, Clone, Copy)]
pub(super) enum Request {
    /// Start the server on this port, unless it runs; the answer is its process id.
    Start(u16),
    /// Stop it, politely first.
    Stop,
    /// Kill it with all its children.
    Crash,
    /// Stop it and its children where they stand.
    Freeze,
    /// Let them go on.
    Thaw,
}

/// A running supervisor. Dropping it ends the server and removes the run directory, in the background.
#[derive(Debug)]
pub(super) struct Supervisor {
    conversation: Mutex<Conversation>,
    /// Longer than the supervisor can take for anything.
    patience: Duration,
}

#[derive(Debug)]
struct Conversation {
    requests: ChildStdin,
    replies: mpsc::UnboundedReceiver<String>,
    /// Numbers the requests, so that the reply to one whose caller went away is not taken for another's.
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
        // Its own process group: Ctrl-C in the terminal is for the owner, who may still need its server to finish.
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
        // A thread, so that the server does not depend on a runtime: a handle may be used from several, and whichever
        // way it goes, someone waits for the child.
        let reading = thread::Builder::new().name("cenote-supervisor".into()).spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = sender.send(line); // nobody listens any more: only the end matters
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

    /// Asks and waits for the answer: a process id for `Start`, nothing otherwise.
    ///
    /// Cancel safety: once sent, a request is carried out even if the future is dropped.
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
        // A few bytes into a pipe whose reader has read everything before: this does not block.
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
