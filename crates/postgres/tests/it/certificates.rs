//! Certificates made by `openssl`, compared with psql: cenote connects where libpq does, or says why not.

use std::{fs, process::Command};

use cenote_local::PostgresServer;
use cenote_postgres::{Config, Pool};
use tempfile::TempDir;

use crate::support::connecting::{first, lazy};

/// A directory of files made by openssl.
struct Made {
    directory: TempDir,
}

impl Made {
    fn new(commands: &[&str]) -> Self {
        let made = Self {
            directory: tempfile::tempdir().unwrap(),
        };
        for command in commands {
            let output = Command::new("openssl")
                .args(command.split(' '))
                .current_dir(made.directory.path())
                .output()
                .unwrap();
            let complaint = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command}: {complaint}");
        }
        made
    }

    fn path(&self, name: &str) -> String {
        self.directory.path().join(name).display().to_string()
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// A server with the certificate `server.crt`.
    async fn server(&self) -> PostgresServer {
        let server = PostgresServer::temporary().tls(self.read("server.crt"), self.read("server.key"));
        server.start().await.unwrap()
    }

    /// Whether the connection of psql is encrypted, or the error of psql.
    fn psql(&self, server: &PostgresServer, options: &str) -> Result<bool, String> {
        let url = server.url();
        let (_, rest) = url.split_once("cenote:").unwrap();
        let (password, _) = rest.split_once('@').unwrap();
        let port = server.port();
        let target = format!("host=localhost hostaddr=127.0.0.1 port={port} user=cenote dbname=cenote {options}");
        let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let output = Command::new("psql")
            .args(["-XAtq", "-d", &target, "-c", sql])
            .env("PGPASSWORD", password)
            .env("HOME", self.directory.path())
            .output()
            .unwrap();
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).trim() == "t"),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }
}

/// Whether the connection of cenote is encrypted, or its error.
async fn cenote(server: &PostgresServer, options: &str) -> Result<bool, String> {
    let url = server.url().replace("127.0.0.1", "localhost");
    let options = options.replace(' ', "&");
    let mut config = Config::from_url(&format!("{url}?hostaddr=127.0.0.1&{options}")).unwrap();
    lazy(&mut config);
    let pool = Pool::new(config).map_err(|error| error.to_string())?;
    let connection = first(&pool).await?;
    let sql = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    Ok(connection.query_one(sql, &[]).await.unwrap().get(0))
}

/// Tries each mode with both. `reasons` are the errors for the modes in which cenote refuses what psql accepts.
async fn compare(commands: &[&str], reasons: &[(&str, &str)]) {
    let made = Made::new(commands);
    let server = made.server().await;
    let roots = made.path("root.crt");
    for options in [
        "sslmode=disable".to_owned(),
        "sslmode=allow".to_owned(),
        "sslmode=prefer".to_owned(),
        "sslmode=require".to_owned(),
        format!("sslmode=require sslrootcert={roots}"),
        format!("sslmode=verify-ca sslrootcert={roots}"),
        format!("sslmode=verify-full sslrootcert={roots}"),
        "sslmode=require channel_binding=disable".to_owned(),
        "sslmode=require channel_binding=require".to_owned(),
    ] {
        let theirs = made.psql(&server, &options);
        let ours = cenote(&server, &options).await;
        let shown = options.replace(&roots, "…");
        let reason = reasons.iter().find(|(of, _)| *of == shown).map(|(_, reason)| *reason);
        match (&theirs, &ours, reason) {
            (Ok(theirs), Ok(ours), None) => assert_eq!(theirs, ours, "{shown}"),
            // Cenote may accept what libpq refuses, such as SCRAM with a certificate that has no hash.
            (Err(_), _, None) => {}
            (_, Err(ours), Some(reason)) => assert!(ours.contains(reason), "{shown}: {ours}"),
            _ => panic!("{shown}: psql {theirs:?}, cenote {ours:?}, expected {reason:?}"),
        }
        if !options.contains("channel_binding=require") && !options.contains("root") {
            assert!(ours.is_ok(), "{shown}: {ours:?}");
        }
    }
}

const CA: [&str; 2] = [
    "req -new -x509 -nodes -newkey rsa:2048 -days 30 -keyout root.key -out root.crt -subj /CN=authority",
    "req -new -nodes -newkey rsa:2048 -keyout server.key -out server.csr -subj /CN=localhost",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_version_1_from_an_authority_is_accepted_where_none_is_verified() {
    // As in the documentation of PostgreSQL.
    let sign = "x509 -req -in server.csr -days 30 -CA root.crt -CAkey root.key -CAcreateserial -out server.crt";
    compare(
        &[CA[0], CA[1], sign],
        &[
            ("sslmode=require sslrootcert=…", "version 1"),
            ("sslmode=verify-ca sslrootcert=…", "version 1"),
            ("sslmode=verify-full sslrootcert=…", "version 1"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_signed_certificate_of_version_1_is_its_own_authority() {
    let sign = "x509 -req -in server.csr -days 30 -signkey server.key -out server.crt";
    compare(
        &[CA[1], sign, "x509 -in server.crt -out root.crt"],
        &[("sslmode=verify-full sslrootcert=…", "names no host")],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_signed_certificate_without_subject_alternative_name_is_its_own_authority() {
    // As in the documentation of PostgreSQL, too. openssl marks it as an authority.
    let make = "req -new -x509 -days 30 -nodes -newkey rsa:2048 -keyout server.key -out server.crt -subj /CN=localhost";
    compare(
        &[make, "x509 -in server.crt -out root.crt"],
        &[("sslmode=verify-full sslrootcert=…", "subjectAltName")],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_self_signed_certificate_with_subject_alternative_name_passes_every_check() {
    let make = "req -new -x509 -days 30 -nodes -newkey rsa:2048 -keyout server.key -out server.crt -subj /CN=localhost \
                -addext subjectAltName=DNS:localhost";
    compare(&[make, "x509 -in server.crt -out root.crt"], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_signed_with_rsa_pss_passes_every_check() {
    let make = "req -new -x509 -days 30 -nodes -newkey rsa:2048 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:-1 \
                -keyout server.key -out server.crt -subj /CN=localhost -addext subjectAltName=DNS:localhost";
    compare(&[make, "x509 -in server.crt -out root.crt"], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_an_elliptic_curve_passes_every_check() {
    let make = "req -new -x509 -days 30 -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 \
                -keyout server.key -out server.crt -subj /CN=localhost -addext subjectAltName=DNS:localhost";
    compare(&[make, "x509 -in server.crt -out root.crt"], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_ed25519_certificate_is_accepted_without_channel_binding() {
    let make = "req -new -x509 -days 30 -nodes -newkey ed25519 -keyout server.key -out server.crt -subj /CN=localhost \
                -addext subjectAltName=DNS:localhost";
    compare(&[make, "x509 -in server.crt -out root.crt"], &[]).await;
}

/// A key whose signatures ring cannot check is accepted without verification, and otherwise a clear error.
async fn key_is_not_supported(make: &str) {
    let unsupported = "kinds of key that are supported";
    compare(
        &[make, "x509 -in server.crt -out root.crt"],
        &[
            ("sslmode=require sslrootcert=…", unsupported),
            ("sslmode=verify-ca sslrootcert=…", unsupported),
            ("sslmode=verify-full sslrootcert=…", unsupported),
            ("sslmode=require channel_binding=require", "channel binding"),
        ],
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_a_large_curve_is_accepted_where_none_is_verified() {
    key_is_not_supported(
        "req -new -x509 -days 30 -nodes -newkey ec -pkeyopt ec_paramgen_curve:secp521r1 -keyout server.key -out server.crt \
         -subj /CN=localhost -addext subjectAltName=DNS:localhost",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_rsa_key_for_pss_alone_is_accepted_where_none_is_verified() {
    key_is_not_supported(
        "req -new -x509 -days 30 -nodes -newkey rsa-pss -pkeyopt rsa_keygen_bits:2048 -keyout server.key -out server.crt \
         -subj /CN=localhost -addext subjectAltName=DNS:localhost",
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_certificate_is_accepted_where_none_is_verified() {
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(2019, 1, 1);
    params.not_after = rcgen::date_time_ymd(2020, 1, 1);
    let made = Made::new(&[]);
    let certificate = params.self_signed(&key).unwrap().pem();
    for name in ["server.crt", "root.crt"] {
        fs::write(made.path(name), &certificate).unwrap();
    }
    fs::write(made.path("server.key"), key.serialize_pem()).unwrap();
    let server = made.server().await;
    let roots = made.path("root.crt");
    assert_eq!(cenote(&server, "sslmode=require").await, Ok(true));
    for mode in ["require", "verify-ca", "verify-full"] {
        let options = format!("sslmode={mode} sslrootcert={roots}");
        assert!(made.psql(&server, &options).is_err());
        let error = cenote(&server, &options).await.unwrap_err();
        assert!(error.contains("it has expired"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_the_key_of_a_trusted_certificate_is_refused() {
    // The server has another certificate of the same name, which is not trusted.
    let made = Made::new(&[
        CA[1],
        "x509 -req -in server.csr -days 30 -signkey server.key -out server.crt",
        "req -new -nodes -newkey rsa:2048 -keyout other.key -out other.csr -subj /CN=localhost",
        "x509 -req -in other.csr -days 30 -signkey other.key -out root.crt",
    ]);
    let server = made.server().await;
    let options = format!("sslmode=verify-ca sslrootcert={}", made.path("root.crt"));
    assert!(made.psql(&server, &options).is_err());
    let error = cenote(&server, &options).await.unwrap_err();
    assert!(error.contains("not accepted"), "{error}");
}
