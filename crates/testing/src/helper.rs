//! What several tests do: ask a server through `psql`, wait for a condition, run a test as its own process.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed test setup may panic")]

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use cenote_local::PostgresServer;
use tokio::time::{Instant, sleep};

/// The environment variable that tells a test that it runs as the helper process of another test.
pub const HELPER: &str = "CENOTE_LOCAL_TEST_HELPER";

/// A `psql` command that runs one statement.
pub fn psql(server: &PostgresServer, statement: &str) -> tokio::process::Command {
    let mut command = tokio::process::Command::new("sh");
    command
        .arg("-c")
        .arg(format!("{} -X -A -t -v ON_ERROR_STOP=1 -c \"$1\"", server.psql_line()))
        .args(["sh", statement]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

/// Runs one statement and returns its values.
///
/// # Panics
/// The statement fails.
pub async fn ask(server: &PostgresServer, statement: &str) -> String {
    let output = psql(server, statement).output().await.unwrap();
    assert!(
        output.status.success(),
        "{statement}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Waits until `condition` holds.
///
/// # Panics
/// It does not hold within `limit`.
pub async fn eventually(what: &str, limit: Duration, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < limit, "not within {limit:?}: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Whether a process runs. A zombie does not.
pub fn runs(pid: u32) -> bool {
    match std::fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => !stat.rsplit_once(") ").unwrap().1.starts_with(['Z', 'X']),
        Err(_) if Path::new("/proc/self").exists() => false,
        Err(_) => {
            let output = Command::new("ps")
                .args(["-o", "stat=", "-p", &pid.to_string()])
                .output()
                .unwrap();
            !matches!(output.stdout.trim_ascii().first(), None | Some(b'Z'))
        }
    }
}

/// A command that runs one ignored test of this test program in its own process.
pub fn helper(program: &Path, test: &str, role: &str) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--exact", test, "--ignored", "--nocapture", "--test-threads=1"])
        .env(HELPER, role)
        .current_dir("/");
    command
}

/// Starts a helper and returns the words that it prints after `ready:`.
///
/// # Panics
/// It ends before that.
pub fn start_helper(mut command: Command) -> (Child, Vec<String>) {
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = lines
        .map_while(Result::ok)
        .find_map(|line| line.split_once("ready:").map(|(_, words)| words.to_owned()));
    let words = line
        .expect("the helper ended early")
        .split_whitespace()
        .map(str::to_owned)
        .collect();
    (child, words)
}

/// What a program printed, for a failure message.
pub fn printed(output: &Output) -> String {
    format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
