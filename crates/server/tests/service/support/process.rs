//! The program as a process.
//!
//! Invariant: it sees only the environment that it is given, and ends with its handle.

use std::{
    fs,
    io::Read,
    net::TcpListener,
    os::{fd::OwnedFd, unix::process::CommandExt},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::Instant;

use super::{SOON, eventually, eventually_within};

/// How the program will be started.
pub(crate) struct Launch {
    directory: TempDir,
    command: Command,
}

impl Launch {
    pub(crate) fn new(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_cenote"));
        command.args(arguments).env_clear();
        if arguments.first() == Some(&"serve") {
            // How much of the machine's memory other programs use is no concern of a test.
            command.envs([("MEMORY_WARN", "0"), ("MEMORY_CRITICAL", "0")]);
        }
        for name in ["PATH", "PG_BIN"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .current_dir(directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self { directory, command }
    }

    pub(crate) fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    pub(crate) fn envs(mut self, variables: &[(&str, &str)]) -> Self {
        self.command.envs(variables.iter().copied());
        self
    }

    /// Puts a file into the working directory of the program.
    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.directory.path().join(name), text).unwrap();
        self
    }

    /// Gives it another standard input.
    pub(crate) fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.command.stdin(stdin);
        self
    }

    /// Gives it another standard output, which the test does not read.
    pub(crate) fn stdout(mut self, stdout: impl Into<Stdio>) -> Self {
        self.command.stdout(stdout);
        self
    }

    /// Gives it another standard error, which the test does not read.
    pub(crate) fn stderr(mut self, stderr: impl Into<Stdio>) -> Self {
        self.command.stderr(stderr);
        self
    }

    /// Starts it by a shell script; in the script, `"$@"` is the program with its arguments.
    pub(crate) fn through(mut self, script: &str) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", script, "sh"]);
        command.arg(self.command.get_program());
        command.args(self.command.get_args());
        command.env_clear();
        for (name, value) in self.command.get_envs() {
            command.envs(value.map(|value| (name, value)));
        }
        command.current_dir(self.directory.path());
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        self.command = command;
        self
    }

    /// Passes it this socket as systemd does: as file 3, with the variables that say so.
    pub(crate) fn passing(self, socket: &TcpListener) -> Self {
        let script = r#"exec 3<&0 0</dev/null; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@""#;
        let mut launch = self.through(script);
        launch.command.stdin(OwnedFd::from(socket.try_clone().unwrap()));
        launch
    }

    /// Makes it the leader of a process group, as a shell does.
    pub(crate) fn own_group(mut self) -> Self {
        self.command.process_group(0);
        self
    }

    pub(crate) fn spawn(mut self) -> Process {
        let mut child = self.command.spawn().unwrap();
        Process {
            output: child.stdout.take().map_or_else(Pipe::none, Pipe::read),
            log: child.stderr.take().map_or_else(Pipe::none, Pipe::read),
            child,
            started: Instant::now(),
            directory: self.directory,
        }
    }

    /// Runs it to its end.
    pub(crate) async fn run(self) -> Ended {
        self.spawn().ended(SOON).await
    }
}

/// What was read from a pipe so far, and whether it has ended.
#[derive(Clone)]
struct Pipe(Arc<Mutex<(Vec<u8>, bool)>>);

impl Pipe {
    fn none() -> Self {
        Self(Arc::new(Mutex::new((Vec::new(), true))))
    }

    fn read(mut pipe: impl Read + Send + 'static) -> Self {
        let this = Self(Arc::default());
        let content = this.0.clone();
        thread::spawn(move || {
            let mut chunk = [0; 4096];
            while let Ok(n @ 1..) = pipe.read(&mut chunk) {
                content.lock().unwrap().0.extend_from_slice(&chunk[..n]);
            }
            content.lock().unwrap().1 = true;
        });
        this
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap().0).into_owned()
    }

    /// Waits for the end of the pipe.
    async fn whole(&self) -> String {
        eventually("the pipe ends", async || self.0.lock().unwrap().1.then_some(())).await;
        self.text()
    }
}

/// The running program; killed when dropped.
pub(crate) struct Process {
    child: Child,
    output: Pipe,
    log: Pipe,
    started: Instant,
    directory: TempDir,
}

/// How the program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) output: String,
    pub(crate) log: String,
    /// From its start.
    pub(crate) took: Duration,
}

impl Ended {
    /// The line in which the program says why it failed. Lines of the log may follow it.
    #[track_caller]
    pub(crate) fn reason(&self) -> &str {
        let reason = self.log.lines().find(|line| line.starts_with("cenote: "));
        reason.unwrap_or_else(|| panic!("no reason: {self:?}"))
    }
}

impl Process {
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends a signal: `TERM`, `INT`.
    pub(crate) fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &id]).status();
        assert!(sent.unwrap().success());
    }

    /// Sends a signal to the process group that it leads.
    pub(crate) fn signal_group(&self, name: &str) {
        let group = format!("-{}", self.id());
        let sent = Command::new("kill").args(["-s", name, "--", &group]).status();
        assert!(sent.unwrap().success());
    }

    /// The path of a file in its working directory.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Replaces a file in its working directory, as a careful program does: nobody reads half of it.
    pub(crate) fn write_file(&self, name: &str, text: &str) {
        let new = self.path(&format!("{name}.new"));
        fs::write(&new, text).unwrap();
        fs::rename(new, self.path(name)).unwrap();
    }

    /// What it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.log.text()
    }

    /// Waits for a line of the log whose message starts like this.
    pub(crate) async fn logged(&self, message: &str) -> Value {
        self.logged_with(message, |_| true).await
    }

    /// Waits for a line of the log whose message starts like this and for which the condition holds.
    pub(crate) async fn logged_with(&self, message: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let is_wanted = |event: &Value| {
            let text = event["message"].as_str();
            text.is_some_and(|text| text.starts_with(message)) && holds(event)
        };
        eventually(&format!("{message:?} in the log"), async || {
            let log = self.log();
            let mut events = log.lines().filter_map(|line| serde_json::from_str(line).ok());
            events.find(&is_wanted)
        })
        .await
    }

    /// How many lines of the log have a message that starts like this.
    pub(crate) fn times_logged(&self, message: &str) -> usize {
        let log = self.log();
        let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let is_wanted = |event: &Value| event["message"].as_str().is_some_and(|text| text.starts_with(message));
        events.filter(is_wanted).count()
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self, limit: Duration) -> Ended {
        let status = eventually_within(limit, "the program ends", async || self.child.try_wait().unwrap()).await;
        let took = self.started.elapsed();
        Ended {
            code: status.code(),
            output: self.output.whole().await,
            log: self.log.whole().await,
            took,
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("--- the program's log ---\n{}", self.log());
        }
    }
}
