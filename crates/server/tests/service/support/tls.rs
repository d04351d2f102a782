//! A service with HTTPS, and a client for it: curl.

use std::fs;
use std::path::Path;
use std::process::Command;

use cenote_testing::Authority;
use tempfile::TempDir;

use super::{Database, Service, eventually, shared_server};

/// The name in the certificate of the service.
pub(crate) const HOST: &str = "cenote.test";

/// A directory with the certificate of an authority, and one of a service with its key.
pub(crate) fn files(certificate: &str, key: &str, authority: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, content) in [
        ("certificate.pem", certificate),
        ("key.pem", key),
        ("ca.pem", authority),
    ] {
        fs::write(directory.path().join(name), content).unwrap();
    }
    directory
}

/// Such a directory with files that fit together, and their authority.
pub(crate) fn issued() -> (TempDir, Authority) {
    let authority = Authority::new("the authority of the service");
    let (certificate, key) = authority.issue(HOST);
    (files(&certificate, &key, &authority.pem()), authority)
}

/// A service that speaks HTTPS. It may not be ready yet.
pub(crate) async fn start(files: &TempDir, settings: &[(&str, &str)]) -> Service {
    let database = Database::create_on(shared_server().await).await;
    let path = |name| files.path().join(name).to_str().unwrap().to_owned();
    let (certificate, key) = (path("certificate.pem"), path("key.pem"));
    let settings = [
        &[("TLS_CERT", certificate.as_str()), ("TLS_KEY", key.as_str())],
        settings,
    ]
    .concat();
    Service::launch_with(&database, &settings).await
}

/// The status, the version of HTTP and the body, as curl gets them; an error as it says it.
pub(crate) fn curl(
    service: &Service,
    ca: &Path,
    path: &str,
    arguments: &[&str],
) -> Result<(u16, String, String), String> {
    let port = service.address.port();
    let output = Command::new("curl")
        .args([
            "-sS",
            "--max-time",
            "60",
            "-w",
            "\n%{http_code} %{http_version}",
            "--cacert",
        ])
        .arg(ca)
        .args(["--resolve", &format!("{HOST}:{port}:127.0.0.1")])
        .args(arguments)
        .arg(format!("https://{HOST}:{port}{path}"))
        .output()
        .unwrap();
    if !output.status.success() {
        return Err(String::from_utf8(output.stderr).unwrap());
    }
    let output = String::from_utf8(output.stdout).unwrap();
    let (body, figures) = output.rsplit_once('\n').unwrap();
    let (status, version) = figures.split_once(' ').unwrap();
    Ok((status.parse().unwrap(), version.to_owned(), body.to_owned()))
}

/// Waits until the service is ready.
pub(crate) async fn is_ready(service: &Service, ca: &Path) {
    eventually("the service is ready", async || {
        let answer = curl(service, ca, "/health/ready", &[]);
        answer.is_ok_and(|(status, ..)| status == 200).then_some(())
    })
    .await;
}
