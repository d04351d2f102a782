//! Who may connect to a server, and how: TLS, certificates, access rules.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test a panic is the failed assertion"
)]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use cenote_local::{Error, PostgresBuilder, PostgresServer};
use cenote_testing::{Authority, printed};
use tempfile::TempDir;

/// Writes a file that only its owner can read: libpq refuses a private key that others can read.
fn file(directory: &TempDir, name: &str, content: &str) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// A server with a certificate of this authority for 127.0.0.1.
fn server(authority: &Authority) -> PostgresBuilder {
    let (certificate, key) = authority.issue("127.0.0.1");
    PostgresServer::temporary().tls(certificate, key)
}

/// What `psql` prints when it asks over this connection whether it is encrypted.
async fn encrypted(server: &PostgresServer, parameters: &[(&str, &Path)]) -> String {
    let mut url = format!("{}?", server.url());
    for (name, value) in parameters {
        url.push_str(&format!("{name}={}&", value.display()));
    }
    let query = "select ssl from pg_stat_ssl where pid = pg_backend_pid()";
    let output = tokio::process::Command::new("psql")
        .args([url.trim_end_matches('&'), "-XwAtc", query])
        .output();
    printed(&output.await.unwrap()).trim().to_owned()
}

#[tokio::test]
async fn tls_is_spoken_with_the_given_certificate() {
    let authority = Authority::new("authority");
    let server = server(&authority).start().await.unwrap();
    let directory = TempDir::new().unwrap();
    let trusted = file(&directory, "ca.crt", &authority.pem());
    let verified = [("sslmode", Path::new("verify-full")), ("sslrootcert", &trusted)];
    assert_eq!(encrypted(&server, &verified).await, "t");
    let plain = [("sslmode", Path::new("disable"))];
    assert_eq!(encrypted(&server, &plain).await, "f");
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(encrypted(&server, &verified).await, "t");
}

#[tokio::test]
async fn access_rules_are_asked_in_their_order_before_the_usual_ones() {
    let authority = Authority::new("authority");
    let server = server(&authority)
        .access_rule("hostnossl postgres all all trust")
        .access_rule("hostnossl all all all reject")
        .start()
        .await
        .unwrap();
    let plain = [("sslmode", Path::new("disable"))];
    let refused = encrypted(&server, &plain).await;
    assert!(refused.contains("no encryption"), "{refused}");
    assert_eq!(encrypted(&server, &[("sslmode", Path::new("require"))]).await, "t");
    let trusted = [("dbname", Path::new("postgres")), plain[0]];
    assert_eq!(encrypted(&server, &trusted).await, "f");
    server.create_database("made").await.unwrap(); // needs no TCP
}

#[tokio::test]
async fn a_client_shows_a_certificate_of_the_client_authority() {
    let authority = Authority::new("authority");
    let server = server(&authority)
        .client_authority(authority.pem())
        .access_rule("hostssl all all all cert")
        .start()
        .await
        .unwrap();
    let require = ("sslmode", Path::new("require"));
    let without = encrypted(&server, &[require]).await;
    assert!(without.contains("certificate"), "{without}");
    let (certificate, key) = authority.issue("cenote");
    let directory = TempDir::new().unwrap();
    let certificate = file(&directory, "client.crt", &certificate);
    let key = file(&directory, "client.key", &key);
    let with = [require, ("sslcert", &certificate), ("sslkey", &key)];
    assert_eq!(encrypted(&server, &with).await, "t");
}

#[tokio::test]
async fn nobody_else_can_read_the_key() {
    let server = server(&Authority::new("authority")).start().await.unwrap();
    let key = server.socket_dir().with_file_name("server.key");
    assert_eq!(fs::metadata(key).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn a_rule_that_is_not_a_line_or_not_a_rule_is_refused() {
    let two = "local all all trust\nhost all all all trust";
    let refused = PostgresServer::temporary().access_rule(two).start().await;
    assert!(matches!(refused, Err(Error::InvalidSetting { .. })));
    let refused = PostgresServer::temporary()
        .access_rule("anybody may enter")
        .start()
        .await;
    let error = refused.unwrap_err();
    assert!(matches!(error, Error::Exited { .. }), "{error:?}");
    assert!(error.to_string().contains("pg_hba.conf"), "{error}");
}
