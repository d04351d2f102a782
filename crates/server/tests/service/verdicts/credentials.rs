//! Certificates and keys: one expires, others cannot be fetched.

use std::fs;

use cenote_testing::Authority;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{
    Events, Launch, Service,
    alerts::assert_firing,
    create_key, eventually,
    exposition::Scrape,
    secs,
    tls::{HOST, curl, files, is_ready, start},
};

/// Files of a service whose certificate is valid for this many days.
fn valid_for(days: u64) -> TempDir {
    let authority = Authority::new("the authority of the service");
    let (certificate, key) = authority.issue_for(HOST, secs(days * 86_400));
    files(&certificate, &key, &authority.pem())
}

fn scrape(service: &Service, directory: &TempDir) -> Scrape {
    let (status, _, text) = curl(service, &directory.path().join("ca.pem"), "/metrics", &[]).unwrap();
    assert_eq!(status, 200);
    Scrape::prometheus(&text)
}

/// The verdict of this name, as `cenote top` shows it over TLS.
async fn verdict(service: &Service, directory: &TempDir, name: &str) -> Value {
    let path = |name| directory.path().join(name).to_str().unwrap().to_owned();
    eventually("the verdict is there", async || {
        let ended = Launch::new(&["top", "--once", "--json", "--ca", &path("ca.pem")])
            .env("PORT", &service.address.port().to_string())
            .env("TLS_CERT", &path("certificate.pem"))
            .env("TLS_KEY", &path("key.pem"))
            .run()
            .await;
        let figures: Value = serde_json::from_str(&ended.output).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
        let mut verdicts = figures["state"]["verdicts"].as_array().unwrap().iter();
        verdicts.find(|verdict| verdict["name"] == name).cloned()
    })
    .await
}

#[tokio::test]
async fn a_certificate_that_expires_is_told_until_it_is_replaced() {
    let directory = valid_for(10);
    let service = start(&directory, &[("CACHE_MODE", "off")]).await;
    is_ready(&service, &directory.path().join("ca.pem")).await;
    let shown = verdict(&service, &directory, "certificate-expires").await;
    assert_eq!(shown["level"], "warning");
    let text = shown["text"].as_str().unwrap();
    assert!(text.starts_with("The certificate expires in 9 days."), "{text}");
    let before = scrape(&service, &directory);
    assert_firing(&before, &before, &["CenoteCertificateExpires"]);

    let replace = async |days: u64| {
        let newer = valid_for(days);
        for name in ["ca.pem", "certificate.pem", "key.pem"] {
            fs::copy(newer.path().join(name), directory.path().join(name)).unwrap();
        }
        service.signal("HUP");
    };
    replace(2).await;
    let shown = verdict(&service, &directory, "certificate-expires-soon").await;
    assert_eq!(shown["level"], "critical");
    let now = scrape(&service, &directory);
    let left = now.sum("cenote_tls_certificate_expiry_timestamp_seconds", &[])
        - before.sum("cenote_tls_certificate_expiry_timestamp_seconds", &[]);
    assert!(left < -7.0 * 86_400.0, "{left}");
    assert_firing(
        &now,
        &now,
        &["CenoteCertificateExpires", "CenoteCertificateExpiresSoon"],
    );

    replace(90).await;
    verdict(&service, &directory, "no-requests").await;
}

#[tokio::test]
async fn keys_of_tokens_that_cannot_be_fetched_are_told() {
    let service = Service::start(&[
        ("AUTH", "keys+jwt"),
        ("AUTH_OPEN", "metrics"),
        ("JWT_JWKS_URL", "http://127.0.0.1:1/jwks"),
        ("JWT_AUDIENCE", "cenote"),
    ])
    .await;
    let key = create_key(&service.database, "metrics").await;
    let bearer = format!("Bearer {key}");
    let mut events = Events::open(service.address, "/dashboard/events", &[("authorization", &bearer)]).await;
    let verdict = events.verdict("token-keys-old").await;
    let text = verdict["text"].as_str().unwrap();
    assert!(
        text.contains("no token is accepted") && !text.contains("127.0.0.1"),
        "{text}"
    );
    let scrape = service.scrape().await;
    assert_eq!(scrape.sum("cenote_jwks_keys", &[]), 0.0);
    assert!(!scrape.families.contains_key("cenote_jwks_age_seconds"));
    assert_firing(&scrape, &scrape, &["CenoteTokenKeysOld"]);
}
