//! Why a server for a test could not be started or used. Invariant: no message holds a password.

/// The result of the functions that start or use a Redis server.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a Redis server could not be found, started or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Neither `redis-server` nor `valkey-server` is installed.
    #[error(
        "No Redis was found: looked for `redis-server` and `valkey-server` in {looked}.\nInstall it with one of\n  \
         apt-get install redis-server   (Debian, Ubuntu)\n  \
         dnf install valkey             (Fedora, RHEL)\n  \
         brew install redis             (macOS)"
    )]
    RedisMissing {
        /// The places searched, comma separated.
        looked: String,
    },

    /// The server could not be started or used, for a reason that any private server may have.
    #[error(transparent)]
    Server(#[from] cenote_local::Error),
}

/// A command to Redis failed, or Redis answered with an error.
pub(crate) fn command_failed(program: impl Into<String>, reason: impl Into<String>) -> Error {
    Error::Server(cenote_local::Error::Command {
        program: program.into(),
        reason: reason.into(),
    })
}
