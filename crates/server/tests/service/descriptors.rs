//! With a low limit of open files, clients get the descriptors that the database leaves, and each client an answer.

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::support::{Connection, Database, Launch, Process, SOON, Service};

/// The program with these limits of open files.
fn limited(soft: u32, hard: u32, settings: &[(&str, &str)]) -> Launch {
    let script = format!("ulimit -Sn {soft} && ulimit -Hn {hard} && exec \"$@\"");
    Launch::new(&["serve"]).through(&script).env("PORT", "0").envs(settings)
}

async fn start(launch: Launch, database: &Database) -> Service {
    let service = Service::over(launch.env("DATABASE_URL", &database.url).spawn(), database).await;
    service.is_ready().await;
    service
}

fn open_files_of(process: &Process) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", process.id())).unwrap().count()
}

/// Changes the soft limit of a running program.
#[cfg(target_os = "linux")]
fn limit_of(process: &Process, limit: usize) {
    use rustix::process::{Pid, Resource, Rlimit, prlimit};
    let pid = Pid::from_raw(process.id().try_into().unwrap());
    let limit = Rlimit {
        current: Some(limit as u64),
        maximum: Some(256),
    };
    prlimit(pid, Resource::Nofile, limit).unwrap();
}

#[tokio::test]
async fn the_soft_limit_is_raised_and_clients_beyond_the_hard_one_get_a_503() {
    let database = Database::create().await;
    let settings = [("DB_POOL_MIN", "1"), ("DB_POOL_MAX", "4")];
    let service = start(limited(64, 256, &settings), &database).await;
    let warning = service.logged("the limit of open files").await;
    let clients = usize::try_from(warning["clients"].as_u64().unwrap()).unwrap();
    assert_eq!(warning["limit"], 256, "{warning}");
    assert!((64..200).contains(&clients), "{warning}");

    // They stay connected, so that each takes a descriptor.
    let mut connections = Vec::new();
    let mut statuses = Vec::new();
    for _ in 0..clients + 150 {
        let ask = async {
            let mut connection = Connection::open(service.address).await.unwrap();
            // A read that needs the database: 404 is its answer.
            let answer = connection.ask("GET", "/read/none", &[], "").await.unwrap();
            (connection, answer.status)
        };
        let (connection, status) = timeout(SOON, ask).await.expect("a client hangs");
        connections.push(connection);
        statuses.push(status);
    }
    let count = |wanted| statuses.iter().filter(|status| **status == wanted).count();
    let (served, refused) = (count(404), count(503));
    assert_eq!(served + refused, statuses.len(), "{statuses:?}");
    // Earlier connections may not have ended yet.
    assert!((clients - 5..=clients).contains(&served), "{clients}: {statuses:?}");
    assert!(open_files_of(&service) < 256);

    drop(connections);
    service.is_ready().await;
    service.write("key", "value").await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn with_no_descriptor_left_clients_are_refused_at_once_and_served_again_afterwards() {
    let database = Database::create().await;
    let service = start(limited(256, 256, &[("DB_POOL_MAX", "2")]), &database).await;
    // Lower than the limit that the program found at its start.
    let open = open_files_of(&service);
    limit_of(&service, open + 3);
    let mut connections = Vec::new();
    for _ in 0..20 {
        connections.push(Connection::open(service.address).await.unwrap());
    }
    let asked = connections
        .iter_mut()
        .map(|connection| timeout(SOON, connection.ask("GET", "/health/live", &[], "")));
    let answers = join_all(asked).await;
    let refused = answers
        .iter()
        .filter(|answer| !matches!(answer, Ok(Ok(answer)) if answer.status == 200))
        .count();
    assert!(answers.iter().all(Result::is_ok), "some client hangs");
    assert!(refused > 0 && refused < 20, "{answers:?}");
    drop(connections);

    limit_of(&service, 256);
    service.is_ready().await;
}

#[tokio::test]
async fn a_limit_that_leaves_no_descriptor_for_clients_ends_the_start_with_the_figures() {
    let ended = limited(64, 64, &[("DATABASE_URL", "postgresql://127.0.0.1:1/none")])
        .run()
        .await;
    assert_eq!(ended.code, Some(1), "{ended:?}");
    assert!(ended.log.contains("the limit of open files is 64"), "{ended:?}");
}
