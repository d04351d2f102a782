//! The account that runs the servers. Invariant: no server and no helper program runs as root.

use std::{
    ffi::OsStr,
    fs::{DirBuilder, OpenOptions},
    io::Write,
    os::unix::{
        fs::{DirBuilderExt, OpenOptionsExt, chown},
        process::CommandExt,
    },
    path::Path,
    process::{Command as StdCommand, Stdio},
};

use tokio::process::Command;

use crate::error::{Doing, Error, Result};

/// The account that owns the servers' processes and files.
#[derive(Debug, Clone)]
pub struct Account {
    /// Its user id.
    pub(crate) uid: u32,
    /// User and group to switch to; `None` when this process already has the right ones.
    switch: Option<(u32, u32)>,
}

impl Account {
    /// The caller's own account, or as root `postgres`, else `nobody`.
    pub async fn choose() -> Result<Self> {
        let uid = rustix::process::geteuid().as_raw();
        if uid != 0 {
            return Ok(Self { uid, switch: None });
        }
        for name in ["postgres", "nobody"] {
            if let (Some(uid), Some(gid)) = tokio::join!(id("-u", name), id("-g", name))
                && uid != 0
            {
                return Ok(Self {
                    uid,
                    switch: Some((uid, gid)),
                });
            }
        }
        Err(Error::NoAccount)
    }

    /// Whether this process is root and the account is another one.
    pub(super) fn is_other(&self) -> bool {
        self.switch.is_some()
    }

    /// A command that will run as this account, from `/`, untouched by the caller's `PG…` variables.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>) -> StdCommand {
        let mut command = StdCommand::new(program);
        command.current_dir("/").stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            if name.as_encoded_bytes().starts_with(b"PG") {
                command.env_remove(name);
            }
        }
        if let Some((uid, gid)) = self.switch {
            command.uid(uid).gid(gid); // std drops the supplementary groups too
        }
        command
    }

    /// Runs `command` to its end and returns its standard output.
    ///
    /// Cancel safety: dropping the future kills the program.
    pub(crate) async fn run(&self, command: StdCommand, input: &str) -> Result<String> {
        use tokio::io::AsyncWriteExt;

        let program = Path::new(command.get_program())
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let failed = |reason: String| Error::Command {
            program: program.clone(),
            reason,
        };
        let mut command = Command::from(command);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| failed(error.to_string()))?;
        if let Some(mut stdin) = child.stdin.take() {
            // A program that ends without reading its input says why on stderr.
            let _ = stdin.write_all(input.as_bytes()).await;
        }
        let output = child
            .wait_with_output()
            .await
            .map_err(|error| failed(error.to_string()))?;
        let stderr = String::from_utf8_lossy(&output.stderr);
        // A stand-alone `postgres` reports a failed statement and still exits with 0.
        if !output.status.success() || stderr.contains("ERROR:") {
            return Err(failed(format!("{}, {}", output.status, stderr.trim())));
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Creates a directory that only this account may enter.
    pub(crate) fn create_dir(&self, path: &Path) -> Result<()> {
        DirBuilder::new()
            .mode(0o700)
            .create(path)
            .doing(|| format!("creating {}", path.display()))?;
        self.own(path)
    }

    /// Creates a file that only this account may read; fails if it exists.
    pub fn create_file(&self, path: &Path, content: &str) -> Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        let written = options.open(path).and_then(|mut file| {
            file.write_all(content.as_bytes())?;
            file.sync_all()
        });
        written.doing(|| format!("writing {}", path.display()))?;
        self.own(path)
    }

    /// Makes this account the owner of a file or directory this process has just made.
    pub(crate) fn own(&self, path: &Path) -> Result<()> {
        match self.switch {
            Some((uid, gid)) => {
                chown(path, Some(uid), Some(gid)).doing(|| format!("changing owner of {}", path.display()))
            }
            None => Ok(()),
        }
    }
}

async fn id(which: &str, name: &str) -> Option<u32> {
    let output = Command::new("id")
        .args([which, name])
        .stdin(Stdio::null())
        .output()
        .await
        .ok()?;
    String::from_utf8_lossy(&output.stdout).trim().parse().ok()
}
