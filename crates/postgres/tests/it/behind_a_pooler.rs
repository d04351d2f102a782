//! PgBouncer between the pool and the server. Without PgBouncer in PATH these tests check nothing, and say so.

use std::{
    fs,
    io::ErrorKind,
    net::{Ipv4Addr, TcpListener},
    os::unix::fs::PermissionsExt,
    process::{Child, Command, Stdio},
    time::Duration,
};

use cenote_local::PostgresServer;
use cenote_postgres::{Config, Error, Pool, tokio_postgres};

use crate::support::{server, until_ok};

struct Bouncer {
    process: Child,
    _folder: tempfile::TempDir,
    url: String,
}

impl Drop for Bouncer {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _status = self.process.wait();
    }
}

impl Bouncer {
    /// A PgBouncer in front of this server. `None` if it is not installed.
    async fn start(server: &PostgresServer, mode: &str) -> Option<Self> {
        let config: tokio_postgres::Config = server.url().parse().unwrap();
        let (user, password) = (config.get_user().unwrap(), config.get_password().unwrap());
        let password = std::str::from_utf8(password).unwrap();
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = free.local_addr().unwrap().port();
        drop(free);
        let folder = tempfile::tempdir().unwrap();
        // PgBouncer does not run as root.
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let (users, settings) = (folder.path().join("users.txt"), folder.path().join("pgbouncer.ini"));
        fs::write(&users, format!("\"{user}\" \"{password}\"\n")).unwrap();
        let text = format!(
            "[databases]\n* = host=127.0.0.1 port={}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\n\
             unix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {}\npool_mode = {mode}\ndefault_pool_size = 2\n",
            server.port(),
            users.display(),
        );
        fs::write(&settings, text).unwrap();
        let mut command = Command::new("pgbouncer");
        if fs::metadata("/proc/self").is_ok_and(|it| std::os::unix::fs::MetadataExt::uid(&it) == 0) {
            command.args(["-u", "nobody"]);
        }
        let started = command
            .arg(&settings)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        let process = match started {
            Ok(process) => process,
            Err(error) if error.kind() == ErrorKind::NotFound => {
                eprintln!("not checked: PgBouncer is not installed");
                return None;
            }
            Err(error) => panic!("{error}"),
        };
        let bouncer = Self {
            process,
            _folder: folder,
            url: server
                .url()
                .replace(&format!(":{}/", server.port()), &format!(":{port}/")),
        };
        until_ok("PgBouncer answers", async || {
            tokio::net::TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await
        })
        .await;
        Some(bouncer)
    }

    fn pool(&self) -> Pool {
        let mut config = Config::from_url(&self.url).unwrap();
        config.pool.max_size = 2;
        config.pool.min_size = Some(0);
        Pool::new(config).unwrap()
    }
}

#[tokio::test]
async fn in_session_mode_everything_works() {
    let server = server().await;
    let Some(bouncer) = Bouncer::start(&server, "session").await else {
        return;
    };
    let pool = bouncer.pool();
    for number in 0..5 {
        assert_eq!(
            pool.query_one_scalar::<i32>("SELECT $1::int", &[&number])
                .await
                .unwrap(),
            number
        );
    }
    let connection = pool.get().await.unwrap();
    connection
        .batch_execute("SET application_name = 'changed'; CREATE TEMP TABLE t ()")
        .await
        .unwrap();
    drop(connection);
    let connection = pool.get().await.unwrap();
    let name: String = connection.query_one_scalar("SHOW application_name", &[]).await.unwrap();
    assert_ne!(name, "changed");
    connection.set_command_timeout(Some(Duration::from_millis(50)));
    let slow = connection.query("SELECT pg_sleep(600)", &[]).await.unwrap_err();
    assert!(matches!(slow, Error::Timeout(_)), "{slow:?}");
    drop(connection);
    assert_eq!(pool.query_one_scalar::<i32>("SELECT 1", &[]).await.unwrap(), 1);
    let transaction = pool.begin().await.unwrap();
    transaction.execute("CREATE TABLE goods ()", &[]).await.unwrap();
    drop(transaction);
    let made: i64 = pool
        .query_one_scalar("SELECT count(*) FROM pg_tables WHERE tablename = 'goods'", &[])
        .await
        .unwrap();
    assert_eq!(made, 0);
}

#[tokio::test]
async fn in_transaction_mode_statements_without_parameters_and_timeouts_work() {
    let server = server().await;
    let Some(bouncer) = Bouncer::start(&server, "transaction").await else {
        return;
    };
    let pool = bouncer.pool();
    let connection = pool.get().await.unwrap();
    connection
        .batch_execute("CREATE TABLE goods (name text); INSERT INTO goods VALUES ('lamp')")
        .await
        .unwrap();
    connection.set_command_timeout(Some(Duration::from_millis(50)));
    let slow = connection.batch_execute("SELECT pg_sleep(600)").await.unwrap_err();
    assert!(matches!(slow, Error::Timeout(_)), "{slow:?}");
    drop(connection);
    let connection = pool.get().await.unwrap();
    connection
        .batch_execute("BEGIN; DELETE FROM goods; ROLLBACK")
        .await
        .unwrap();
    drop(connection);
    let connection = pool.get().await.unwrap();
    connection
        .batch_execute("DO $$ BEGIN ASSERT (SELECT count(*) FROM goods) = 1; END $$")
        .await
        .unwrap();
}
