//! The files of TLS, and its oldest version.

use cenote_testing::Authority;

use super::Reloading;
use crate::support::{Database, Launch, Service, shared_server};

/// A client of openssl with this version of TLS, and whether it shows a certificate. Returns whether the handshake succeeds,
/// and the subject of the service's certificate.
fn handshake(service: &Service, version: &str, identity: Option<&str>) -> (bool, String) {
    let mut client = std::process::Command::new("openssl");
    let address = service.address.to_string();
    client.args(["s_client", "-ign_eof", "-connect", &address, version]);
    let path = |name: &str| service.path(name).to_str().unwrap().to_owned();
    if let Some(name) = identity {
        client.args([
            "-cert",
            &path(&format!("{name}.pem")),
            "-key",
            &path(&format!("{name}.key")),
        ]);
    }
    let request = service.path("request");
    std::fs::write(
        &request,
        "GET /health/live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
    )
    .unwrap();
    let output = client.stdin(std::fs::File::open(request).unwrap()).output().unwrap();
    let output = String::from_utf8_lossy(&output.stdout).into_owned();
    let subject = output
        .lines()
        .find_map(|line| line.strip_prefix("subject="))
        .unwrap_or_default();
    (output.contains("HTTP/1.1 200 OK"), subject.to_owned())
}

#[tokio::test]
async fn the_files_of_tls_the_authorities_of_clients_and_the_oldest_version() {
    let authority = Authority::new("an authority");
    let database = Database::create_on(shared_server().await).await;
    let base = "MEMORY_WARN=0\nMEMORY_CRITICAL=0\n";
    let files = |text: &str| format!("{base}{text}");
    let mut launch = Launch::new(&["serve"])
        .env("DATABASE_URL", &database.url)
        .env("PORT", "0")
        .file("ca.pem", &authority.pem())
        .file("other.pem", &Authority::new("another").pem())
        .file(".env", &files("TLS_CERT=a.pem\nTLS_KEY=a.key\nTLS_CLIENT_CA=ca.pem\n"));
    for name in ["a", "b"] {
        let (certificate, key) = authority.issue(&format!("{name}.test"));
        launch = launch
            .file(&format!("{name}.pem"), &certificate)
            .file(&format!("{name}.key"), &key);
    }
    let service = Service::over(launch.spawn(), &database).await;
    service.logged("ready").await;
    let it = Reloading {
        service,
        base: base.to_owned(),
    };
    let ask = |version: &str| handshake(&it.service, version, Some("a"));
    let (accepted, subject) = ask("-tls1_2");
    assert!(accepted && subject.contains("a.test"), "{subject}");
    let clients = "TLS_CLIENT_CA=ca.pem\n";
    let b = "TLS_CERT=b.pem\nTLS_KEY=b.key\n";
    it.set(&format!("{b}{clients}"), &["TLS_CERT", "TLS_KEY"]).await;
    let (accepted, subject) = ask("-tls1_2");
    assert!(accepted && subject.contains("b.test"), "{subject}");
    it.set(&format!("{b}{clients}TLS_MIN_VERSION=1.3\n"), &["TLS_MIN_VERSION"])
        .await;
    assert!(!ask("-tls1_2").0 && ask("-tls1_3").0);
    it.set(&format!("{b}TLS_CLIENT_CA=other.pem\n"), &["TLS_CLIENT_CA"])
        .await;
    assert!(!ask("-tls1_2").0);
    it.set(&format!("{b}{clients}"), &["TLS_CLIENT_CA"]).await;
    assert!(ask("-tls1_2").0);
    // Whether clients must show a certificate changes only by a restart, and so does HTTPS.
    for (text, expected) in [
        (format!("{base}{b}"), "TLS_CLIENT_CA"),
        (base.to_owned(), "TLS_CERT, TLS_KEY, TLS_CLIENT_CA"),
    ] {
        it.service.write_file(".env", &text);
        it.service.signal("HUP");
        let waiting = "these settings have new values that need a restart";
        it.service
            .logged_with(waiting, |event| event["settings"] == expected)
            .await;
        assert!(ask("-tls1_2").0);
        assert!(!handshake(&it.service, "-tls1_2", None).0);
    }
}
