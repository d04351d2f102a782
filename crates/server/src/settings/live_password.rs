//! Passwords that may change while the service runs.
//!
//! Invariant: a password in a file is read for each new connection, any other is that of the last load. None is printed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use cenote_cache::{RedisPassword, RedisUrl};
use cenote_postgres::{ConnectionString, Password};
use cenote_secret::Secret;

/// Where a password is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PasswordSource {
    /// Here.
    Text(Secret<String>),
    /// In a file, alone.
    File(PathBuf),
    /// In a file with a URL of PostgreSQL.
    DatabaseUrl(PathBuf),
    /// In a file with URLs of Redis, which have the same.
    RedisUrl(PathBuf),
}

/// A password that connections ask for when they are opened. Clones share its source.
#[derive(Clone, Debug)]
pub(crate) struct LivePassword(Arc<ArcSwap<PasswordSource>>);

impl LivePassword {
    pub(crate) fn new(source: PasswordSource) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(source)))
    }

    pub(crate) fn source(&self) -> Arc<PasswordSource> {
        self.0.load_full()
    }

    /// Connections that are opened from now on ask this source.
    pub(crate) fn replace(&self, source: Arc<PasswordSource>) {
        self.0.store(source);
    }

    pub(crate) fn for_postgres(&self) -> Password {
        let live = self.clone();
        Password::from_fn(move || {
            let source = live.source();
            async move { Ok(read(source).await?.into_exposed()) }
        })
    }

    pub(crate) fn for_redis(&self) -> RedisPassword {
        let live = self.clone();
        RedisPassword::from_fn(move || read(live.source()))
    }
}

async fn read(source: Arc<PasswordSource>) -> io::Result<Secret<String>> {
    if let PasswordSource::Text(password) = &*source {
        return Ok(password.clone());
    }
    // Not on the runtime: the disk may be slow.
    let read = tokio::task::spawn_blocking(move || source.read_now());
    read.await.map_err(io::Error::other)?
}

impl PasswordSource {
    fn read_now(&self) -> io::Result<Secret<String>> {
        let unusable = |problem: &str| io::Error::new(io::ErrorKind::InvalidData, problem);
        let password = match self {
            Self::Text(password) => Some(password.clone()),
            Self::File(path) => Some(text(path)?).filter(|text| !text.expose().is_empty()),
            Self::DatabaseUrl(path) => {
                let url: Result<ConnectionString, _> = text(path)?.expose().trim().parse();
                let url = url.map_err(|invalid| unusable(&invalid.to_string()))?;
                url.get("password").map(|password| Secret::new(password.to_owned()))
            }
            Self::RedisUrl(path) => {
                let urls = RedisUrl::parse_list(text(path)?.expose());
                let urls = urls.map_err(|invalid| unusable(&invalid.to_string()))?;
                urls.first().and_then(RedisUrl::password).cloned()
            }
        };
        password.ok_or_else(|| unusable("the file holds no password"))
    }
}

/// Reads a file as settings are read: without a byte order mark and the line breaks at the end.
fn text(path: &Path) -> io::Result<Secret<String>> {
    let text = fs::read_to_string(path)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    Ok(Secret::new(text.trim_end_matches(['\n', '\r']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_read_alone_or_out_of_a_url_and_never_told() {
        let directory = tempfile::tempdir().unwrap();
        let file = |text: &str| {
            let path = directory.path().join("secret");
            fs::write(&path, text).unwrap();
            path
        };
        let read = |source: PasswordSource| {
            source
                .read_now()
                .map(Secret::into_exposed)
                .map_err(|error| error.to_string())
        };
        for (source, text) in [
            (
                PasswordSource::File as fn(PathBuf) -> PasswordSource,
                "\u{feff}hunter 2\r\n",
            ),
            (PasswordSource::DatabaseUrl, "postgres://u:hunter%202@h/d\n"),
            (PasswordSource::DatabaseUrl, "host=h password='hunter 2'"),
            (
                PasswordSource::RedisUrl,
                "redis://:hunter%202@a,redis://:hunter%202@b\n",
            ),
        ] {
            assert_eq!(read(source(file(text))).as_deref(), Ok("hunter 2"), "{text:?}");
        }
        for (source, text) in [
            (PasswordSource::File as fn(PathBuf) -> PasswordSource, "\n"),
            (PasswordSource::DatabaseUrl, "postgres://u@h/d"),
            (PasswordSource::DatabaseUrl, "postgres://u:hun@ter2@h/d"),
            (PasswordSource::RedisUrl, "redis://h"),
            (PasswordSource::RedisUrl, "http://:hunter2@h"),
        ] {
            let error = read(source(file(text))).unwrap_err();
            assert!(!error.contains("ter2"), "{error}");
        }
    }
}
