//! Finds the PostgreSQL installation to use. Invariant: it is the newest one, unless `PG_BIN` or the caller names a
//! directory; then no other directory is searched.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use tokio::process::Command;

use crate::{
    error::{Error, Result},
    supervise::{find_program, is_program, search_path},
};

/// The oldest major version that the PostgreSQL project supports in 2026.
const MINIMUM: u32 = 14;

/// Directories that hold one subdirectory per version: the directory, the prefix of a subdirectory's name, and the path
/// of the programs below it.
const VERSIONED: [(&str, &str, &str); 5] = [
    ("/usr/lib/postgresql", "", "bin"),          // Debian, Ubuntu
    ("/usr/libexec", "postgresql", ""),          // Alpine
    ("/usr", "pgsql-", "bin"),                   // the PostgreSQL project's packages for Fedora and RHEL
    ("/opt/homebrew/opt", "postgresql@", "bin"), // Homebrew on Apple silicon
    ("/usr/local/opt", "postgresql@", "bin"),    // Homebrew on Intel
];

/// One PostgreSQL installation.
#[derive(Debug, Clone)]
pub(super) struct Installation {
    /// The directory of its programs.
    pub(super) dir: PathBuf,
    /// The version as the server prints it, such as `17.2`.
    pub(super) version: String,
    /// The major version. A server can read only the data of its own major version.
    pub(super) major: u32,
    /// The minor version, or 0 for a beta.
    minor: u32,
}

impl Installation {
    /// The installation in `dir`, else in `PG_BIN`, else the newest on this machine.
    pub(super) async fn find(dir: Option<&Path>) -> Result<Self> {
        let named = dir
            .map(Path::to_owned)
            .or_else(|| env::var_os("PG_BIN").filter(|dir| !dir.is_empty()).map(Into::into));
        let (places, looked) = match named {
            Some(dir) => {
                let looked = format!("{} (named by PG_BIN or by the caller)", dir.display());
                (vec![dir], looked)
            }
            None => (
                places().await,
                "`pg_config --bindir`, PATH, /usr/lib/postgresql/*/bin, /usr/libexec/postgresql*, /usr/pgsql-*/bin, \
                 Homebrew's postgresql@*"
                    .into(),
            ),
        };
        let mut newest: Option<Self> = None;
        for dir in places {
            if let Some(found) = Self::at(dir).await
                && newest
                    .as_ref()
                    .is_none_or(|best| (best.major, best.minor) < (found.major, found.minor))
            {
                newest = Some(found);
            }
        }
        match newest {
            Some(found) if found.major >= MINIMUM => Ok(found),
            Some(old) => Err(Error::PostgresTooOld {
                minimum: MINIMUM,
                found: old.version,
                dir: old.dir,
            }),
            None => Err(Error::PostgresMissing {
                minimum: MINIMUM,
                looked,
            }),
        }
    }

    async fn at(dir: PathBuf) -> Option<Self> {
        if !is_program(&dir.join("initdb")) {
            return None;
        }
        let output = Command::new(dir.join("postgres"))
            .arg("--version")
            .stdin(Stdio::null())
            .output()
            .await
            .ok()?;
        let (version, major, minor) = parse_version(&String::from_utf8_lossy(&output.stdout))?;
        Some(Self {
            dir,
            version,
            major,
            minor,
        })
    }

    /// The path of one of the server's own programs.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// The path of a client program such as `psql`. Some systems have it in another package and directory.
    pub(super) fn client(&self, program: &'static str) -> Result<PathBuf> {
        let beside = self.dir.join(program);
        let found = if is_program(&beside) {
            Some(beside)
        } else {
            find_program(program)
        };
        found.ok_or(Error::ClientMissing { program })
    }
}

/// The directories of all installations, each once.
async fn places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    if let Ok(output) = Command::new("pg_config")
        .arg("--bindir")
        .stdin(Stdio::null())
        .output()
        .await
    {
        places.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()));
    }
    for program in search_path()
        .map(|dir| dir.join("postgres"))
        .filter(|program| is_program(program))
    {
        // If the program in PATH is a link, the other programs are in the directory to which it leads.
        places.extend(
            program
                .canonicalize()
                .ok()
                .and_then(|real| real.parent().map(Path::to_owned)),
        );
        places.extend(program.parent().map(Path::to_owned));
    }
    for (parent, prefix, below) in VERSIONED {
        for entry in fs::read_dir(parent).into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(prefix) {
                places.push(entry.path().join(below));
            }
        }
    }
    let mut places: Vec<_> = places
        .into_iter()
        .filter(|dir| is_program(&dir.join("initdb")))
        .collect();
    places.sort_by_cached_key(|dir| dir.join("initdb").canonicalize().ok());
    places.dedup_by_key(|dir| dir.join("initdb").canonicalize().ok());
    places
}

/// Reads `postgres (PostgreSQL) 15.18 (Debian …)` and `postgres (PostgreSQL) 18beta1`.
fn parse_version(line: &str) -> Option<(String, u32, u32)> {
    let version = line.strip_prefix("postgres (PostgreSQL) ")?.split_whitespace().next()?;
    let digits = |text: &str| {
        text.split(|c: char| !c.is_ascii_digit())
            .next()
            .and_then(|number| number.parse().ok())
    };
    let minor = version
        .split_once('.')
        .and_then(|(_, minor)| digits(minor))
        .unwrap_or(0);
    Some((version.to_owned(), digits(version)?, minor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_the_distributions_print_them() {
        let parsed = |line| parse_version(line).map(|(_, major, minor)| (major, minor));
        assert_eq!(
            parsed("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n"),
            Some((15, 18))
        );
        assert_eq!(parsed("postgres (PostgreSQL) 18beta1\n"), Some((18, 0)));
        assert_eq!(parsed("postgres (PostgreSQL) 9.6.24\n"), Some((9, 6)));
        assert_eq!(parsed("command not found"), None);
    }

    #[tokio::test]
    async fn an_old_server_is_refused_with_its_version_and_place() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["postgres", "initdb"] {
            let path = dir.path().join(name);
            // Written by another process: a program that any process holds open for writing cannot be run, and a
            // fork elsewhere in this one would hold it open a moment longer.
            let script = r#"printf '#!/bin/sh\necho "postgres (PostgreSQL) 13.4"\n' >"$0" && chmod 755 "$0""#;
            let mut shell = std::process::Command::new("sh");
            assert!(shell.args(["-c", script]).arg(&path).status().unwrap().success());
        }
        let error = Installation::find(Some(dir.path())).await.unwrap_err().to_string();
        assert!(error.contains("13.4") && error.contains("apt-get install"), "{error}");
        assert!(error.contains(&*dir.path().to_string_lossy()), "{error}");
    }
}
