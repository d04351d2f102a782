//! Stopping: nobody who was let in is turned out, and nothing is left behind.

use std::{io, sync::Arc, time::Duration};

use serde_json::json;
use tokio::{task::JoinHandle, time::Instant};

use crate::support::{
    Answer, Connection, Database, Ended, Launch, SOON, Service, Session, eventually, millis, secs, server,
};

const SETTINGS: [(&str, &str); 2] = [("COMMAND_TIMEOUT", "30"), ("SHUTDOWN_DELAY", "1")];

/// A write that waits for a lock, until the session that holds it lets go.
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
    let settings = [("COMMAND_TIMEOUT", "30"), ("SHUTDOWN_DELAY", "4")];
    let service = Arc::new(Service::start(&settings).await);
    let (writing, session) = slow_write(&service).await;
    let asked = Instant::now();
    service.signal("TERM");
    let refused = eventually("ready turns 503", async || {
        let answer = service.get("/health/ready").await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    let detail = refused.problem(503, "not-ready")["detail"].to_string();
    assert!(detail.contains("draining"), "{detail}");
    // While balancers find out, whoever still comes is served.
    service.get("/health/live").await.json(200);
    service.write("other", "value").await;
    assert!(asked.elapsed() < secs(4), "the machine is too slow for this test");

    eventually("the listener closes", async || {
        Connection::open(service.address).await.err()
    })
    .await;
    assert!(asked.elapsed() >= millis(3900), "closed too early");
    assert!(!writing.is_finished());
    session.run("COMMIT").await;
    let written = writing.await.unwrap().unwrap().json(200);
    assert_eq!(written["version"], 2);
    let ended = ended(service, SOON).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert_eq!(session.sessions().await, 0, "a session is left behind");
    let kept = "SELECT count(*) FROM kv WHERE key = 'slow' AND value = 'two'";
    assert_eq!(session.number(kept).await, 1);
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let service = Arc::new(Service::start(&SETTINGS).await);
    let (writing, _session) = slow_write(&service).await;
    service.signal("TERM");
    service.logged("draining").await;
    let asked = Instant::now();
    service.signal("TERM");
    assert!(writing.await.unwrap().is_err(), "the connection breaks");
    let ended = ended(service, SOON).await;
    assert!(asked.elapsed() < secs(10));
    assert_eq!(ended.code, Some(130), "{ended:?}");
}

#[tokio::test]
async fn without_requests_in_flight_it_ends_after_the_delay_and_closes_idle_connections() {
    let service = Service::start(&SETTINGS).await;
    let mut idle = service.connect().await;
    idle.ask("GET", "/health/live", &[], "").await.unwrap().json(200);
    let session = service.database.session().await;
    assert!(session.sessions().await > 0);
    let asked = Instant::now();
    let ended = service.stop(SOON).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!((millis(900)..secs(10)).contains(&asked.elapsed()));
    assert!(idle.ask("GET", "/health/live", &[], "").await.is_err());
    assert_eq!(session.sessions().await, 0, "a session is left behind");
}

#[tokio::test]
async fn at_a_terminal_there_is_no_delay() {
    let service = Service::start(&[("SHUTDOWN_DELAY", "20")]).await;
    let asked = Instant::now();
    service.signal("INT");
    let ended = service.ended(SOON).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(asked.elapsed() < secs(10));
}

#[tokio::test]
async fn a_request_that_does_not_end_is_cut_off_after_the_bound() {
    let settings = [
        ("COMMAND_TIMEOUT", "30"),
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
    assert!((millis(900)..secs(15)).contains(&asked.elapsed()));
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
    assert!(asked.elapsed() < secs(10));
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
    // The command's time, then 5 s for connections whose end nobody confirms.
    assert!(asked.elapsed() < secs(2 + 5 + 6), "{:?}", asked.elapsed());
    server.thaw().await.unwrap();
}

/// Clients that keep asking through a restart lose nothing but connections that were refused.
#[tokio::test]
async fn under_load_no_request_that_was_let_in_is_lost() {
    let service = Arc::new(Service::start(&SETTINGS).await);
    let address = service.address;
    let clients = (0..8).map(|client| {
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
                    }
                    // Connected but never accepted: the listener closed on it.
                    Err(_) => return (answered, written),
                }
            }
        })
    });
    let clients: Vec<_> = clients.collect();
    tokio::time::sleep(millis(300)).await;
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
    // What was carried out was answered: the versions count the answers.
    let session = database.session().await;
    for (client, (answered, written)) in most.into_iter().enumerate() {
        assert_eq!(answered, written);
        let sql = format!("SELECT version FROM kv WHERE key = 'client {client}'");
        assert_eq!(session.number(&sql).await, written);
    }
}

#[tokio::test]
async fn a_closed_terminal_ends_it_as_sigterm_does_and_its_private_database_too() {
    let data = tempfile::tempdir().unwrap();
    let nowhere = Database {
        name: String::new(),
        url: String::new(),
    };
    let launch = Launch::new(&["serve"])
        .env("DATA_DIR", data.path().join("data").to_str().unwrap())
        .env("PORT", "0")
        .env("SHUTDOWN_DELAY", "1")
        .own_group();
    let service = Service::over(launch.spawn(), &nowhere).await;
    service.is_ready().await;
    service.write("kept", "value").await;
    let asked = Instant::now();
    // As the system sends it to all that run there, and the shell once more.
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
    tokio::time::sleep(millis(100)).await;
    service.write("key", "value").await;
    assert!(!service.log().contains("draining"));
    assert_eq!(service.stop(SOON).await.code, Some(0));
}
