//! A service built in this process, without the command line.

use std::time::Duration;

use cenote::{
    settings,
    startup::{Stop, build},
};
use tokio::sync::oneshot;

use crate::support::{Connection, Database, eventually, secs, shared_server};

#[tokio::test]
async fn a_service_is_built_from_settings_serves_at_its_address_and_stops_when_asked() {
    let database = Database::create_on(shared_server().await).await;
    let command = clap::Command::new("serve").args(settings::args());
    let matches = command.get_matches_from(["serve"]);
    let directory = tempfile::tempdir().unwrap();
    let environment = [
        ("DATABASE_URL", database.url.as_str()),
        ("PORT", "0"),
        ("HTTP_CORES", "2"),
    ];
    let loaded = settings::load(&matches, environment, directory.path()).unwrap();
    let service = build(loaded.settings).await.unwrap();
    let address = service.addresses()[0];
    let (stop, stopped) = oneshot::channel();
    let running = tokio::spawn(service.run(async { stopped.await.unwrap() }));
    eventually("the service is ready", async || {
        let mut connection = Connection::open(address).await.ok()?;
        let answer = connection.ask("GET", "/health/ready", &[], "").await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
    let how = Stop {
        reason: "test",
        delay: Duration::ZERO,
    };
    stop.send(how).unwrap();
    let drained = tokio::time::timeout(secs(20), running).await.unwrap().unwrap();
    assert_eq!(drained.unwrap().cut, 0);
    assert!(Connection::open(address).await.is_err(), "it still listens");
}
