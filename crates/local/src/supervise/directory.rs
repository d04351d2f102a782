//! The directories of servers. Invariant: only the servers' account can enter a directory that is created here, and the
//! path of a socket in a run directory is short enough for the system.

use std::{
    env, fs,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tempfile::TempDir;

use super::account::Account;
use crate::error::{Doing, Error, Result};

/// `sun_path` holds 104 bytes on macOS and the BSDs, 108 on Linux, one of them a NUL.
const SOCKET_PATH_LIMIT: usize = 103;
/// What comes after the parent: a run directory's name, then `/socket/.s.PGSQL.65535`.
const SOCKET_PATH_REST: usize = "/cenote-123456/socket/.s.PGSQL.65535.lock".len();

/// Where `cenote` keeps its private database unless told otherwise: `$XDG_DATA_HOME/cenote`, else
/// `~/.local/share/cenote` (macOS: `~/Library/Application Support/cenote`). As root `/var/lib/cenote`, because the
/// server runs as another user, who cannot enter root's home.
///
/// # Errors
/// [`Error::UnusableDirectory`] when neither `XDG_DATA_HOME` nor `HOME` is set to an absolute path.
pub fn default_data_dir() -> Result<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Ok(PathBuf::from("/var/lib/cenote"));
    }
    let absolute = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(base) = absolute("XDG_DATA_HOME") {
        return Ok(base.join("cenote"));
    }
    let below_home = if cfg!(target_os = "macos") {
        "Library/Application Support/cenote"
    } else {
        ".local/share/cenote"
    };
    absolute("HOME")
        .map(|home| home.join(below_home))
        .ok_or_else(|| Error::UnusableDirectory {
            dir: PathBuf::from("~").join(below_home),
            reason: "neither XDG_DATA_HOME nor HOME is set to an absolute path".into(),
        })
}

/// The directory for temporary files: the system's, or `/tmp` if that one is too deep for a socket or (as root) closed
/// to the servers' account.
pub(crate) fn temporary_parent(account: &Account) -> PathBuf {
    let system = env::temp_dir();
    let system = system.canonicalize().unwrap_or(system);
    let fits = system.as_os_str().len() + SOCKET_PATH_REST <= SOCKET_PATH_LIMIT;
    let open = |path: &Path, bits: u32| fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & bits == bits);
    let usable = !account.is_other() || (open(&system, 0o003) && system.ancestors().all(|path| open(path, 0o001)));
    if fits && usable { system } else { PathBuf::from("/tmp") }
}

/// A fresh directory, removed when the guard is dropped.
pub fn temporary(account: &Account) -> Result<TempDir> {
    let parent = temporary_parent(account);
    let made = tempfile::Builder::new()
        .prefix("cenote-")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in(&parent)
        .doing(|| format!("creating a directory in {}", parent.display()))?;
    account.own(made.path())?;
    Ok(made)
}

/// Makes sure `dir` exists, belongs to the account and can be reached by it.
///
/// # Errors
/// [`Error::UnusableDirectory`] if it belongs to someone else and is not empty, or if a directory above it is closed.
pub(crate) async fn persistent(account: &Account, dir: &Path) -> Result<PathBuf> {
    let unusable = |reason: String| Error::UnusableDirectory {
        dir: dir.to_owned(),
        reason,
    };
    let dir = std::path::absolute(dir).doing(|| format!("resolving {}", dir.display()))?;
    if !dir.exists() {
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent).doing(|| format!("creating {}", parent.display()))?;
        }
        match account.create_dir(&dir) {
            Err(_) if dir.is_dir() => {} // another process was faster; it is looked at below
            made => made?,
        }
    }
    let meta = fs::metadata(&dir).doing(|| format!("looking at {}", dir.display()))?;
    if !meta.is_dir() {
        return Err(unusable("it is not a directory".into()));
    }
    if meta.uid() != account.uid {
        let mut entries = fs::read_dir(&dir).doing(|| format!("reading {}", dir.display()))?;
        if !account.is_other() || entries.next().is_some() {
            return Err(unusable(format!(
                "it belongs to user {}, the server runs as user {}",
                meta.uid(),
                account.uid
            )));
        }
        account.own(&dir)?;
    }
    let mut enter = account.command("/bin/sh");
    enter.args(["-c", "cd \"$1\" && test -w .", "sh"]).arg(&dir);
    let entered = account.run(enter, "").await;
    entered.map_err(|_| {
        unusable(format!(
            "user {}, as whom the server runs, cannot enter and write it",
            account.uid
        ))
    })?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_temporary_directory_is_closed_to_others_and_short_enough_for_a_socket() {
        let account = Account::choose().await.unwrap();
        let dir = temporary(&account).unwrap();
        let meta = fs::metadata(dir.path()).unwrap();
        assert_eq!((meta.permissions().mode() & 0o777, meta.uid()), (0o700, account.uid));
        assert!(dir.path().join("socket/.s.PGSQL.65535").as_os_str().len() <= SOCKET_PATH_LIMIT);
    }

    #[tokio::test]
    async fn a_file_is_refused_as_a_data_directory() {
        let account = Account::choose().await.unwrap();
        let file = tempfile::NamedTempFile::new().unwrap();
        let error = persistent(&account, file.path()).await.unwrap_err();
        assert!(error.to_string().contains("not a directory"), "{error}");
    }
}
