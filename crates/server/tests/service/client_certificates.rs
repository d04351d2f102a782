//! Certificates of clients as identities: for scopes, limits and the audit log.

use std::{fs, path::Path};

use cenote_testing::Authority;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    Launch, SOON, Service, eventually,
    tls::{curl, issued, start},
};

/// The files of a service, and clients with certificates of its authority.
struct World {
    files: TempDir,
    service: Service,
}

impl World {
    /// A ready service that wants certificates.
    async fn start(clients: &[&str], settings: &[(&str, &str)]) -> Self {
        let (files, _) = issued();
        let authority = Authority::new("the authority of the clients");
        let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
        fs::write(path("clients.pem"), authority.pem()).unwrap();
        for client in clients {
            let (certificate, key) = authority.issue(client);
            fs::write(path(&format!("{client}.pem")), certificate).unwrap();
            fs::write(path(&format!("{client}-key.pem")), key).unwrap();
        }
        let authorities = path("clients.pem");
        let settings = [&[("TLS_CLIENT_CA", authorities.as_str())], settings].concat();
        let service = start(&files, &settings).await;
        let world = Self { files, service };
        eventually("the service is ready", async || {
            (world.ask(clients[0], "/health/ready", &[]).0 == 200).then_some(())
        })
        .await;
        world
    }

    fn path(&self, name: &str) -> String {
        self.files.path().join(name).to_str().unwrap().to_owned()
    }

    /// The status and the body of the answer to a client.
    fn ask(&self, client: &str, path: &str, further: &[&str]) -> (u16, Value) {
        let (certificate, key) = (
            self.path(&format!("{client}.pem")),
            self.path(&format!("{client}-key.pem")),
        );
        // Over HTTP/2 some versions of curl take the end of a response for an error, if their body was not read.
        let arguments = [&["--http1.1", "--cert", &certificate, "--key", &key], further].concat();
        let ca = self.path("ca.pem");
        let (status, _, body) = curl(&self.service, Path::new(&ca), path, &arguments).unwrap();
        (status, serde_json::from_str(&body).unwrap_or_default())
    }
}

const WRITE: [&str; 2] = ["--json", r#"{"key": "k", "value": "v"}"#];

#[tokio::test]
async fn a_certificate_says_what_its_owner_may_do_and_the_audit_log_names_it() {
    let audit = tempfile::tempdir().unwrap();
    let audit = audit.path().join("audit.log");
    let world = World::start(
        &["ops", "reports"],
        &[
            ("HOST", "0.0.0.0"),
            ("TLS_CLIENT_SCOPES", "read; CN=ops: read,write,admin"),
            ("AUDIT_LOG", audit.to_str().unwrap()),
        ],
    )
    .await;
    assert_eq!(world.ask("ops", "/write", &WRITE).0, 200);
    assert_eq!(world.ask("reports", "/read/k", &[]).0, 200);
    let (status, refused) = world.ask("reports", "/write", &WRITE);
    assert_eq!((status, &refused["scope"]), (403, &"write".into()), "{refused}");
    assert_eq!(world.ask("reports", "/admin/state", &[]).0, 403);
    // Neither a header nor a claim adds anything to the certificate.
    let claim = ["-H", "authorization: Bearer cnk_x"];
    assert_eq!(world.ask("reports", "/admin/state", &claim).0, 403);
    assert_eq!(world.ask("ops", "/admin/state", &[]).0, 200);
    let audit = fs::read_to_string(audit).unwrap();
    let lines: Vec<Value> = audit.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let calls: Vec<_> = lines
        .iter()
        .map(|line| (&line["who"], line["result"].as_u64().unwrap()))
        .collect();
    let (reports, ops) = ("certificate:CN=reports".into(), "certificate:CN=ops".into());
    assert_eq!(calls, [(&reports, 403), (&reports, 403), (&ops, 200)]);
}

#[tokio::test]
async fn without_scopes_for_certificates_everybody_reads_and_writes_and_nobody_administers() {
    let world = World::start(&["reports"], &[("AUTH_OPEN", "health")]).await;
    assert_eq!(world.ask("reports", "/write", &WRITE).0, 200);
    assert_eq!(world.ask("reports", "/read/k", &[]).0, 200);
    for (path, scope) in [("/admin/state", "admin"), ("/pool-stats", "metrics")] {
        let (status, refused) = world.ask("reports", path, &[]);
        assert_eq!((status, &refused["scope"]), (403, &scope.into()), "{refused}");
    }
    assert_eq!(world.ask("reports", "/health", &[]).0, 200, "it is opened to all");
}

#[tokio::test]
async fn limits_count_by_certificate_unless_a_key_or_a_proxy_names_the_caller() {
    let limit = ("RATE_LIMIT_READ", "1/h");
    for settings in [&[limit][..], &[limit, ("AUTH", "none-i-know")]] {
        let world = World::start(&["one", "two"], settings).await;
        let read = |client| world.ask(client, "/read/k", &[]).0;
        assert_eq!([read("one"), read("one")], [404, 429], "{settings:?}");
        assert_eq!([read("two"), read("two")], [404, 429], "{settings:?}");
    }
    let world = World::start(&["proxy"], &[limit, ("TRUSTED_PROXIES", "127.0.0.1")]).await;
    let read = |client: &str| {
        let header = format!("x-forwarded-for: {client}");
        world.ask("proxy", "/read/k", &["-H", &header]).0
    };
    assert_eq!([read("192.0.2.1"), read("192.0.2.1")], [404, 429]);
    assert_eq!(read("192.0.2.2"), 404);
}

#[tokio::test]
async fn with_keys_a_certificate_alone_is_not_enough() {
    let settings = [("AUTH", "keys"), ("TLS_CLIENT_SCOPES", "read,write,admin")];
    let world = World::start(&["ops"], &settings).await;
    assert_eq!(world.ask("ops", "/read/k", &[]).0, 401);
    assert_eq!(world.ask("ops", "/admin/state", &[]).0, 401);
    assert!(world.service.log().contains("certificates give no scopes"));
}

#[tokio::test]
async fn certificates_that_clients_may_leave_out_do_not_open_a_host_to_others() {
    let (files, authority) = issued();
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    fs::write(path("clients.pem"), authority.pem()).unwrap();
    let refused = Launch::new(&["serve"])
        .envs(&[
            ("HOST", "0.0.0.0"),
            ("PORT", "0"),
            ("TLS_CERT", &path("certificate.pem")),
            ("TLS_KEY", &path("key.pem")),
            ("TLS_CLIENT_CA", &path("clients.pem")),
            ("TLS_CLIENT_AUTH", "request"),
        ])
        .spawn()
        .ended(SOON)
        .await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert!(
        refused.reason().contains("HOST is not a loopback address"),
        "{refused:?}"
    );
}
