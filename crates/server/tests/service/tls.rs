//! HTTPS as an operator sets it up: files, the log, `/health`, and the messages about what is wrong.

use std::fs;

use cenote_testing::Authority;
use rcgen::{CertificateParams, KeyPair};
use time::{Duration, OffsetDateTime};

use crate::support::{
    Launch,
    tls::{HOST, curl, files, is_ready, issued, start},
};

#[tokio::test]
async fn the_service_speaks_https_alone_and_says_so() {
    let (files, _) = issued();
    let service = start(&files, &[]).await;
    let ca = files.path().join("ca.pem");
    is_ready(&service, &ca).await;
    let listening = service.logged("listening").await;
    let message = listening["message"].as_str().unwrap();
    assert!(
        message.contains("https://") && !message.contains("http://"),
        "{message}"
    );

    let write = ["--json", r#"{"key":"k","value":"v"}"#];
    let (status, version, _) = curl(&service, &ca, "/write", &write).unwrap();
    assert_eq!((status, version.as_str()), (200, "2"));
    let (status, version, body) = curl(&service, &ca, "/read/k", &["--http1.1"]).unwrap();
    assert_eq!((status, version.as_str()), (200, "1.1"));
    assert!(body.contains(r#""value":"v""#), "{body}");

    let plain = service.get("/read/k").await;
    plain.problem(400, "bad-request");
    let ended = service.stop(crate::support::SOON).await;
    assert_eq!(ended.code, Some(0));
}

#[tokio::test]
async fn a_client_without_the_right_certificate_is_refused() {
    let (files, _) = issued();
    let clients = Authority::new("the authority of the clients");
    let path = |name| files.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("clients.pem"), clients.pem()).unwrap();
    let (certificate, key) = clients.issue("reports");
    fs::write(path("client.pem"), certificate).unwrap();
    fs::write(path("client-key.pem"), key).unwrap();
    let service = start(&files, &[("TLS_CLIENT_CA", &path("clients.pem"))]).await;
    let ca = files.path().join("ca.pem");
    let refused = curl(&service, &ca, "/health/live", &[]).unwrap_err();
    assert!(refused.contains("alert"), "{refused}");
    let (own, own_key) = (path("certificate.pem"), path("key.pem"));
    let refused = curl(&service, &ca, "/health/live", &["--cert", &own, "--key", &own_key]).unwrap_err();
    assert!(refused.contains("alert"), "{refused}");
    let (client, client_key) = (path("client.pem"), path("client-key.pem"));
    let known = curl(
        &service,
        &ca,
        "/health/live",
        &["--cert", &client, "--key", &client_key],
    );
    assert_eq!(known.unwrap().0, 200);
}

#[tokio::test]
async fn health_is_degraded_in_the_last_72_hours_of_the_certificate() {
    for (hours, status) in [(71, "degraded"), (73, "ok")] {
        let mut params = CertificateParams::new([HOST.to_owned()]).unwrap();
        params.not_after = OffsetDateTime::now_utc() + Duration::hours(hours);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        let files = files(&certificate, &key.serialize_pem(), &certificate);
        let service = start(&files, &[]).await;
        let ca = files.path().join("ca.pem");
        is_ready(&service, &ca).await;
        let (code, _, body) = curl(&service, &ca, "/health", &[]).unwrap();
        let health: serde_json::Value = serde_json::from_str(&body).unwrap();
        assert_eq!((code, &health["status"]), (200, &status.into()), "{body}");
        let problem = health["tls"]["problem"].as_str();
        assert_eq!(
            problem,
            (hours == 71).then_some("the TLS certificate expires in less than 71 h")
        );
    }
}

#[tokio::test]
async fn a_start_with_files_that_cannot_be_used_names_the_file_and_the_reason() {
    let (good, authority) = issued();
    let (_, other_key) = authority.issue(HOST);
    fs::write(good.path().join("other.pem"), other_key).unwrap();
    let path = |name| good.path().join(name).to_str().unwrap().to_owned();
    let certificate = path("certificate.pem");
    for (key, expected) in [
        (
            path("other.pem"),
            "other.pem: the key does not belong to the certificate",
        ),
        (path("missing.pem"), "missing.pem: No such file"),
        (path("ca.pem"), "ca.pem: holds no private key"),
    ] {
        let launch = Launch::new(&["serve"]).env("PORT", "0");
        let ended = launch.env("TLS_CERT", &certificate).env("TLS_KEY", &key).run().await;
        assert_eq!(ended.code, Some(1));
        let reason = ended.reason();
        assert!(
            reason.starts_with("cenote: TLS_CERT and TLS_KEY cannot be used: ") && reason.contains(expected),
            "{reason}"
        );
    }
    let ended = Launch::new(&["serve"]).env("TLS_CERT", &certificate).run().await;
    assert_eq!(ended.code, Some(2));
    assert!(
        ended
            .log
            .contains("TLS_CERT from the environment: means nothing without TLS_KEY")
    );
}

#[tokio::test]
async fn a_hangup_loads_the_files_at_once_and_open_connections_go_on() {
    let (files, authority) = issued();
    let service = start(&files, &[]).await;
    let ca = files.path().join("ca.pem");
    is_ready(&service, &ca).await;
    let shown = || {
        let port = service.address.port();
        let output = std::process::Command::new("openssl")
            .args([
                "s_client",
                "-connect",
                &format!("127.0.0.1:{port}"),
                "-servername",
                HOST,
            ])
            .stdin(std::process::Stdio::null())
            .output()
            .unwrap();
        let output = String::from_utf8_lossy(&output.stdout).into_owned();
        let (_, rest) = output.split_once("-----BEGIN CERTIFICATE-----").unwrap();
        rest.split_once("-----END").unwrap().0.replace('\n', "")
    };
    let before = shown();
    // Half of it is written: nothing changes, and the log says so.
    let (certificate, key) = authority.issue(HOST);
    fs::write(
        files.path().join("certificate.pem"),
        &certificate[..certificate.len() / 2],
    )
    .unwrap();
    service.signal("HUP");
    let refused = service.logged("the settings were not reloaded: ").await;
    assert_eq!(refused["setting"], "TLS_CERT");
    assert_eq!(shown(), before);
    fs::write(files.path().join("certificate.pem"), &certificate).unwrap();
    fs::write(files.path().join("key.pem"), &key).unwrap();
    service.signal("HUP");
    let reloaded = service.logged("settings reloaded").await;
    assert_eq!(reloaded["applied"], "TLS_CERT");
    let after = shown();
    assert_ne!(after, before);
    assert!(certificate.replace('\n', "").contains(&after));
}
