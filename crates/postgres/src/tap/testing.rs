//! A private PostgreSQL server for this module's tests.
//!
//! For replacement by `cenote_local::PostgresServer`, which does this properly.
//!
//! Invariant: the server and its files are gone when the last user is.

use std::net::TcpListener;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::time::Instant;
use tokio_postgres::{Client, Config};

use super::{Link, open};

pub(super) struct Server {
    process: Child,
    directory: PathBuf,
    port: u16,
}

/// The server all tests running at the time share.
pub(super) fn server() -> Arc<Server> {
    static SHARED: Mutex<Weak<Server>> = Mutex::new(Weak::new());
    let mut shared = SHARED
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    shared.upgrade().unwrap_or_else(|| {
        let server = Arc::new(Server::start());
        *shared = Arc::downgrade(&server);
        server
    })
}

pub(super) fn within(milliseconds: u64) -> Instant {
    Instant::now() + Duration::from_millis(milliseconds)
}

impl Server {
    fn start() -> Self {
        static STARTED: AtomicU32 = AtomicU32::new(0);
        let number = STARTED.fetch_add(1, Ordering::Relaxed);
        let name = format!("cenote-tap-{}-{number}", std::process::id());
        let directory = std::env::temp_dir().join(name);
        std::fs::create_dir_all(&directory).unwrap();
        let user = unprivileged();
        if let Some((uid, gid)) = user {
            chown(&directory, Some(uid), Some(gid)).unwrap();
        }
        let data = directory.join("data");
        let initialised = command("initdb", user)
            .args(["-A", "trust", "-U", "postgres", "--no-sync", "-D"])
            .arg(&data)
            .stdout(Stdio::null())
            .status()
            .unwrap();
        assert!(initialised.success());
        let port = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap()
            .port();
        let process = command("postgres", user)
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&directory)
            .args(["-p", &port.to_string(), "-F", "-c", "max_connections=60"])
            .args([
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "log_min_messages=fatal",
            ])
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self {
            process,
            directory,
            port,
        }
    }

    fn config() -> Config {
        let mut config = Config::new();
        config.user("postgres").dbname("postgres");
        config
    }

    /// A raw stream to the server, which may still be starting.
    pub(super) async fn tcp(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    pub(super) async fn connect(&self) -> (Client, Link) {
        self.wait_until_up().await;
        open(self.tcp().await, &Self::config(), None, within(5_000))
            .await
            .unwrap()
    }

    pub(super) async fn connect_unix(&self) -> (Client, Link) {
        self.wait_until_up().await;
        let socket = self.directory.join(format!(".s.PGSQL.{}", self.port));
        let stream = UnixStream::connect(socket).await.unwrap();
        open(stream, &Self::config(), None, within(5_000))
            .await
            .unwrap()
    }

    async fn wait_until_up(&self) {
        let deadline = within(20_000);
        loop {
            if let Ok(stream) = TcpStream::connect(("127.0.0.1", self.port)).await
                && open(stream, &Self::config(), None, deadline).await.is_ok()
            {
                return;
            }
            assert!(Instant::now() < deadline, "the server does not start");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let data = self.directory.join("data");
        let _ = command("pg_ctl", unprivileged())
            .args(["stop", "-m", "immediate", "-D"])
            .arg(data)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        let _ = self.process.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// PostgreSQL refuses to run as root.
fn unprivileged() -> Option<(u32, u32)> {
    let id = |args: &[&str]| {
        let output = Command::new("id").args(args).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse().ok()
    };
    if id(&["-u"]) != Some(0) {
        return None;
    }
    Some((id(&["-u", "postgres"])?, id(&["-g", "postgres"])?))
}

fn command(program: &str, user: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(find(program));
    command.current_dir(std::env::temp_dir());
    if let Some((uid, gid)) = user {
        command.uid(uid).gid(gid);
    }
    command
}

/// On the path, or the newest of those where Debian puts them.
fn find(program: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let on_path = std::env::split_paths(&path).map(|folder| folder.join(program));
    if let Some(found) = on_path.into_iter().find(|it| it.is_file()) {
        return found;
    }
    let versions = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let mut found: Vec<PathBuf> = versions
        .map(|it| it.path().join("bin").join(program))
        .collect();
    found.retain(|it| it.is_file());
    found.sort();
    found.pop().unwrap_or_else(|| Path::new(program).to_owned())
}
