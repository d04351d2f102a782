//! Encrypted connections: each `sslmode`, with trusted and untrusted servers.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use cenote_local::{PostgresBuilder, PostgresServer};
use cenote_postgres::{Config, Error, InvalidConfig, Pool};
use cenote_testing::Authority;
use tokio::{
    io::{AsyncReadExt, copy_bidirectional},
    net::{TcpListener, TcpStream},
    sync::OnceCell,
};

use crate::support::{
    connecting::{first, lazy},
    until_ok,
};

/// A server whose certificate is for `localhost`.
fn server(authority: &Authority) -> PostgresBuilder {
    let (certificate, key) = authority.issue("localhost");
    PostgresServer::temporary().tls(certificate, key)
}

/// A server with TLS and one without, the authority of the first, and an authority that has issued nothing.
struct Setup {
    authority: Authority,
    stranger: Authority,
    encrypted: PostgresServer,
    plain: PostgresServer,
}

impl Setup {
    /// Writes a file for a client into a directory of the server, which is removed with the server: this setup is in a
    /// `static`, which is never dropped.
    fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn path(&self, name: &str) -> PathBuf {
        self.encrypted.socket_dir().with_file_name(name)
    }

    /// The file with the certificate of an authority.
    fn roots(&self, name: &str, authority: &Authority) -> String {
        self.file(name, &authority.pem()).display().to_string()
    }
}

async fn setup() -> &'static Setup {
    static SETUP: OnceCell<Setup> = OnceCell::const_new();
    let make = async || {
        let authority = Authority::new("ours");
        let encrypted = server(&authority).client_authority(authority.pem());
        let encrypted = encrypted
            .access_rule("hostssl certified all all scram-sha-256 clientcert=verify-ca")
            .access_rule("hostssl unencrypted all all reject")
            .access_rule("hostnossl certified all all reject");
        let (encrypted, plain) = tokio::join!(encrypted.start(), PostgresServer::temporary().start());
        let encrypted = encrypted.unwrap();
        for database in ["certified", "unencrypted"] {
            encrypted.create_database(database).await.unwrap();
        }
        Setup {
            authority,
            stranger: Authority::new("theirs"),
            encrypted,
            plain: plain.unwrap(),
        }
    };
    SETUP.get_or_init(make).await
}

/// A URL with the host name `name`, which leads to this machine.
fn url(server: &PostgresServer, name: &str, database: &str, options: &str) -> String {
    let url = server.url_for(database).replace("127.0.0.1", name);
    format!("{url}?hostaddr=127.0.0.1&{options}")
}

fn config(server: &PostgresServer, name: &str, database: &str, options: &str) -> Config {
    let mut config = Config::from_url(&url(server, name, database, options)).unwrap();
    lazy(&mut config);
    config
}

/// Whether a connection is encrypted, or why there is none.
async fn is_encrypted(config: Config) -> Result<bool, String> {
    let pool = Pool::new(config).map_err(|error| error.to_string())?;
    let connection = first(&pool).await?;
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    Ok(connection.query_one(sql, &[]).await.unwrap().get(0))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_sslmode_encrypts_or_refuses_as_libpq_does() {
    let setup = setup().await;
    let ours = setup.roots("ours.crt", &setup.authority);
    let theirs = setup.roots("theirs.crt", &setup.stranger);
    let untrusted = Err("no authority in sslrootcert has issued it");
    let misnamed = Err("not valid for name");
    let not_offered = Err("does not offer TLS");
    for (server, name, options, expected) in [
        (&setup.encrypted, "localhost", "sslmode=disable".to_owned(), Ok(false)),
        (&setup.encrypted, "localhost", "sslmode=prefer".to_owned(), Ok(true)),
        (&setup.encrypted, "localhost", String::new(), Ok(true)),
        (&setup.encrypted, "localhost", "sslmode=allow".to_owned(), Ok(false)),
        (&setup.encrypted, "elsewhere", "sslmode=require".to_owned(), Ok(true)),
        (&setup.encrypted, "no_name-", "sslmode=require".to_owned(), Ok(true)),
        (
            &setup.encrypted,
            "elsewhere",
            format!("sslmode=require&sslrootcert={ours}"),
            Ok(true),
        ),
        (
            &setup.encrypted,
            "localhost",
            format!("sslmode=require&sslrootcert={theirs}"),
            untrusted,
        ),
        (
            &setup.encrypted,
            "elsewhere",
            format!("sslmode=verify-ca&sslrootcert={ours}"),
            Ok(true),
        ),
        (
            &setup.encrypted,
            "localhost",
            format!("sslmode=verify-ca&sslrootcert={theirs}"),
            untrusted,
        ),
        (
            &setup.encrypted,
            "localhost",
            format!("sslmode=verify-full&sslrootcert={ours}"),
            Ok(true),
        ),
        (
            &setup.encrypted,
            "elsewhere",
            format!("sslmode=verify-full&sslrootcert={ours}"),
            misnamed,
        ),
        (
            &setup.encrypted,
            "localhost",
            format!("sslmode=verify-full&sslrootcert={theirs}"),
            untrusted,
        ),
        (&setup.plain, "localhost", "sslmode=disable".to_owned(), Ok(false)),
        (&setup.plain, "localhost", "sslmode=prefer".to_owned(), Ok(false)),
        (&setup.plain, "localhost", "sslmode=require".to_owned(), not_offered),
        (
            &setup.plain,
            "localhost",
            format!("sslmode=verify-full&sslrootcert={ours}"),
            not_offered,
        ),
    ] {
        let outcome = is_encrypted(config(server, name, "cenote", &options)).await;
        match (&outcome, expected) {
            (Ok(is), Ok(expected)) => assert_eq!(*is, expected, "{name} {options}"),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{options}: {error}"),
            _ => panic!("{name} {options}: {outcome:?} instead of {expected:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn with_sslmode_prefer_a_connection_is_plain_where_the_server_lets_in_only_plain_ones() {
    let setup = setup().await;
    let only_plain = |options| config(&setup.encrypted, "localhost", "unencrypted", options);
    assert_eq!(is_encrypted(only_plain("sslmode=prefer")).await, Ok(false));
    let error = is_encrypted(only_plain("sslmode=require")).await.unwrap_err();
    assert!(error.contains("pg_hba.conf"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn over_a_unix_socket_nothing_is_encrypted() {
    let setup = setup().await;
    let directory = setup.encrypted.socket_dir().display().to_string();
    let host = directory.replace('/', "%2F");
    let url = setup.encrypted.url().replace("127.0.0.1", &host);
    let mut config = Config::from_url(&format!("{url}?sslmode=require")).unwrap();
    lazy(&mut config);
    assert_eq!(is_encrypted(config).await, Ok(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_sent_to_a_server_that_asks_for_one() {
    let setup = setup().await;
    let (certificate, key) = setup.authority.issue("client");
    let certificate = setup.file("client.crt", &certificate);
    let key = setup.file("client.key", &key);
    let options = format!(
        "sslmode=require&sslcert={}&sslkey={}",
        certificate.display(),
        key.display()
    );
    // With sslmode=allow a connection is encrypted where the server lets in only encrypted ones.
    let allowed = options.replace("require", "allow");
    let with = config(&setup.encrypted, "localhost", "certified", &allowed);
    assert_eq!(is_encrypted(with).await, Ok(true));
    let with = config(&setup.encrypted, "localhost", "certified", &options);
    assert_eq!(is_encrypted(with).await, Ok(true));
    let without = config(&setup.encrypted, "localhost", "certified", "sslmode=require");
    let error = is_encrypted(without).await.unwrap_err();
    assert!(error.contains("valid client certificate"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn channel_binding_works_over_tls_and_is_a_clear_error_without() {
    let setup = setup().await;
    for (server, binding, expected) in [
        (&setup.encrypted, "require", Ok(true)),
        (&setup.encrypted, "prefer", Ok(true)),
        (&setup.encrypted, "disable", Ok(true)),
        (&setup.plain, "prefer", Ok(false)),
        (&setup.plain, "require", Err("channel binding")),
    ] {
        let options = format!("channel_binding={binding}");
        let outcome = is_encrypted(config(server, "localhost", "cenote", &options)).await;
        match (outcome, expected) {
            (Ok(is), Ok(expected)) => assert_eq!(is, expected, "{binding}"),
            (Err(error), Err(expected)) => assert!(error.contains(expected), "{error}"),
            (outcome, _) => panic!("{binding}: {outcome:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_cannot_be_used_is_named_when_the_pool_is_made_and_a_renewed_one_is_read() {
    let setup = setup().await;
    for (file, content, expected) in [
        ("missing.crt", None, "No such file"),
        ("empty.crt", Some(""), "none in PEM form"),
        ("other.crt", Some("hunter2"), "none in PEM form"),
    ] {
        let path = setup.path(file);
        if let Some(content) = content {
            setup.file(file, content);
        }
        let options = format!("sslmode=verify-ca&sslrootcert={}", path.display());
        let refused = Pool::new(config(&setup.encrypted, "localhost", "cenote", &options));
        let Err(error @ InvalidConfig::Tls(_)) = refused else {
            panic!("{file}: {refused:?}")
        };
        let text = error.to_string();
        assert!(text.contains("sslrootcert") && text.contains(expected), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }

    let roots = setup.file("renewed.crt", &setup.stranger.pem());
    let options = format!("sslmode=verify-full&sslrootcert={}", roots.display());
    let mut config = config(&setup.encrypted, "localhost", "cenote", &options);
    config.pool.backoff_permanent = Duration::from_millis(100);
    let pool = Pool::new(config).unwrap();
    let error = first(&pool).await.unwrap_err();
    assert!(error.contains("no authority in sslrootcert"), "{error}");
    setup.file("renewed.crt", &setup.authority.pem());
    until_ok("the renewed file is read", async || pool.get().await.map(drop)).await;
}

/// A proxy that keeps the first eight bytes of each connection.
async fn listening_in(port: u16) -> (u16, Arc<Mutex<Vec<[u8; 8]>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let heard = Arc::new(Mutex::new(Vec::new()));
    let hears = heard.clone();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let hears = hears.clone();
            tokio::spawn(async move {
                let mut begin = [0; 8];
                client.read_exact(&mut begin).await.unwrap();
                hears.lock().unwrap().push(begin);
                let mut server = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
                tokio::io::AsyncWriteExt::write_all(&mut server, &begin).await.unwrap();
                let _ended = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (address.port(), heard)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_goes_encrypted_and_leaves_the_connection_usable() {
    let setup = setup().await;
    let (port, heard) = listening_in(setup.encrypted.port()).await;
    let mut config = config(&setup.encrypted, "localhost", "cenote", "sslmode=require");
    let through = url(&setup.encrypted, "localhost", "cenote", "sslmode=require")
        .replace(&format!(":{}/", setup.encrypted.port()), &format!(":{port}/"));
    config.server = Config::from_url(&through).unwrap().server;
    config.command_timeout = Some(Duration::from_secs(1));
    config.pool.max_size = 1;
    config.pool.clean_timeout = Duration::from_secs(10);
    let pool = Pool::new(config).unwrap();

    let connection = pool.get().await.unwrap();
    let process = connection.process_id();
    let slept = connection.query("SELECT pg_sleep(60)", &[]).await;
    assert!(matches!(slept, Err(Error::Timeout(_))), "{slept:?}");
    drop(connection);
    let connection = pool.get().await.unwrap();
    assert_eq!(connection.process_id(), process);
    connection.query_one("SELECT 1", &[]).await.unwrap();

    let heard = heard.lock().unwrap().clone();
    assert!(heard.len() >= 2, "no cancel was sent: {heard:?}");
    let ssl_request = [0, 0, 0, 8, 4, 210, 22, 47];
    assert!(heard.iter().all(|begin| *begin == ssl_request), "{heard:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dirty_connection_is_cleaned_over_tls_too() {
    let setup = setup().await;
    let mut config = config(&setup.encrypted, "localhost", "cenote", "sslmode=require");
    config.pool.max_size = 1;
    let pool = Pool::new(config).unwrap();
    let connection = pool.get().await.unwrap();
    let process = connection.process_id();
    connection.batch_execute("BEGIN; SET work_mem = '1MB'").await.unwrap();
    drop(connection);
    let connection = pool.get().await.unwrap();
    assert_eq!(connection.process_id(), process);
    let row = connection.query_one("SHOW work_mem", &[]).await.unwrap();
    assert_eq!(row.get::<_, &str>(0), "4MB");
    assert_eq!(pool.stats().pool.cleaned, 1);
}
