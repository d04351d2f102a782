//! The first API key, which a service creates if there is none.
//!
//! Invariant: a key is written to the file only if the database gets it too. The table is locked and empty meanwhile, so
//! of several instances that start together, with one file or with several, one writes.

use std::{
    fs::{self, OpenOptions},
    io::{self, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use ring::rand::SystemRandom;

use super::{auth::key_hasher, backend::Backend};
use crate::{
    auth::{ApiKey, InvalidKey, KeyHasher, Scopes},
    store::api_keys::{Admin, AdminError, Bootstrap, NewKey},
};

/// The name of the first key.
const NAME: &str = "bootstrap";

/// Why the first key could not be created.
#[derive(Debug, thiserror::Error)]
enum FirstKeyError {
    #[error(transparent)]
    Table(#[from] AdminError),
    #[error("CENOTE_BOOTSTRAP_KEY_FILE {}: {error}", path.display())]
    File { path: PathBuf, error: io::Error },
    #[error("CENOTE_BOOTSTRAP_KEY_FILE: {0}")]
    Key(#[from] InvalidKey),
}

impl Backend {
    /// Creates the first API key if there is none and a file is named for it. Warns if there is none at all, and if the
    /// database does not have the key of the file. A failure does not end the service: those who have keys already can go
    /// on.
    pub(super) async fn create_first_key(&self, file: Option<&Path>) {
        if let Err(error) = self.first_key(file).await {
            tracing::error!(%error, "cannot create the first API key");
        }
    }

    async fn first_key(&self, file: Option<&Path>) -> Result<(), FirstKeyError> {
        let auth = &self.settings.auth;
        if !auth.mode.has_keys() {
            return Ok(());
        }
        let admin = Admin {
            pool: &self.pool,
            schema: &self.settings.schema,
        };
        // The lock below needs more rights than a service that has its keys.
        let has_keys = admin.any().await?;
        let Some(path) = file else {
            if !has_keys {
                tracing::warn!(
                    "there is no API key, so every request is refused; create one with \
                     `cenote key create --name NAME --scope read,write`, or set CENOTE_BOOTSTRAP_KEY_FILE"
                );
            }
            return Ok(());
        };
        let hasher = key_hasher(auth);
        let create = || read_or_create(path).map(|key| first(&key, &hasher));
        if !has_keys && admin.bootstrap(create).await?? == Bootstrap::Created {
            tracing::info!(file = %path.display(), scopes = %Scopes::ALL, "created the first API key");
            return Ok(());
        }
        // The file may be gone: it is needed only once.
        if let Ok(Some(Ok(key))) = read(path)
            && !admin.has(&hasher.digest(&key).0).await?
        {
            tracing::warn!(
                file = %path.display(),
                "the key in CENOTE_BOOTSTRAP_KEY_FILE is not in the database, which has other keys, so requests with it \
                 are refused; create a key with `cenote key create --name NAME --scope read,write`"
            );
        }
        Ok(())
    }
}

fn first(key: &ApiKey, hasher: &KeyHasher) -> NewKey {
    NewKey {
        digest: hasher.digest(key).0,
        hint: key.hint().to_owned(),
        name: NAME.to_owned(),
        scopes: Scopes::ALL.to_string(),
        limits: None,
        expires: None,
    }
}

/// Reads the key in a file. A file that is missing or empty gets a new key, and only its owner may read it.
fn read_or_create(path: &Path) -> Result<ApiKey, FirstKeyError> {
    let key = match read(path) {
        Ok(None) => create(path),
        Ok(Some(key)) => return Ok(key?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => create(path),
        Err(error) => Err(error),
    };
    let failed = |error| FirstKeyError::File {
        path: path.to_owned(),
        error,
    };
    Ok(key.map_err(failed)??)
}

/// Reads the key in a file. `None`: the file is empty.
fn read(path: &Path) -> io::Result<Option<Result<ApiKey, InvalidKey>>> {
    Ok(parse(&fs::read(path)?))
}

fn parse(text: &[u8]) -> Option<Result<ApiKey, InvalidKey>> {
    let key = text.trim_ascii();
    (!key.is_empty()).then(|| ApiKey::parse(key))
}

/// Writes a new key to a file that was missing or empty a moment ago.
fn create(path: &Path) -> io::Result<Result<ApiKey, InvalidKey>> {
    let mut options = OpenOptions::new();
    // An existing file keeps the permissions that its mount gave it.
    options.read(true).write(true).create(true).truncate(false).mode(0o600);
    let mut file = options.open(path)?;
    // A service over another database, whose lock is another one, may be creating a key in the same file.
    file.lock()?;
    let mut text = Vec::new();
    file.read_to_end(&mut text)?;
    if let Some(key) = parse(&text) {
        return Ok(key);
    }
    let key = ApiKey::generate(&SystemRandom::new()).map_err(|_| io::Error::other("no random numbers"))?;
    file.set_len(0)?;
    file.rewind()?;
    file.write_all(format!("{}\n", key.expose()).as_bytes())?;
    file.sync_all()?;
    Ok(Ok(key))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, sync::Barrier, thread};

    use super::*;

    #[test]
    fn a_missing_or_empty_file_gets_a_key_and_a_full_one_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing");
        let key = read_or_create(&missing).unwrap();
        assert_eq!(fs::read_to_string(&missing).unwrap(), format!("{}\n", key.expose()));
        assert_eq!(fs::metadata(&missing).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_or_create(&missing).unwrap(), key);
        let empty = directory.path().join("empty");
        fs::write(&empty, "\n").unwrap();
        let key = read_or_create(&empty).unwrap();
        assert_eq!(read_or_create(&empty).unwrap(), key);
        fs::write(&empty, "cnk_wrong").unwrap();
        assert!(matches!(
            read_or_create(&empty),
            Err(FirstKeyError::Key(InvalidKey::Malformed))
        ));
        assert!(read_or_create(&directory.path().join("no/such")).is_err());
    }

    #[test]
    fn a_file_that_several_services_create_at_once_has_the_key_of_all() {
        let directory = tempfile::tempdir().unwrap();
        for round in 0..50 {
            let path = directory.path().join(round.to_string());
            let together = Barrier::new(4);
            let create = || {
                together.wait();
                read_or_create(&path)
            };
            let results = thread::scope(|scope| {
                let threads = [(); 4].map(|()| scope.spawn(create));
                threads.map(|thread| thread.join().unwrap())
            });
            let written = read(&path).unwrap().unwrap().unwrap();
            for key in results {
                assert_eq!(key.unwrap(), written);
            }
        }
    }
}
