//! One rule for every error of this crate: its text says all of it, its cause included, and nothing twice. So it has no
//! source, whose text those who print chains of causes would print again.

use std::{io, str::FromStr};

use cenote_local::PostgresServer;
use tokio_postgres::NoTls;

use super::*;
use crate::{Config, ConnectError, ConnectionError, InvalidConfig, Pool};

/// The texts of an error and of its causes, as `anyhow` and `eyre` print them.
fn chain(error: &(dyn std::error::Error + 'static)) -> Vec<String> {
    std::iter::successors(Some(error), |error| error.source())
        .map(ToString::to_string)
        .collect()
}

#[track_caller]
fn says_each_thing_once(error: &(dyn std::error::Error + 'static)) {
    let links = chain(error);
    assert_eq!(links.len(), 1, "its text says it all: {links:?}");
    let pieces: Vec<&str> = links[0].split(": ").collect();
    for (at, piece) in pieces.iter().enumerate() {
        assert!(!piece.trim().is_empty(), "{links:?}");
        assert!(!pieces[..at].contains(piece), "said twice: {links:?}");
    }
}

/// How many variants [`Error`] has.
const ERRORS: usize = 18;

/// Does not compile when a variant is added. Then an example of it belongs into the list of the test, and it counts.
fn number(error: &Error) -> usize {
    match error {
        Error::Acquire(_) => 0,
        Error::Disconnected { .. } => 1,
        Error::QueueFull { .. } => 2,
        Error::Deadline { .. } => 3,
        Error::Timeout(_) => 4,
        Error::Lost { .. } => 5,
        Error::Database(_) => 6,
        Error::RolledBack => 7,
        Error::WrongStatement(_) => 8,
        Error::SeveralRows { .. } => 9,
        Error::Decode(_) => 10,
        Error::Panicked(_) => 11,
        Error::Miscounted { .. } => 12,
        Error::RowCount(_) => 13,
        Error::ChannelName => 14,
        Error::NotSent(_) => 15,
        Error::NotUnderstood(_) => 16,
        Error::Stale(_) => 17,
    }
}

/// How many variants [`ConnectionError`] has.
const CONNECTION_ERRORS: usize = 13;

/// As [`number`].
fn connection_number(error: &ConnectionError) -> usize {
    match error {
        ConnectionError::Unreachable { .. } => 0,
        ConnectionError::Refused(_) => 1,
        ConnectionError::Failed(_) => 2,
        ConnectionError::Tls { .. } => 3,
        ConnectionError::Unsuitable { .. } => 4,
        ConnectionError::Password(_) => 5,
        ConnectionError::Unclean => 6,
        ConnectionError::PasswordMissing { .. } => 7,
        ConnectionError::Authentication { .. } => 8,
        ConnectionError::NotPostgres { .. } => 9,
        ConnectionError::EachHost(_) => 10,
        ConnectionError::AfterConnect(_) => 11,
        ConnectionError::Hook(_) => 12,
    }
}

/// A refused connect with this URL.
async fn refused(url: &str) -> AcquireError {
    let mut config = Config::from_url(url).unwrap();
    config.pool.min_size = Some(0);
    config.pool.acquire_timeout = Duration::from_millis(500);
    let pool = Pool::new(config).unwrap();
    let refused = pool.inner.get().await;
    refused.map(drop).unwrap_err()
}

#[tokio::test]
async fn every_error_says_all_of_it_once_and_has_no_source() {
    let server = PostgresServer::temporary().start().await.unwrap();
    let config = tokio_postgres::Config::from_str(&server.url()).unwrap();
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    let wrong_parameter = client.execute("SELECT $1::int", &[&"text"]).await.unwrap_err();
    let database = client.execute("SELECT nothing", &[]).await.unwrap_err();
    let database = Box::new(database.as_db_error().unwrap().clone());
    let row = client.query_one("SELECT 1", &[]).await.unwrap();
    let wrong_column = row.try_get::<_, String>(0).unwrap_err();
    let acquire = refused(&server.url_for("nowhere")).await;

    let cause: Arc<str> = "the server ended it".into();
    let errors = [
        acquire.clone().into(),
        Error::Disconnected { cause: cause.clone() },
        Error::QueueFull {
            waiting: 3,
            bytes: 7,
            retry_after: None,
        },
        Error::Deadline {
            waited: Duration::from_secs(1),
            sent: true,
        },
        Error::Deadline {
            waited: Duration::from_secs(1),
            sent: false,
        },
        Error::Timeout(Duration::from_secs(1)),
        Error::Lost { cause },
        Error::Database(database.clone()),
        Error::Stale(database.clone()),
        Error::RolledBack,
        Error::WrongStatement("it returns no rows".into()),
        Error::SeveralRows { key: "7".into() },
        Error::Decode(Arc::new(wrong_column)),
        Error::Panicked("on purpose".into()),
        Error::Miscounted { outcomes: 1, writes: 2 },
        Error::RowCount(2),
        Error::ChannelName,
        Error::executed(wrong_parameter, None).unexecuted(),
        Error::NotUnderstood(Arc::new(client.execute("SELECT $1::int", &[&"x"]).await.unwrap_err())),
    ];
    let mut seen = [false; ERRORS];
    for error in &errors {
        seen[number(error)] = true;
        says_each_thing_once(error);
        let shown = error.public();
        assert_eq!(
            shown.contains("may have been made"),
            error.is_outcome_unknown(),
            "{error:?}: {shown}"
        );
    }
    assert_eq!(seen, [true; ERRORS], "an example of each");

    let refused_by_the_system = || io::Error::from(io::ErrorKind::ConnectionRefused);
    let host = || "db:5432".to_owned();
    let errors = [
        ConnectionError::Unreachable {
            host: host(),
            cause: refused_by_the_system(),
        },
        ConnectionError::Refused(database),
        ConnectionError::Failed("the server does not answer".to_owned()),
        ConnectionError::Tls {
            host: host(),
            cause: "unknown issuer".to_owned(),
        },
        ConnectionError::Unsuitable {
            host: host(),
            wanted: "read-write",
        },
        ConnectionError::Password(refused_by_the_system()),
        ConnectionError::Unclean,
        ConnectionError::AfterConnect("it left a transaction open".to_owned()),
        ConnectionError::Hook("before_acquire: no such tenant".to_owned()),
        ConnectionError::PasswordMissing {
            host: "db:5432".to_owned(),
        },
        ConnectionError::Authentication {
            host: "db:5432".to_owned(),
            cause: "it asks for Kerberos".to_owned(),
        },
        ConnectionError::NotPostgres {
            host: "db:5432".to_owned(),
        },
        ConnectionError::EachHost(vec![
            ("one:5432".to_owned(), ConnectionError::Unclean),
            (
                "two:5432".to_owned(),
                ConnectionError::Failed("the server does not answer".to_owned()),
            ),
        ]),
    ];
    let mut seen = [false; CONNECTION_ERRORS];
    for error in errors {
        seen[connection_number(&error)] = true;
        says_each_thing_once(&error);
        says_each_thing_once(&ConnectError::Failed(error));
    }
    assert_eq!(seen, [true; CONNECTION_ERRORS], "an example of each");
    says_each_thing_once(&acquire);

    let pool = cenote_pool::Config {
        max_size: 0,
        ..cenote_pool::Config::default()
    };
    let mut config = Config::from_url(&server.url()).unwrap();
    config.pool = pool;
    says_each_thing_once(&Pool::new(config).unwrap_err());
    says_each_thing_once(&InvalidConfig::from(Config::from_url("nonsense").unwrap_err()));
}

#[tokio::test]
async fn what_is_wrong_with_a_parameter_is_said_by_the_error_itself() {
    let server = PostgresServer::temporary().start().await.unwrap();
    let pool = Pool::new(Config::from_url(&server.url()).unwrap()).unwrap();
    let connection = pool.get().await.unwrap();
    let error = connection.query("SELECT $1::int", &[&"text"]).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("parameter 0") && text.contains("&str") && text.contains("int4"),
        "{text}"
    );
}
