//! The service under a supervisor that does what systemd does: it reads the notifications and passes a socket.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use socket2::{Domain, Socket, Type};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::support::{Connection, Database, Launch, SOON, Service, eventually, shared_server};

/// Where notifications arrive.
struct Supervisor {
    socket: UnixDatagram,
    path: PathBuf,
    _directory: TempDir,
    seen: Vec<String>,
}

impl Supervisor {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        Self {
            socket,
            path,
            _directory: directory,
            seen: Vec::new(),
        }
    }

    /// Waits until this many lines that begin like this have arrived in all, and returns the last of them.
    async fn got(&mut self, begin: &str, times: usize) -> String {
        eventually(&format!("{times} × {begin}"), async || {
            let mut message = [0; 4096];
            while let Ok(length) = self.socket.recv(&mut message) {
                let message = String::from_utf8(message[..length].to_vec()).unwrap();
                self.seen.extend(message.lines().map(str::to_owned));
            }
            let mut of_kind = self.seen.iter().filter(|line| line.starts_with(begin));
            of_kind.nth(times - 1).cloned()
        })
        .await
    }

    fn position(&self, line: &str) -> Option<usize> {
        self.seen.iter().position(|seen| seen == line)
    }
}

async fn database() -> Database {
    Database::create_on(shared_server().await).await
}

#[tokio::test]
async fn systemd_learns_of_the_start_the_pool_and_the_stop_and_gets_heartbeats() {
    let mut supervisor = Supervisor::new();
    let database = database().await;
    let path = supervisor.path.to_str().unwrap().to_owned();
    let settings = [("NOTIFY_SOCKET", path.as_str()), ("WATCHDOG_USEC", "400000")];
    let service = Service::start_with(&database, &settings).await;
    supervisor.got("READY=1", 1).await;
    let status = supervisor.got("STATUS=running; pool: ", 1).await;
    assert!(status.ends_with(" connections in use, 0 requests waiting"), "{status}");
    supervisor.got("WATCHDOG=1", 5).await;
    let ended = service.stop(SOON).await;
    assert_eq!(ended.code, Some(0));
    supervisor.got("STOPPING=1", 1).await;
    assert!(supervisor.position("READY=1") < supervisor.position("STOPPING=1"));
}

#[tokio::test]
async fn systemd_learns_of_the_beginning_and_the_end_of_a_reload() {
    let mut supervisor = Supervisor::new();
    let database = database().await;
    let path = supervisor.path.to_str().unwrap().to_owned();
    let service = Service::start_with(&database, &[("NOTIFY_SOCKET", path.as_str())]).await;
    supervisor.got("READY=1", 1).await;
    // A reload that changes nothing, and one that is refused: systemd waits for the end of both.
    for (reload, text) in [(1, "LOG=info"), (2, "LOG=nonsense")] {
        service.write_file(".env", text);
        service.signal("HUP");
        supervisor.got("READY=1", 1 + reload).await;
        let since = supervisor.got("MONOTONIC_USEC=", reload).await;
        assert!(since.trim_start_matches("MONOTONIC_USEC=").parse::<u64>().unwrap() > 0);
        let begun = supervisor.seen.iter().rposition(|line| line == "RELOADING=1");
        let ended = supervisor.seen.iter().rposition(|line| line == "READY=1");
        assert!(begun.is_some() && begun < ended, "{:?}", supervisor.seen);
    }
}

#[tokio::test]
async fn a_service_without_its_database_is_not_ready() {
    let mut supervisor = Supervisor::new();
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("postgres://u@{}/d", nobody.local_addr().unwrap());
    let launch = Launch::new(&["serve"])
        .env("DATABASE_URL", &url)
        .env("PORT", "0")
        .env("NOTIFY_SOCKET", supervisor.path.to_str().unwrap());
    let process = launch.spawn();
    supervisor.got("STATUS=starting", 1).await;
    process.signal("TERM");
    supervisor.got("STOPPING=1", 1).await;
    assert_eq!(supervisor.position("READY=1"), None);
}

/// A socket with room for many connections that nobody accepts yet.
fn listening() -> TcpListener {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let address: SocketAddr = ([127, 0, 0, 1], 0).into();
    socket.bind(&address.into()).unwrap();
    socket.listen(4096).unwrap();
    socket.into()
}

fn passed(socket: &TcpListener, database: &Database) -> Launch {
    Launch::new(&["serve"])
        .env("DATABASE_URL", &database.url)
        // Not used: the port of the socket counts.
        .env("PORT", "1")
        .env("SHUTDOWN_DELAY", "0")
        .passing(socket)
}

#[tokio::test]
async fn a_restart_under_load_refuses_no_connection() {
    let database = database().await;
    let socket = listening();
    let address = socket.local_addr().unwrap();
    let first = Service::over(passed(&socket, &database).spawn(), &database).await;
    assert_eq!(first.address, address);
    first.is_ready().await;

    let (answered, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (answered, ended) = (Arc::clone(&answered), Arc::clone(&ended));
            tokio::spawn(async move {
                while !ended.load(SeqCst) {
                    let connected = timeout(SOON, Connection::open(address)).await.unwrap();
                    let mut connection = connected.expect("no connection is refused");
                    // A connection that was accepted as the drain began may be closed before its request is read; it is
                    // safe to repeat then.
                    let answer = timeout(SOON, connection.ask("GET", "/health/live", &[], "")).await;
                    if let Ok(answer) = answer.unwrap() {
                        assert_eq!(answer.status, 200);
                        answered.fetch_add(1, SeqCst);
                    }
                }
            })
        })
        .collect();
    let more = async |count: usize| {
        let before = answered.load(SeqCst);
        eventually("requests are answered", async || {
            (answered.load(SeqCst) >= before + count).then_some(())
        })
        .await;
    };
    more(100).await;
    let mut service = first;
    for _ in 0..3 {
        let stopped = service.stop(SOON).await;
        assert_eq!(stopped.code, Some(0));
        service = Service::over(passed(&socket, &database).spawn(), &database).await;
        more(100).await;
    }
    ended.store(true, SeqCst);
    for client in clients {
        timeout(SOON, client).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_file_that_is_no_listening_socket_ends_the_start() {
    let unbound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    let ended = Launch::new(&["serve"]).passing(&unbound.into()).run().await;
    assert_eq!(ended.code, Some(1));
    let reason = ended.reason();
    assert!(
        reason.contains("file 1 of LISTEN_FDS cannot be used: it does not listen"),
        "{reason}"
    );

    let script = r#"exec 3<"$0"; export LISTEN_FDS=1 LISTEN_PID=$$; exec "$@""#.replace("$0", "/dev/null");
    let ended = Launch::new(&["serve"]).through(&script).run().await;
    assert_eq!(ended.code, Some(1));
    assert!(ended.reason().contains("is not a socket"), "{}", ended.reason());
}

#[tokio::test]
async fn sockets_that_were_passed_to_another_process_are_left_alone() {
    let database = database().await;
    let script = r#"exec 3</dev/null; export LISTEN_FDS=1 LISTEN_PID=1; exec "$@""#;
    let launch = Launch::new(&["serve"])
        .env("DATABASE_URL", &database.url)
        .env("PORT", "0")
        .through(script);
    Service::over(launch.spawn(), &database).await.is_ready().await;
}
