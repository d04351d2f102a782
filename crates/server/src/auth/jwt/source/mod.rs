//! Where the keys of tokens come from: a secret, a file, or a URL.
//!
//! Invariant: a document that cannot be read, or has no usable key, changes nothing: the keys that are in use stay.

mod url;

use std::{
    fmt, io,
    io::Read,
    path::{Path, PathBuf},
    time::Duration,
};

use axum::http::{
    Request, StatusCode,
    header::{ACCEPT, HeaderValue},
};
use cenote_secret::Secret;
use http_body_util::Full;
use tokio::time::{Instant, timeout};

pub use self::url::JwksUrl;
use super::{
    key::UnusableKey,
    key_set::{DOCUMENT_BYTES, InvalidKeySet, KeySet},
};
use crate::http_client::{Client, ClientError};

/// How often a file is read again, and a URL asked again.
const FILE_INTERVAL: Duration = Duration::from_secs(10);
const URL_INTERVAL: Duration = Duration::from_secs(600);
/// The pause after a failure; shorter while there are no keys, because then no token is accepted.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);
const FIRST_RETRY_INTERVAL: Duration = Duration::from_secs(2);
/// Longest time for reading the keys.
pub(super) const LOAD_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A secret for HS256.
    Secret(Secret<String>),
    /// A file with such a secret.
    SecretFile(PathBuf),
    /// A file with a JWK set, which may hold secrets.
    File(PathBuf),
    /// A public JWK set.
    Url(JwksUrl),
}

/// Why the keys could not be loaded. No message holds a secret.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error("cannot read {}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("the JWK set {place} cannot be used: {error}")]
    Set { place: String, error: InvalidKeySet },
    #[error("the secret cannot be used: {0}")]
    Secret(UnusableKey),
    #[error("cannot fetch {url}: {error}")]
    Fetch { url: String, error: ClientError },
    #[error("cannot fetch {url}: the answer is {status}, not 200")]
    Status { url: String, status: StatusCode },
    #[error("reading the keys took longer than {} s", LOAD_TIMEOUT.as_secs())]
    Timeout,
    #[error("reading the keys was aborted")]
    Aborted,
}

impl fmt::Display for KeySource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Secret(_) => f.write_str("JWT_SECRET"),
            Self::SecretFile(path) | Self::File(path) => path.display().fmt(f),
            Self::Url(url) => url.fmt(f),
        }
    }
}

impl KeySource {
    /// Whether the keys can change only with the settings.
    pub(super) fn is_fixed(&self) -> bool {
        matches!(self, Self::Secret(_))
    }

    /// Whether the keys are on another machine. Then a token with an unknown key id is a reason to load them at once; files
    /// are read often enough.
    pub(super) fn is_remote(&self) -> bool {
        matches!(self, Self::Url(_))
    }

    /// When the keys are to be loaded again, after a load that ended at `at`.
    pub(super) fn next_load(&self, at: Instant, succeeded: bool, has_keys: bool) -> Option<Instant> {
        match self {
            Self::Secret(_) => None,
            Self::SecretFile(_) | Self::File(_) => Some(at + FILE_INTERVAL),
            // Spread over a tenth, so that instances do not ask all at once.
            Self::Url(_) if succeeded => Some(at + URL_INTERVAL.mul_f64(0.9 + 0.1 * fastrand::f64())),
            Self::Url(_) if has_keys => Some(at + RETRY_INTERVAL),
            Self::Url(_) => Some(at + FIRST_RETRY_INTERVAL),
        }
    }
}

/// Loads keys.
#[derive(Default)]
pub(super) struct Loader {
    client: Client,
}

impl Loader {
    /// Reads the document: the keys, and the bytes by which a change is noticed.
    pub(super) async fn load(&self, source: &KeySource) -> Result<(KeySet, Vec<u8>), LoadError> {
        let loaded = timeout(LOAD_TIMEOUT, self.load_unbounded(source)).await;
        loaded.unwrap_or(Err(LoadError::Timeout))
    }

    async fn load_unbounded(&self, source: &KeySource) -> Result<(KeySet, Vec<u8>), LoadError> {
        match source {
            KeySource::Secret(secret) => of_secret(secret.expose().as_bytes().to_vec()),
            KeySource::SecretFile(path) => {
                let mut secret = read(path).await?;
                // As settings are read: without the line break of editors and `echo`.
                while secret.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
                    secret.pop();
                }
                of_secret(secret)
            }
            KeySource::File(path) => {
                let document = read(path).await?;
                of_document(document, path.display(), false)
            }
            KeySource::Url(url) => {
                let document = self.fetch(url).await?;
                of_document(document, url, true)
            }
        }
    }

    async fn fetch(&self, url: &JwksUrl) -> Result<Vec<u8>, LoadError> {
        let mut request = Request::new(Full::default());
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(ACCEPT, json);
        let named = url.to_string();
        match self.client.send(url.url(), request, DOCUMENT_BYTES).await {
            Ok(answer) if answer.status == StatusCode::OK => Ok(answer.body.into()),
            Ok(answer) => Err(LoadError::Status {
                url: named,
                status: answer.status,
            }),
            Err(error) => Err(LoadError::Fetch { url: named, error }),
        }
    }
}

fn of_secret(secret: Vec<u8>) -> Result<(KeySet, Vec<u8>), LoadError> {
    let keys = KeySet::of_secret(&secret).map_err(LoadError::Secret)?;
    Ok((keys, secret))
}

fn of_document(document: Vec<u8>, place: impl fmt::Display, is_public: bool) -> Result<(KeySet, Vec<u8>), LoadError> {
    let keys = KeySet::parse(&document, is_public).map_err(|error| LoadError::Set {
        place: place.to_string(),
        error,
    })?;
    Ok((keys, document))
}

/// Reads a file on a thread for blocking work: it may be on a network.
async fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    let owned = path.to_owned();
    let read = move || {
        let mut bytes = Vec::new();
        // One byte more than a document may have shows that it is too long.
        let file = std::fs::File::open(owned)?;
        file.take(DOCUMENT_BYTES as u64 + 1).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    let read = tokio::task::spawn_blocking(read)
        .await
        .map_err(|_| LoadError::Aborted)?;
    read.map_err(|error| LoadError::File {
        path: path.to_owned(),
        error,
    })
}
