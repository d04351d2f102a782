//! Finds programs by name. Invariant: only an executable file counts.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// The directories of `PATH`, then those in which servers are often installed although `PATH` lacks them.
pub fn search_path() -> impl Iterator<Item = PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/bin", "/opt/homebrew/bin"].map(PathBuf::from);
    env::split_paths(&path).chain(usual).collect::<Vec<_>>().into_iter()
}

/// The absolute path of the first program of this name in [`search_path`].
#[must_use]
pub fn find_program(name: &str) -> Option<PathBuf> {
    search_path()
        .map(|dir| dir.join(name))
        .find(|path| path.is_absolute() && is_program(path))
}

/// Whether `path` is an executable file.
#[must_use]
pub fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}
