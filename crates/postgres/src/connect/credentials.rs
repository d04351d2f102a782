//! The source of a password that may change while the pool runs.
//!
//! Invariant: the password is read for each connection, and never printed.

use std::{
    fmt, fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use futures_util::future::BoxFuture;

use crate::connect::passfile::{self, Wanted};

/// The source of the password, read for each new connection. After a rotation new connections use the new password;
/// open ones continue.
#[derive(Clone)]
pub struct Password(Source);

#[derive(Clone)]
enum Source {
    File(PathBuf),
    Passfile(PathBuf, Vec<Wanted>),
    Function(Arc<Function>),
}

type Function = dyn Fn() -> BoxFuture<'static, io::Result<String>> + Send + Sync;

impl Password {
    /// Reads the password from a file, without the line end after it.
    pub fn from_file(path: impl Into<PathBuf>) -> Self {
        Self(Source::File(path.into()))
    }

    /// Calls a function for the password, such as a token that expires. Its time counts towards the connect timeout.
    ///
    /// ```
    /// use cenote_postgres::{Config, Password};
    /// # fn example() -> Result<(), cenote_postgres::InvalidConfig> {
    /// # async fn fetch_token() -> std::io::Result<String> { Ok(String::new()) }
    /// let mut config = Config::from_url("postgresql://app@localhost/shop")?;
    /// config.password = Some(Password::from_fn(fetch_token));
    /// # Ok(())
    /// # }
    /// ```
    pub fn from_fn<F, Fut>(function: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<String>> + Send + 'static,
    {
        Self(Source::Function(Arc::new(move || Box::pin(function()))))
    }

    /// Reads a passfile of libpq, if it has a password for these servers now.
    ///
    /// # Errors
    ///
    /// The servers have different passwords.
    pub(crate) fn from_passfile(path: PathBuf, servers: Vec<Wanted>) -> io::Result<Option<Self>> {
        let found = read_passfile(&path, &servers)?;
        Ok(found.map(|_| Self(Source::Passfile(path, servers))))
    }

    /// Returns the file with the password, if it is in one.
    #[cfg(feature = "serde")]
    pub(crate) fn file(&self) -> Option<&Path> {
        match &self.0 {
            Source::File(path) => Some(path),
            Source::Passfile(..) | Source::Function(_) => None,
        }
    }

    pub(crate) async fn get(&self) -> io::Result<String> {
        match &self.0 {
            Source::Function(function) => function().await,
            Source::Passfile(path, servers) => {
                let (path, servers) = (path.clone(), servers.clone());
                let read = tokio::task::spawn_blocking(move || read_passfile(&path, &servers));
                let found = read.await.map_err(io::Error::other)??;
                found.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the passfile has no password any more"))
            }
            Source::File(path) => {
                let path = path.clone();
                // Not on the runtime: the disk may be slow.
                let read = tokio::task::spawn_blocking(move || fs::read_to_string(path));
                let mut text = read.await.map_err(io::Error::other)??;
                text.truncate(text.trim_end_matches(['\n', '\r']).len());
                match text.is_empty() {
                    true => Err(io::Error::new(io::ErrorKind::InvalidData, "the password file is empty")),
                    false => Ok(text),
                }
            }
        }
    }
}

/// Returns the password that all servers have. Like libpq, ignores a file that others may read, and says so.
fn read_passfile(path: &Path, servers: &[Wanted]) -> io::Result<Option<String>> {
    let shown = path.display();
    let file = match fs::metadata(path) {
        Ok(file) => file,
        Err(_) => return Ok(None),
    };
    if !file.is_file() {
        tracing::warn!("the passfile {shown} is ignored: it is not a plain file");
        return Ok(None);
    }
    if file.permissions().mode() & 0o077 != 0 {
        tracing::warn!("the passfile {shown} is ignored: others may read it; chmod 600 it");
        return Ok(None);
    }
    let text = fs::read(path)?;
    let mut passwords = servers.iter().map(|server| passfile::password(&text, server));
    let first = passwords.next().flatten();
    if passwords.any(|password| password != first) {
        let problem = "the passfile has different passwords for the hosts; one connection string has one password";
        return Err(io::Error::new(io::ErrorKind::InvalidData, problem));
    }
    let password = first
        .filter(|password| !password.is_empty())
        .map(String::from_utf8)
        .transpose();
    password.map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "a password in the passfile is not UTF-8"))
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::File(path) => f.debug_tuple("File").field(path).finish(),
            Source::Passfile(path, _) => f.debug_tuple("Passfile").field(path).finish(),
            Source::Function(_) => f.write_str("Function"),
        }
    }
}
