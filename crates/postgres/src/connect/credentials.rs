//! The source of a password that may change while the pool runs.
//!
//! Invariant: the password is read for each connection, and never printed.

use std::{fmt, fs, io, path::PathBuf, sync::Arc};

use futures_util::future::BoxFuture;

/// The source of the password, read for each new connection. After a rotation new connections use the new password;
/// open ones continue.
#[derive(Clone)]
pub struct Password(Source);

#[derive(Clone)]
enum Source {
    File(PathBuf),
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

    pub(crate) async fn get(&self) -> io::Result<String> {
        match &self.0 {
            Source::Function(function) => function().await,
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

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Source::File(path) => f.debug_tuple("File").field(path).finish(),
            Source::Function(_) => f.write_str("Function"),
        }
    }
}
