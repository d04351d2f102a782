//! Creates PostgreSQL data directories (PGDATA). Invariant: a directory gets its final name only when it is complete,
//! with the role `cenote`, its password and the database `cenote`.
//!
//! Temporary servers start with a copy of a template, because `initdb` takes seconds. The template is kept in the
//! directory for temporary files as `cenote-templateFORMAT-VERSION-UID`, some 45 MB. There is one for each version of
//! PostgreSQL and each account; all programs of the account share it, and it may be deleted at any time.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use cenote_secret::Secret;
use tokio::time::{Instant, sleep};

use super::installation::Installation;
use crate::{
    error::{Doing, Error, Result},
    supervise::{Account, any_serves, persistent_directory, random_password, serves, temporary_parent},
};

/// The role and the database every private server has.
pub(super) const NAME: &str = "cenote";

/// Incremented when templates of older versions of cenote cannot be used any more.
const TEMPLATE_FORMAT: u32 = 1;

/// How long a server whose owner has just ended may take to notice that, and then to stop.
const NOTICE: Duration = Duration::from_secs(1);
const STOPPING: Duration = Duration::from_secs(30);

/// A complete data directory.
#[derive(Debug)]
pub(super) struct PgData {
    /// What PostgreSQL calls PGDATA.
    pub(super) data: PathBuf,
    /// Of the role `cenote`.
    pub(super) password: Secret<String>,
    /// Where the password is, readable by its owner only.
    pub(super) password_file: PathBuf,
    /// Held while this process uses a persistent directory.
    _lock: Option<File>,
}

/// A running server that another one is copied from and then follows.
#[derive(Debug, Clone)]
pub(super) struct Primary {
    /// The directory of its Unix socket.
    pub(super) socket_dir: PathBuf,
    /// Its port, which is part of the socket's name.
    pub(super) port: u16,
    /// The password of the role `cenote`, which the copy has too.
    pub(super) password: Secret<String>,
    /// The file that holds the password.
    pub(super) password_file: PathBuf,
    /// The name by which the primary knows the copy.
    pub(super) application_name: String,
}

/// Makes `run_dir/data` from the template, which is made first if there is none.
///
/// Cancel safety: an interrupted call leaves its files in `run_dir`.
pub(super) async fn temporary(account: &Account, postgres: &Installation, run_dir: &Path) -> Result<PgData> {
    let name = format!("cenote-template{TEMPLATE_FORMAT}-{}-{}", postgres.version, account.uid);
    let template = temporary_parent(account).join(name);
    let data = run_dir.join("data");
    if is_whole(&template, account) {
        return copy(account, &template, data).await;
    }
    let made = run_dir.join("template");
    account.create_dir(&made)?;
    let password_file = made.join("password");
    account.create_file(&password_file, &random_password()?)?;
    initialize(account, postgres, &made.join("data"), &password_file, &["--no-sync"]).await?;
    account.create_file(&made.join("entries"), &count(&made.join("data")).to_string())?;
    if fs::rename(&made, &template).is_ok() || is_whole(&template, account) {
        return copy(account, &template, data).await; // our template, or that of a process that was faster
    }
    // The template is damaged (a cleaner of temporary files has deleted parts of it) or belongs to another account. If
    // it can be moved into the run directory, it is removed with that, and the next server makes a new one. This server
    // uses its own.
    let _ = fs::rename(&template, run_dir.join("broken"));
    copy(account, &made, data).await
}

/// Makes `run_dir/data` a copy of the data of a running server, which will follow that server.
///
/// Cancel safety: what is half made lies in `run_dir`.
pub(super) async fn standby(
    account: &Account,
    postgres: &Installation,
    run_dir: &Path,
    primary: &Primary,
) -> Result<PgData> {
    let data = run_dir.join("data");
    let host = primary.socket_dir.to_string_lossy();
    let host = host.replace('\\', "\\\\").replace('\'', "\\'");
    let (port, name) = (primary.port, &primary.application_name);
    let mut copy = account.command(postgres.client("pg_basebackup")?);
    copy.env("PGPASSWORD", primary.password.expose())
        .args(["--checkpoint=fast", "--no-sync", "--no-password"])
        .args(["--write-recovery-conf", "--dbname"])
        .arg(format!("host='{host}' port={port} user={NAME} application_name={name}"))
        .arg("--pgdata")
        .arg(&data);
    account.run(copy, "").await?;
    // The copy has the primary's synchronous standbys in its settings. Once promoted it would wait for them.
    let settings = data.join("postgresql.auto.conf");
    OpenOptions::new()
        .append(true)
        .open(&settings)
        .and_then(|mut file| writeln!(file, "synchronous_standby_names = ''"))
        .doing(|| format!("writing {}", settings.display()))?;
    Ok(PgData {
        data,
        password: primary.password.clone(),
        password_file: primary.password_file.clone(),
        _lock: None,
    })
}

async fn copy(account: &Account, template: &Path, data: PathBuf) -> Result<PgData> {
    let password_file = template.join("password");
    let password = Secret::new(read(&password_file)?);
    let mut copy = account.command("cp");
    copy.arg("-Rp").arg(template.join("data")).arg(&data);
    account.run(copy, "").await?;
    Ok(PgData {
        data,
        password,
        password_file,
        _lock: None,
    })
}

/// Opens `dir`, or fills it on first use: `data`, `password` and `lock` lie in it.
///
/// Cancel safety: the next call removes the files of an interrupted one.
pub(super) async fn persistent(account: &Account, postgres: &Installation, dir: &Path) -> Result<PgData> {
    let dir = persistent_directory(account, dir).await?;
    let lock = lock(account, &dir)?;
    let (data, password_file) = (dir.join("data"), dir.join("password"));
    if data.exists() {
        let cluster = read(&data.join("PG_VERSION"))?;
        if cluster != postgres.major.to_string() {
            return Err(Error::OtherMajorVersion {
                dir: data,
                cluster,
                server: postgres.major,
            });
        }
        clear_stale_pid(&dir, &data).await?;
    } else {
        let half_made = dir.join("data.new");
        if half_made.exists() {
            remove(&half_made).await?;
        }
        if !password_file.exists() {
            // By way of another name, so that a file cut short is never taken for the password.
            let unfinished = dir.join("password.new");
            let _ = fs::remove_file(&unfinished);
            account.create_file(&unfinished, &random_password()?)?;
            fs::rename(&unfinished, &password_file).doing(|| format!("moving {}", unfinished.display()))?;
        }
        initialize(account, postgres, &half_made, &password_file, &["--data-checksums"]).await?;
        fs::rename(&half_made, &data).doing(|| format!("moving {}", half_made.display()))?;
    }
    let password = Secret::new(read(&password_file)?);
    Ok(PgData {
        data,
        password,
        password_file,
        _lock: Some(lock),
    })
}

/// Removes a directory. Programs of an earlier call whose future was dropped may still be writing into it.
async fn remove(dir: &Path) -> Result<()> {
    let mut tries = 100;
    loop {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty && tries > 0 => {
                tries -= 1;
                sleep(Duration::from_millis(50)).await;
            }
            removed => return removed.doing(|| format!("removing {}", dir.display())),
        }
    }
}

/// Runs `initdb` and creates the database, without starting a server.
async fn initialize(
    account: &Account,
    postgres: &Installation,
    data: &Path,
    password_file: &Path,
    extra: &[&str],
) -> Result<()> {
    let initdb = |locale: &[&str]| {
        let mut initdb = account.command(postgres.program("initdb"));
        initdb.args([
            "--username",
            NAME,
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--no-instructions",
        ]);
        initdb
            .args(extra)
            .args(locale)
            .arg("--pwfile")
            .arg(password_file)
            .arg("--pgdata")
            .arg(data);
        initdb
    };
    // Byte order, but lower() and friends know all letters; the same on every machine where possible.
    let locale: &[&str] = if postgres.major >= 17 {
        &["--locale-provider=builtin", "--builtin-locale=C.UTF-8", "--locale=C"]
    } else if cfg!(target_os = "macos") {
        &["--locale=C", "--lc-ctype=UTF-8"]
    } else {
        &["--locale=C.UTF-8", "--lc-messages=C"]
    };
    match account.run(initdb(locale), "").await {
        Err(Error::Command { reason, .. }) if reason.contains("locale") => {
            account.run(initdb(&["--locale=C"]), "").await
        }
        done => done,
    }?;
    let mut single = account.command(postgres.program("postgres"));
    single
        .args(["--single", "-c", "fsync=off", "-D"])
        .arg(data)
        .arg("postgres");
    account.run(single, &format!("create database {NAME}\n")).await?;
    Ok(())
}

/// Whether the template exists, belongs to this account, is closed to others, and has as many files as at its creation.
fn is_whole(template: &Path, account: &Account) -> bool {
    let ours = fs::symlink_metadata(template)
        .is_ok_and(|meta| meta.is_dir() && meta.uid() == account.uid && meta.mode() & 0o077 == 0);
    let entries = || {
        read(&template.join("entries"))
            .ok()
            .and_then(|count| count.parse().ok())
    };
    ours && entries() == Some(count(&template.join("data")))
}

fn count(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|entry| {
            1 + if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                count(&entry.path())
            } else {
                0
            }
        })
        .sum()
}

fn read(path: &Path) -> Result<String> {
    let content = fs::read_to_string(path).doing(|| format!("reading {}", path.display()))?;
    Ok(content.trim().to_owned())
}

/// Takes the lock that keeps a second process out of `dir`. The system frees it when this process ends.
fn lock(account: &Account, dir: &Path) -> Result<File> {
    let path = dir.join("lock");
    let doing = || format!("locking {}", path.display());
    let mut options = OpenOptions::new();
    let mut file = options
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(&path)
        .doing(doing)?;
    account.own(&path)?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            return Err(Error::AlreadyRunning {
                dir: dir.to_owned(),
                pid: read(&path).ok().and_then(|pid| pid.parse().ok()),
            });
        }
        Err(TryLockError::Error(source)) => return Err(source).doing(doing),
    }
    file.set_len(0)
        .and_then(|()| writeln!(file, "{}", std::process::id()))
        .doing(doing)?;
    Ok(file)
}

/// Waits until a server whose owner has ended has stopped too, and removes the `postmaster.pid` of a killed one.
///
/// PostgreSQL recognizes most stale files itself, except if the process id in the file now belongs to another program
/// of the same user, or to a zombie.
async fn clear_stale_pid(dir: &Path, data: &Path) -> Result<()> {
    let path = data.join("postmaster.pid");
    let begun = Instant::now();
    loop {
        let content = match fs::read_to_string(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(source).doing(|| format!("reading {}", path.display())),
        };
        let pid = content.lines().next().and_then(|pid| pid.trim().parse().ok());
        let served = pid.is_some_and(|pid| serves(pid, data));
        if !served && !any_serves(data) {
            return fs::remove_file(&path).doing(|| format!("removing {}", path.display()));
        }
        let stopping = !served || content.lines().nth(7).is_some_and(|state| state.trim() == "stopping");
        if begun.elapsed() > if stopping { STOPPING } else { NOTICE } {
            return Err(Error::AlreadyRunning {
                dir: dir.to_owned(),
                pid,
            });
        }
        sleep(Duration::from_millis(20)).await;
    }
}
