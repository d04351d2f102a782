//! The errors. Invariant: each message names the path, program or version concerned, and the cause, so no error has a
//! source; no message holds a password.

use std::{io, path::PathBuf, time::Duration};

/// The result of every fallible function in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a server could not be found, started or controlled.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No usable PostgreSQL installation.
    #[error(
        "PostgreSQL {minimum} or newer was not found. Looked in: {looked}.\nInstall it with one of\n  \
         apt-get install postgresql                 (Debian, Ubuntu)\n  \
         dnf install postgresql-server postgresql   (Fedora, RHEL)\n  \
         brew install postgresql@17                 (macOS)\n\
         or point PG_BIN at the directory that holds `postgres` and `initdb`."
    )]
    PostgresMissing {
        /// The oldest supported major version.
        minimum: u32,
        /// The places searched, comma separated.
        looked: String,
    },

    /// PostgreSQL is installed, but only in versions that are too old.
    #[error(
        "PostgreSQL {minimum} or newer is needed, but the newest found is {found} in {}.\nInstall a newer one with one of\n  \
         apt-get install postgresql                 (Debian, Ubuntu)\n  \
         dnf install postgresql-server postgresql   (Fedora, RHEL)\n  \
         brew install postgresql@17                 (macOS)\n\
         or point PG_BIN at the directory that holds a newer one.", dir.display()
    )]
    PostgresTooOld {
        /// The oldest supported major version.
        minimum: u32,
        /// The newest version found.
        found: String,
        /// Its directory.
        dir: PathBuf,
    },

    /// A client program (`psql`, `pg_basebackup`) is needed for this call and is not installed.
    #[error("`{program}` was not found beside the server's programs or in PATH; install the PostgreSQL client package")]
    ClientMissing {
        /// The program's name.
        program: &'static str,
    },

    /// This process is root, and no unprivileged account exists to run the server as.
    #[error("servers do not run as root, and there is neither a user `postgres` nor `nobody` to run them as")]
    NoAccount,

    /// Another process uses this data directory.
    #[error(
        "{} is in use by another process{}; stop that one first or choose another directory", dir.display(),
        pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default()
    )]
    AlreadyRunning {
        /// The directory given to `persistent`.
        dir: PathBuf,
        /// The owner or the server that uses it, when known.
        pid: Option<u32>,
    },

    /// The data directory was written by another major version of PostgreSQL.
    #[error(
        "{} holds data of PostgreSQL {cluster}, but the installed server is {server}; point PG_BIN at PostgreSQL \
         {cluster}, run pg_upgrade, or choose another directory", dir.display()
    )]
    OtherMajorVersion {
        /// The data directory.
        dir: PathBuf,
        /// The version that wrote it.
        cluster: String,
        /// The version found on this machine.
        server: u32,
    },

    /// The directory exists but cannot be used as a data directory.
    #[error("{} cannot hold a private server: {reason}", dir.display())]
    UnusableDirectory {
        /// The directory.
        dir: PathBuf,
        /// What is wrong with it.
        reason: String,
    },

    /// A setting's name or value cannot be passed to the server.
    #[error("setting `{name}` is not usable: {reason}")]
    InvalidSetting {
        /// The setting's name.
        name: String,
        /// What is wrong with it.
        reason: &'static str,
    },

    /// The server ended instead of starting.
    #[error("{program} ended while starting. The end of its log:\n{log}")]
    Exited {
        /// The server program.
        program: &'static str,
        /// The last lines of its log.
        log: String,
    },

    /// The server did not accept connections in time.
    #[error("{program} did not accept connections within {waited:?}. The end of its log:\n{log}")]
    StartTimeout {
        /// The server program.
        program: &'static str,
        /// The time limit.
        waited: Duration,
        /// The last lines of its log.
        log: String,
    },

    /// The call needs a running server.
    #[error("the server is not running")]
    NotRunning,

    /// The supervisor ended or stopped answering; the server's state is unknown.
    #[error("the server's supervisor {reason}")]
    SupervisorLost {
        /// What happened.
        reason: &'static str,
    },

    /// A helper program (`initdb`, `psql`, …) failed.
    #[error("{program} failed: {reason}")]
    Command {
        /// The program.
        program: String,
        /// Its exit status and what it wrote to stderr.
        reason: String,
    },

    /// A file or process operation failed.
    #[error("{doing}: {cause}")]
    Io {
        /// What was being done, with the path.
        doing: String,
        /// The operating system's answer.
        cause: io::Error,
    },
}

/// Adds what was being done to an `io::Error`.
pub(crate) trait Doing<T> {
    /// Builds the description only on failure.
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, what: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|cause| Error::Io { doing: what(), cause })
    }
}
