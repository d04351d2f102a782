//! A failure to connect that waiting does not cure is reported at once, in the server's words; any other is waited for.

use std::{fs, sync::Arc, time::Duration};

use cenote_local::PostgresServer;
use cenote_postgres::{AcquireError, Config, ConnectError, ConnectionError, Pool, Reason};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::OnceCell,
    time::Instant,
};

use crate::support::{SOON, connecting::refused, until_ok};

/// A server that refuses connections in every way it can.
async fn server() -> &'static PostgresServer {
    static SERVER: OnceCell<PostgresServer> = OnceCell::const_new();
    SERVER
        .get_or_init(async || {
            let server = PostgresServer::temporary()
                .access_rule("host all md5 all md5")
                .access_rule("host all clear all password")
                .access_rule("host all rejected all reject")
                .setting("log_connections", "on")
                .start()
                .await
                .unwrap();
            let pool = Pool::new(Config::from_url(&server.url()).unwrap()).unwrap();
            let sql = "CREATE ROLE rejected LOGIN; CREATE ROLE idle NOLOGIN PASSWORD 'p'; \
                       CREATE ROLE clear LOGIN PASSWORD 'p'; CREATE ROLE stranger LOGIN PASSWORD 'p'; \
                       CREATE DATABASE closed ALLOW_CONNECTIONS false; CREATE DATABASE private; \
                       REVOKE CONNECT ON DATABASE private FROM PUBLIC";
            let connection = pool.get().await.unwrap();
            for statement in sql.split("; ") {
                connection.batch_execute(statement).await.unwrap();
            }
            server
        })
        .await
}

fn config(server: &PostgresServer, change: impl FnOnce(&mut Config)) -> Config {
    let mut config = Config::from_url(&server.url()).unwrap();
    config.pool.acquire_timeout = SOON;
    change(&mut config);
    config
}

/// The error of a caller with a long acquire timeout, which comes long before that.
async fn told(config: Config) -> AcquireError {
    let pool = Pool::new(config).unwrap();
    let asked = Instant::now();
    let error = refused(pool.get().await);
    assert!(asked.elapsed() < SOON / 2, "{error}");
    error
}

async fn is_permanent(config: Config, words: &str) {
    let error = told(config).await;
    assert_eq!(error.reason(), Reason::Permanent, "{error}");
    assert!(error.to_string().contains(words), "{words:?} in {error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_that_waiting_does_not_cure_is_reported_at_once_in_the_servers_words() {
    let server = server().await;
    let as_role = |role: &'static str| {
        config(server, |config| {
            config.server.user(role).password("p");
        })
    };
    let to = |database: &'static str| {
        config(server, |config| {
            config.server.dbname(database);
        })
    };
    let with = |options: &'static str| {
        config(server, |config| {
            config.server.options(options);
        })
    };
    let private = config(server, |config| {
        config.server.user("stranger").password("p").dbname("private");
    });
    for (config, words) in [
        (as_role("cenote"), "password authentication failed for user"),
        (as_role("nobody"), "password authentication failed for user"),
        (as_role("rejected"), "pg_hba.conf rejects connection"),
        (as_role("idle"), "role \"idle\" is not permitted to log in"),
        (to("nowhere"), "database \"nowhere\" does not exist"),
        (to("closed"), "is not currently accepting connections"),
        (private, "permission denied for database"),
        (with("-c nonsense=1"), "unrecognized configuration parameter"),
        (with("-c work_mem=much"), "invalid value for parameter"),
        (with("-c max_connections=7"), "cannot be changed"),
        (with("nonsense"), "invalid command-line argument"),
    ] {
        is_permanent(config, words).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_password_is_reported_at_once_for_each_way_of_authentication() {
    let server = server().await;
    for role in ["cenote", "md5", "clear"] {
        let config = config(server, |config| {
            let server = &config.server;
            let mut bare = cenote_postgres::tokio_postgres::Config::new();
            bare.host("127.0.0.1").port(server.get_ports()[0]);
            bare.user(role).dbname("cenote");
            config.server = bare;
        });
        is_permanent(config, "asks for a password, and none is set").await;
    }
}

/// A listener that answers each connection with these bytes.
async fn stranger(greeting: &'static [u8], speaks_first: bool) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                if !speaks_first {
                    let _ = stream.read(&mut [0; 512]).await;
                }
                let _ = stream.write_all(greeting).await;
                // The client is the one to close the connection.
                let _ = stream.read_to_end(&mut Vec::new()).await;
            });
        }
    });
    format!("postgresql://u:p@{address}/d")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_not_postgresql_is_named_as_such_with_and_without_encryption() {
    for (greeting, speaks_first) in [
        (&b"HTTP/1.1 400 Bad Request\r\nServer: nginx\r\n\r\n"[..], false),
        (b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", true),
        (b"220 mail.example.org ESMTP Postfix\r\n", true),
        (b"\x4a\x00\x00\x00\x0a8.0.36\x00", true),
        (b"-ERR unknown command\r\n", false),
    ] {
        for mode in ["disable", "prefer"] {
            let url = stranger(greeting, speaks_first).await;
            let url = format!("{url}?sslmode={mode}");
            is_permanent(Config::from_url(&url).unwrap(), "is not PostgreSQL").await;
        }
    }
}

#[cfg(feature = "tls")]
#[tokio::test(flavor = "multi_thread")]
async fn encryption_that_is_required_and_not_offered_is_reported_at_once() {
    let server = server().await;
    let url = format!("{}?sslmode=require", server.url());
    let words = "the server does not offer TLS";
    is_permanent(Config::from_url(&url).unwrap(), words).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_path_that_is_too_long_is_reported_at_once() {
    let url = format!("postgresql://u:p@%2F{}/d", "x".repeat(200));
    is_permanent(Config::from_url(&url).unwrap(), "cannot reach /xxx").await;
}

/// PgBouncer reports all errors with one code.
#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_that_never_takes_the_connection_is_told_apart_from_one_whose_server_is_down() {
    for (answer, permanent) in [
        (
            &b"E\0\0\0\x40SFATAL\0C08P01\0Munsupported startup parameter: options\0\0"[..],
            true,
        ),
        (
            b"E\0\0\0\x38SFATAL\0C08P01\0Mpgbouncer cannot connect to server\0\0",
            false,
        ),
    ] {
        // The length of a message counts itself, but not the type before it.
        let mut message = answer.to_vec();
        let length = u32::try_from(message.len() - 1).unwrap();
        message[1..5].copy_from_slice(&length.to_be_bytes());
        let url = stranger(Vec::leak(message), false).await;
        let mut config = Config::from_url(&format!("{url}?sslmode=disable")).unwrap();
        config.pool.acquire_timeout = Duration::from_millis(500);
        let pool = Pool::new(config).unwrap();
        let error = refused(pool.get().await);
        let told = error.reason() == Reason::Permanent;
        assert_eq!(told, permanent, "{error}");
    }
}

/// A port on which nothing listens.
async fn nobody() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_that_may_pass_is_waited_for_and_the_error_begins_with_its_cause() {
    let port = nobody().await;
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().display().to_string().replace('/', "%2F");
    for (url, words) in [
        (format!("postgresql://u:p@127.0.0.1:{port}/d"), "onnection refused"),
        (format!("postgresql://u:p@{socket}/d"), "No such file"),
        (
            "postgresql://u:p@nowhere.invalid/d".to_owned(),
            "cannot reach nowhere.invalid:5432",
        ),
    ] {
        let mut config = Config::from_url(&url).unwrap();
        config.pool.acquire_timeout = Duration::from_millis(700);
        let pool = Pool::new(config).unwrap();
        let error = refused(pool.get().await);
        assert!(matches!(error.reason(), Reason::Timeout { .. }), "{error}");
        let said = error.to_string();
        let (cause, counts) = (said.find(words), said.find(" in use"));
        assert!(cause.is_some() && cause < counts, "{said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_several_hosts_waiting_ends_only_if_each_of_them_refuses_permanently() {
    let (server, port) = (server().await, nobody().await);
    let right = server.port();
    let hosts = |ports: [u16; 2], password: Option<&str>| {
        config(server, |config| {
            let server = &config.server;
            let mut both = cenote_postgres::tokio_postgres::Config::new();
            both.user("cenote").dbname("cenote");
            match password {
                Some(password) => both.password(password),
                None => both.password(server.get_password().unwrap()),
            };
            for port in ports {
                both.host("127.0.0.1").port(port);
            }
            config.server = both;
        })
    };
    // The host that is down may come back and accept the password.
    let mut waiting = hosts([port, right], Some("wrong"));
    waiting.pool.acquire_timeout = Duration::from_millis(700);
    let error = told(waiting).await;
    assert!(matches!(error.reason(), Reason::Timeout { .. }), "{error}");
    let said = error.to_string();
    for words in ["onnection refused", "password authentication failed"] {
        assert!(said.contains(words), "{said}");
    }
    is_permanent(hosts([right, right], Some("wrong")), "password authentication failed").await;
    // Another program on the first port does no harm.
    let web = stranger(b"HTTP/1.1 400 Bad Request\r\n\r\n", false).await;
    let web: u16 = web.split([':', '/']).nth(5).unwrap().parse().unwrap();
    let pool = Pool::new(hosts([web, right], None)).unwrap();
    drop(pool.get().await.unwrap());
}

/// The number of failed logins of this user in the server's log.
fn logins(server: &PostgresServer, user: &str) -> usize {
    let log = fs::read_to_string(server.log_file()).unwrap();
    let failed = format!("password authentication failed for user \"{user}\"");
    log.matches(&failed).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_costs_many_callers_no_time_and_the_server_a_handful_of_logins() {
    let server = server().await;
    let mut config = config(server, |config| {
        config.server.user("many").password("wrong");
    });
    config.pool.acquire_timeout = Duration::from_secs(30);
    let pool = Pool::new(config).unwrap();
    let asked = Instant::now();
    let callers: Vec<_> = (0..100)
        .map(|_| {
            let pool = pool.clone();
            tokio::spawn(async move { pool.get().await.map(drop) })
        })
        .collect();
    for caller in callers {
        let error = refused(caller.await.unwrap());
        assert_eq!(error.reason(), Reason::Permanent, "{error}");
    }
    assert!(asked.elapsed() < SOON);
    // The pool repeats the login only every few seconds.
    let counted = logins(server, "many");
    assert!((1..=8).contains(&counted), "{counted} logins");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_password_rotated_meanwhile_is_used_without_a_restart() {
    let server = server().await;
    let admin = Pool::new(config(server, |_| {})).unwrap();
    let admin = admin.get_owned().await.unwrap();
    let create = "CREATE ROLE rotated LOGIN PASSWORD 'new'";
    admin.batch_execute(create).await.unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "old").unwrap();
    let mut config = config(server, |config| {
        config.server.user("rotated");
    });
    config.password = Some(cenote_postgres::Password::from_file(file.path()));
    config.pool.backoff_permanent = Duration::from_millis(200);
    let pool = Pool::new(config).unwrap();
    let error = refused(pool.get().await);
    assert_eq!(error.reason(), Reason::Permanent, "{error}");
    let cause: Arc<_> = error.snapshot().last_connect_error.clone().unwrap();
    let ConnectError::Failed(ConnectionError::Refused(refused)) = &*cause else {
        panic!("{cause}");
    };
    assert_eq!(refused.code().code(), "28P01");
    fs::write(file.path(), "new").unwrap();
    until_ok("the new password is used", async || pool.get().await.map(drop)).await;
}
