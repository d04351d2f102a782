//! The wait for the database at the start: a failure that may pass is waited for and logged, a permanent one ends the
//! program at once.

use cenote_local::PostgresServer;
use tokio::net::TcpListener;

use crate::support::{AT_ONCE, Database, Launch, Service, eventually, secs, server};

/// Checks that each command that needs a database ends at once, with these words.
async fn ends(url: &str, words: &str) {
    for command in ["serve", "migrate", "check"] {
        let launch = Launch::new(&[command]).env("PORT", "0").env("DATABASE_URL", url);
        let ended = launch.run().await;
        assert_eq!(ended.code, Some(1), "{command} {url}: {ended:?}");
        // The pool's timeout is 30 s.
        assert!(ended.took < AT_ONCE, "{command} {url}: {ended:?}");
        let said = format!("{}\n{}", ended.output, ended.log);
        assert!(said.contains(words), "{command}: {words:?} in {ended:?}");
        // What `check` finds is in its report.
        let is_named = ended.log.contains("connecting to PostgreSQL at ");
        assert_eq!(is_named, command != "check", "{command}: {ended:?}");
    }
}

#[tokio::test]
async fn a_permanent_failure_ends_every_command_at_once_with_the_servers_words() {
    let server = PostgresServer::temporary()
        .access_rule("host all rejected all reject")
        .start()
        .await
        .unwrap();
    let database = Database::create_on(&server).await;
    let session = database.session().await;
    let roles = "CREATE ROLE rejected LOGIN PASSWORD 'p'; CREATE ROLE idle NOLOGIN PASSWORD 'p'";
    session.run(roles).await;
    session.run("CREATE DATABASE closed ALLOW_CONNECTIONS false").await;
    let [host, port, user, password] = database.parts();
    let url = |credentials: &str, name: &str| format!("postgresql://{credentials}@{host}:{port}/{name}");
    let right = format!("{user}:{password}");
    for (url, words) in [
        (url(user, &database.name), "asks for a password, and none is set"),
        (
            url(&format!("{user}:wrong"), &database.name),
            "password authentication failed",
        ),
        (url("rejected:p", &database.name), "pg_hba.conf rejects connection"),
        (url("idle:p", &database.name), "is not permitted to log in"),
        (url(&right, "nowhere"), "does not exist"),
        (url(&right, "closed"), "is not currently accepting connections"),
        (
            format!("{}?sslmode=require", url(&right, &database.name)),
            "does not offer TLS",
        ),
        (
            format!("{}?options=-c%20nonsense%3D1", url(&right, &database.name)),
            "unrecognized configuration parameter",
        ),
    ] {
        ends(&url, words).await;
    }
}

#[tokio::test]
async fn a_server_that_does_not_listen_yet_is_waited_for_and_the_log_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("postgresql://ada:secret@127.0.0.1:{port}/data");
    for command in ["migrate", "check"] {
        let launch = Launch::new(&[command]).env("DATABASE_URL", &url);
        let ended = launch
            .env("DB_POOL_TIMEOUT", "3")
            .env("DB_CONNECT_TIMEOUT", "3")
            .run()
            .await;
        assert_eq!(ended.code, Some(1), "{ended:?}");
        assert!(ended.took >= secs(2), "{ended:?}");
        let at_once = format!("connecting to PostgreSQL at 127.0.0.1:{port}");
        // The report of `check` has the address.
        assert_eq!(ended.log.contains(&at_once), command != "check", "{command}: {ended:?}");
        let meanwhile = format!("waiting for the database: cannot reach 127.0.0.1:{port}: Connection refused");
        assert!(ended.log.contains(&meanwhile), "{ended:?}");
        // The cause comes before the counts of the pool.
        let said = format!("{}{}", ended.output, ended.log);
        let last = said.lines().rfind(|line| line.contains(" in use")).unwrap();
        assert!(last.find("Connection refused") < last.find(" in use"), "{last}");
    }
}

#[tokio::test]
async fn a_server_without_a_free_connection_is_waited_for() {
    let server = server("8").await;
    let database = Database::create_on(&server).await;
    let mut others = Vec::new();
    while let Ok((client, connection)) = tokio_postgres::connect(&database.url, tokio_postgres::NoTls).await {
        tokio::spawn(connection);
        others.push(client);
    }
    let service = Service::launch_with(&database, &[("DB_POOL_MAX_SIZE", "2")]).await;
    let waiting = service.logged("waiting for the database: ").await;
    let said = waiting["message"].as_str().unwrap();
    assert!(said.contains("the server refused the connection: "), "{said}");
    drop(others);
    service.is_ready().await;
}

#[tokio::test]
async fn with_a_pool_timeout_of_zero_the_commands_still_connect() {
    let database = Database::create().await;
    let launch = Launch::new(&["migrate"]).env("DATABASE_URL", &database.url);
    let ended = launch.env("DB_POOL_TIMEOUT", "0").run().await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let service = Service::start_with(&database, &[("DB_POOL_TIMEOUT", "0")]).await;
    eventually("it answers", async || {
        (service.get("/health/ready").await.status == 200).then_some(())
    })
    .await;
}
