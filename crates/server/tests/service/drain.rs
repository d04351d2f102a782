//! A stop answers every request that was accepted, and leaves nothing behind.

use std::{
    fs::File,
    io,
    os::fd::OwnedFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use serde_json::json;
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep},
};

use crate::support::{
    AT_ONCE, Answer, Connection, Database, Ended, Launch, SLACK, SOON, Service, Session, eventually, millis, secs,
    server,
};

const SETTINGS: [(&str, &str); 2] = [("COMMAND_TIMEOUT", "30"), ("SHUTDOWN_DELAY", "1")];

/// A write that waits for a lock, and the session that holds the lock until its COMMIT.
async fn slow_write(service: &Arc<Service>) -> (JoinHandle<io::Result<Answer>>, Session) {
    service.write("slow", "one").await;
    let session = service.database.session().await;
    session
        .run("BEGIN; UPDATE kv SET value = 'held' WHERE key = 'slow'")
        .await;
    let mut connection = service.connect().await;
    let writing = tokio::spawn(async move {
        let body = json!({"key": "slow", "value": "two"});
        connection.post("/write", &body).await
    });
    session.sees_blocked(1).await;
    (writing, session)
}

async fn ended(service: Arc<Service>, limit: Duration) -> Ended {
    Arc::into_inner(service).unwrap().ended(limit).await
}

#[tokio::test]
async fn ready_turns_503_before_the_listener_closes_and_the_request_in_flight_is_answered() {
    // On a slow machine the delay may be over before everything was asked that is asked during it.
    for delay in [2, 8, 32] {
        if requests_during_the_delay_are_served(delay).await {
            return;
        }
    }
    panic!("half a minute was not enough for three requests");
}

/// False if the delay was over too soon to tell.
async fn requests_during_the_delay_are_served(delay: u64) -> bool {
    let delay_setting = delay.to_string();
    let settings = [("COMMAND_TIMEOUT", "120"), ("SHUTDOWN_DELAY", &*delay_setting)];
    let service = Arc::new(Service::start(&settings).await);
    let (writing, session) = slow_write(&service).await;
    let asked = Instant::now();
    service.signal("TERM");
    // `None` if the service did not accept the request, which is right only after the delay.
    let ask = async |method: &str, path: &str, body: &str| {
        let mut connection = Connection::open(service.address).await.ok()?;
        let json = [("content-type", "application/json")];
        connection.ask(method, path, &json, body).await.ok()
    };
    let asks = async {
        let refused = loop {
            let answer = ask("GET", "/health/ready", "").await?;
            match answer.status {
                503 => break answer,
                // The signal has not arrived yet.
                status => assert_eq!(status, 200),
            }
        };
        let detail = refused.problem(503, "not-ready")["detail"].to_string();
        assert!(detail.contains("draining"), "{detail}");
        // Until load balancers have noticed, new clients are still served.
        ask("GET", "/health/live", "").await?.json(200);
        let body = json!({"key": "other", "value": "value"}).to_string();
        Some(ask("POST", "/write", &body).await?.json(200))
    };
    let are_served = asks.await.is_some();
    assert!(are_served || asked.elapsed() >= secs(delay), "refused within the delay");

    eventually("the listener closes", async || {
        Connection::open(service.address).await.err()
    })
    .await;
    assert!(asked.elapsed() + millis(100) >= secs(delay), "closed too early");
    assert!(!writing.is_finished());
    session.run("COMMIT").await;
    let written = writing.await.unwrap().unwrap().json(200);
    assert_eq!(written["version"], 2);
    let ended = ended(service, SOON).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(session.sessions().await, 0, "a session is left behind");
    let kept = "SELECT count(*) FROM kv WHERE key = 'slow' AND value = 'two'";
    assert_eq!(session.number(kept).await, 1);
    are_served
}

#[tokio::test]
async fn a_second_signal_ends_the_service_at_once() {
    let service = Arc::new(Service::start(&SETTINGS).await);
    let (writing, _session) = slow_write(&service).await;
    service.signal("TERM");
    service.logged("draining").await;
    let asked = Instant::now();
    service.signal("TERM");
    assert!(writing.await.unwrap().is_err(), "the connection breaks");
    let ended = ended(service, SOON).await;
    // The write would end after 30 s.
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
    assert_eq!(ended.code, Some(130), "{ended:?}");
}

#[tokio::test]
async fn without_requests_in_flight_the_service_ends_after_the_delay_and_closes_idle_connections() {
    let service = Service::start(&SETTINGS).await;
    let mut idle = service.connect().await;
    idle.ask("GET", "/health/live", &[], "").await.unwrap().json(200);
    let session = service.database.session().await;
    assert!(session.sessions().await > 0);
    let asked = Instant::now();
    let ended = service.stop(SOON).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!((millis(900)..secs(1) + SLACK).contains(&asked.elapsed()));
    assert!(idle.ask("GET", "/health/live", &[], "").await.is_err());
    assert_eq!(session.sessions().await, 0, "a session is left behind");
}

#[tokio::test]
async fn sigint_ends_the_service_without_the_delay() {
    let service = Service::start(&[("SHUTDOWN_DELAY", "3600")]).await;
    service.signal("INT");
    let ended = service.ended(SOON).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_off_after_the_shutdown_timeout() {
    let settings = [
        ("COMMAND_TIMEOUT", "120"),
        ("SHUTDOWN_DELAY", "0"),
        ("SHUTDOWN_TIMEOUT", "1"),
    ];
    let service = Arc::new(Service::start(&settings).await);
    let (writing, session) = slow_write(&service).await;
    let asked = Instant::now();
    service.signal("TERM");
    assert!(writing.await.unwrap().is_err(), "the connection is cut");
    let ended = ended(service, SOON).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // A second for the request, one for destructors, up to five for the connections' ends.
    assert!((millis(900)..secs(1 + 1 + 5) + SLACK).contains(&asked.elapsed()));
    eventually("its statement is cancelled and its sessions end", async || {
        (session.sessions().await == 0).then_some(())
    })
    .await;
    session.run("COMMIT").await;
}

#[tokio::test]
async fn a_service_that_still_waits_for_its_database_stops_when_told() {
    let nobody = Database {
        name: String::new(),
        url: "postgresql://ada:secret@127.0.0.1:1/data".into(),
    };
    let service = Service::launch_with(&nobody, &[("SHUTDOWN_DELAY", "0")]).await;
    service.logged("connecting failed").await;
    let asked = Instant::now();
    let ended = service.stop(SOON).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(asked.elapsed() < AT_ONCE, "{:?}", asked.elapsed());
}

#[tokio::test]
async fn while_the_database_hangs_stopping_takes_no_longer_than_its_bounds() {
    let server = server("100").await;
    let settings = [("COMMAND_TIMEOUT", "2"), ("SHUTDOWN_DELAY", "0")];
    let service = Arc::new(Service::start_on(&server, &settings).await);
    let (writing, _session) = slow_write(&service).await;
    server.freeze().await.unwrap();
    let asked = Instant::now();
    service.signal("TERM");
    let answer = writing.await.unwrap().unwrap();
    answer.problem(504, "command-timeout");
    let ended = ended(service, SOON).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // The command's timeout, then 5 s for connections whose end the server does not confirm.
    assert!(asked.elapsed() < secs(2 + 5) + SLACK, "{:?}", asked.elapsed());
    server.thaw().await.unwrap();
}

/// Clients that ask all the time meet nothing but answers, and then connections that are refused.
#[tokio::test]
async fn under_load_no_accepted_request_is_lost() {
    let service = Arc::new(Service::start(&SETTINGS).await);
    let address = service.address;
    let at_work = Arc::new(AtomicUsize::new(0));
    let clients = (0..8).map(|client| {
        let at_work = at_work.clone();
        tokio::spawn(async move {
            let (mut answered, mut written) = (0, 0);
            loop {
                // One connection each, so that a refusal is told from a loss.
                let Ok(mut connection) = Connection::open(address).await else {
                    return (answered, written);
                };
                let body = json!({"key": format!("client {client}"), "value": "v"});
                match connection.post("/write", &body).await {
                    Ok(answer) => {
                        written = answer.json(200)["version"].as_i64().unwrap();
                        answered += 1;
                        if answered == 10 {
                            at_work.fetch_add(1, Relaxed);
                        }
                    }
                    // The kernel connected it, but the service never accepted it before its listener closed.
                    Err(_) => return (answered, written),
                }
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    eventually("all clients are at work", async || {
        (at_work.load(Relaxed) == 8).then_some(())
    })
    .await;
    service.signal("TERM");
    let mut most = Vec::new();
    for client in clients {
        let (answered, written) = client.await.unwrap();
        assert!(answered > 0);
        most.push((answered, written));
    }
    let database = service.database.clone();
    let ended = ended(service, SOON).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    // Each write that was carried out was answered: the versions count the answers.
    let session = database.session().await;
    for (client, (answered, written)) in most.into_iter().enumerate() {
        assert_eq!(answered, written);
        let sql = format!("SELECT version FROM kv WHERE key = 'client {client}'");
        assert_eq!(session.number(&sql).await, written);
    }
}

/// A terminal: the side of its emulator, and that of programs.
fn terminal() -> (OwnedFd, OwnedFd) {
    let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&master).unwrap();
    unlockpt(&master).unwrap();
    let path = ptsname(&master, Vec::new()).unwrap().into_string().unwrap();
    let terminal = File::options().read(true).write(true).open(path).unwrap();
    (master, terminal.into())
}

#[tokio::test]
async fn a_closed_terminal_ends_the_service_as_sigterm_does_and_its_private_database_too() {
    let data = tempfile::tempdir().unwrap();
    let nowhere = Database {
        name: String::new(),
        url: String::new(),
    };
    let (master, terminal) = terminal();
    let launch = Launch::new(&["serve"])
        .env("DATA_DIR", data.path().join("data").to_str().unwrap())
        .env("PORT", "0")
        .env("SHUTDOWN_DELAY", "1")
        .stdout(terminal)
        .own_group();
    let service = Service::over(launch.spawn(), &nowhere).await;
    service.is_ready().await;
    service.write("kept", "value").await;
    let asked = Instant::now();
    // From now on its standard output no longer answers that it is a terminal.
    drop(master);
    // The system sends it to all processes of the terminal, and the shell sends it again.
    for _ in 0..3 {
        service.signal_group("HUP");
    }
    let draining = service.logged("draining").await;
    assert_eq!(draining["signal"], "SIGHUP");
    service.signal_group("HUP");
    let ended = service.ended(SOON).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(asked.elapsed() >= millis(900), "without the delay");
    assert!(ended.log.contains("stopped"), "{ended:?}");
    let pid = data.path().join("data/data/postmaster.pid");
    assert!(!pid.exists(), "its database goes on");
}

#[tokio::test]
async fn a_service_started_by_nohup_goes_on_when_the_terminal_is_closed() {
    let database = Database::create().await;
    let launch = Launch::new(&["serve"])
        .env("DATABASE_URL", &database.url)
        .env("PORT", "0")
        .env("SHUTDOWN_DELAY", "0")
        .through(r#"trap '' HUP; exec "$@""#);
    let service = Service::over(launch.spawn(), &database).await;
    service.is_ready().await;
    service.signal("HUP");
    service.write("key", "value").await;
    // No gate can show that the signal has no effect: if it had one, it would be logged by now.
    sleep(millis(100)).await;
    service.write("key", "value").await;
    assert!(!service.log().contains("draining"));
    assert_eq!(service.stop(SOON).await.code, Some(0));
}
