//! `cenote admin` against running services.

use std::{fs, net::TcpListener, path::Path};

use cenote_testing::Authority;
use serde_json::Value;

use crate::support::{
    AT_ONCE, Database, Ended, Launch, Service, shared_server,
    tls::{HOST, is_ready, issued, start},
    tokens::{SECRET, token_with},
};

fn admin(arguments: &[&str]) -> Launch {
    Launch::new(&[&["admin"], arguments].concat())
}

fn url(service: &Service) -> String {
    format!("http://{}", service.address)
}

/// Asks a service that wants no key.
async fn ask(service: &Service, arguments: &[&str]) -> Ended {
    admin(arguments).env("CENOTE_URL", &url(service)).run().await
}

/// The line in which the command says why it failed.
#[track_caller]
fn failure(ended: &Ended, code: i32) -> &str {
    assert_eq!((ended.code, ended.output.as_str()), (Some(code), ""), "{ended:?}");
    ended.reason()
}

#[tokio::test]
async fn every_action_shows_the_state_after_it_in_words() {
    let service = Service::start(&[("LOG", "info"), ("DB_POOL_MIN", "1"), ("DB_POOL_MAX", "4")]).await;
    let host = {
        let state = service.get("/admin/state").await.json(200);
        state["hosts"][0]["host"].as_str().unwrap().to_owned()
    };
    let state = format!("pool  running; 0 in use; min 1, max 4, overflow 0\nhost  {host}, in use\nlog   info\n");
    for (arguments, expected) in [
        (&["state"][..], state.clone()),
        (
            &["pause", "--seconds", "3600"],
            state.replace("running", "paused, resumes by itself in 3600.0 s"),
        ),
        (&["resume"], state.clone()),
        (&["resize", "--max", "7", "--overflow", "1"], {
            state.replace("max 4, overflow 0", "max 7, overflow 1")
        }),
        (&["resize", "--max", "4", "--overflow", "0"], state.clone()),
        (&["drain", &host], state.replace(", in use\n", ", out of use\n")),
        (&["drain", &host, "--restore"], state.clone()),
        (
            &["log", "cenote=debug"],
            state.replace("log   info", "log   cenote=debug"),
        ),
        (&["log", "info"], state.clone()),
        (
            &["flush"],
            format!("everything that was cached is dropped, on all instances\n{state}"),
        ),
    ] {
        let ended = ask(&service, arguments).await;
        assert_eq!(ended.code, Some(0), "{arguments:?}: {ended:?}");
        // The moments that have passed, and a connection that a probe uses.
        let shown = ended.output.replace("3599.9", "3600.0").replace("1 in use", "0 in use");
        assert_eq!(shown, expected, "{arguments:?}");
    }
    let json = ask(&service, &["state", "--json"]).await;
    let json: Value = serde_json::from_str(&json.output).unwrap();
    assert_eq!((&json["max"], &json["paused"]), (&4.into(), &false.into()));
}

#[tokio::test]
async fn a_reload_names_what_it_applied_and_what_it_did_not() {
    let database = Database::create_on(shared_server().await).await;
    let launch = Launch::new(&["serve"])
        .env("DATABASE_URL", &database.url)
        .env("PORT", "0")
        .file(".env", "LOG=info\n");
    let service = Service::over(launch.spawn(), &database).await;
    service.is_ready().await;
    let unchanged = ask(&service, &["reload"]).await;
    assert_eq!(
        (unchanged.code, unchanged.output.as_str()),
        (Some(0), "no setting has changed\n")
    );
    service.write_file(".env", "LOG=info,cenote=debug\nCACHE_TTL=10\n");
    let changed = ask(&service, &["reload"]).await;
    let expected = "applied: LOG\nchanged, but needs a restart: CACHE_TTL\n";
    assert_eq!((changed.code, changed.output.as_str()), (Some(0), expected));
    service.write_file(".env", "LOG=loud\n");
    let refused = ask(&service, &["reload"]).await;
    assert!(
        failure(&refused, 1).contains("refused: LOG from .env line 1: "),
        "{refused:?}"
    );
}

#[tokio::test]
async fn the_settings_say_where_the_service_is() {
    let service = Service::start(&[]).await;
    let port = service.address.port().to_string();
    let by_setting = admin(&["state"]).env("PORT", &port).run().await;
    assert_eq!(by_setting.code, Some(0), "{by_setting:?}");
    let by_option = admin(&["state", "--port", &port]).run().await;
    assert_eq!(by_option.code, Some(0), "{by_option:?}");
    let any = admin(&["state"]).env("PORT", "0").run().await;
    assert!(failure(&any, 2).contains("CENOTE_URL"), "{any:?}");
    // With a URL the settings do not count.
    let elsewhere = ask(&service, &["state", "--port", "none"]).await;
    assert_eq!(elsewhere.code, Some(0), "{elsewhere:?}");
}

#[tokio::test]
async fn a_key_needs_the_scope_admin_and_is_not_shown() {
    let settings = [
        ("AUTH", "jwt"),
        ("JWT_SECRET", SECRET),
        ("JWT_ISSUER", "https://issuer.example"),
        ("JWT_AUDIENCE", "cenote"),
    ];
    let service = Service::start(&settings).await;
    let asked = async |key: Option<&str>| {
        let mut launch = admin(&["state"]).env("CENOTE_URL", &url(&service));
        if let Some(key) = key {
            launch = launch.env("CENOTE_KEY", key);
        }
        launch.run().await
    };
    assert!(failure(&asked(None).await, 1).contains("wants an API key or token"));
    let wrong = token_with("admin", |claims| claims["aud"] = "other".into());
    let refused = asked(Some(&wrong)).await;
    assert!(failure(&refused, 1).contains("does not accept the key or token"));
    assert!(!refused.log.contains(&wrong));
    let refused = asked(Some(&token_with("read write", |_| {}))).await;
    assert!(failure(&refused, 1).contains("needs the scope admin, which the caller does not have; "));
    let good = token_with("admin", |_| {});
    let admitted = asked(Some(&good)).await;
    assert_eq!(admitted.code, Some(0), "{admitted:?}");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("key");
    fs::write(&file, format!("{good}\n")).unwrap();
    let file = file.to_str().unwrap();
    for launch in [
        admin(&["state", "--key-file", file]),
        admin(&["state"]).env("CENOTE_KEY_FILE", file),
    ] {
        let ended = launch.env("CENOTE_URL", &url(&service)).run().await;
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

#[tokio::test]
async fn what_the_service_refuses_is_said_in_its_words() {
    let service = Service::start(&[("DB_POOL_MIN", "1"), ("DB_POOL_MAX", "2")]).await;
    for (arguments, said) in [
        (&["resize", "--min", "7"][..], "refused: max "),
        (&["drain", "nowhere"], "the database has no such host"),
    ] {
        let ended = ask(&service, arguments).await;
        assert!(failure(&ended, 1).contains(said), "{ended:?}");
    }
    let below = format!("{}/elsewhere", url(&service));
    let ended = admin(&["state", "--url", &below]).run().await;
    failure(&ended, 1);
}

/// Answers every connection on a free port with these bytes; without any, never.
fn other_service(answer: Option<&'static str>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut kept = Vec::new();
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            match answer {
                Some(answer) => {
                    use std::io::{Read, Write};
                    let _read = stream.read(&mut [0; 1024]);
                    let _sent = stream.write_all(answer.as_bytes());
                }
                None => kept.push(stream),
            }
        }
    });
    url
}

#[tokio::test]
async fn a_place_without_a_cenote_is_named_in_bounded_time() {
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let nothing = format!("http://{free}");
    let page = other_service(Some("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>"));
    let redirect = other_service(Some(
        "HTTP/1.1 302 Found\r\nLocation: https://a/\r\nContent-Length: 0\r\n\r\n",
    ));
    let closes = other_service(Some(""));
    let silent = other_service(None);
    for (url, said) in [
        (nothing.as_str(), "nothing answers"),
        ("http://no-such-host.invalid", "nothing answers"),
        (&page, "is not a cenote"),
        (&redirect, "is not a cenote"),
        (&closes, "broke off"),
        (&silent, "no answer within"),
    ] {
        let ended = admin(&["flush", "--timeout", "1", "--url", url]).run().await;
        assert!(failure(&ended, 1).contains(said), "{ended:?}");
        assert!(ended.took < AT_ONCE, "{ended:?}");
    }
    let wrong = admin(&["state"]).env("CENOTE_URL", "localhost").run().await;
    assert!(failure(&wrong, 2).contains("CENOTE_URL"), "{wrong:?}");
}

#[tokio::test]
async fn over_tls_the_certificate_is_verified_and_every_failure_says_what_to_do() {
    let (files, _) = issued();
    let clients = Authority::new("the authority of the clients");
    let path = |name: &str| files.path().join(name).to_str().unwrap().to_owned();
    let (certificate, key) = clients.issue("operator");
    for (name, content) in [
        ("clients.pem", clients.pem()),
        ("operator.pem", certificate),
        ("operator-key.pem", key),
    ] {
        fs::write(path(name), content).unwrap();
    }
    let service = start(&files, &[]).await;
    is_ready(&service, Path::new(&path("ca.pem"))).await;
    let port = service.address.port();
    let asked = async |port: u16, further: &[&str]| {
        admin(&[&["state"], further].concat())
            .env("PORT", &port.to_string())
            .env("TLS_CERT", &path("certificate.pem"))
            .env("TLS_KEY", &path("key.pem"))
            .run()
            .await
    };
    // The settings have an address, and the certificate is for a name.
    let ended = asked(port, &["--ca", &path("ca.pem")]).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let untrusted = asked(port, &[]).await;
    assert!(failure(&untrusted, 1).contains("name its authority by --ca"));
    let by_address = format!("https://127.0.0.1:{port}");
    let misnamed = asked(port, &["--ca", &path("ca.pem"), "--url", &by_address]).await;
    let said = failure(&misnamed, 1);
    assert!(
        said.contains("use a name of the certificate") && said.contains(HOST),
        "{said}"
    );
    let plain = asked(port, &["--url", &format!("http://127.0.0.1:{port}")]).await;
    assert!(failure(&plain, 1).contains("https"), "{plain:?}");
    let unreadable = asked(port, &["--ca", "/none/such.pem"]).await;
    assert!(failure(&unreadable, 1).contains("/none/such.pem"));

    let plain = Service::start(&[]).await;
    let ended = asked(plain.address.port(), &[]).await;
    assert!(failure(&ended, 1).contains("does not speak TLS"), "{ended:?}");

    let settings = [
        ("TLS_CLIENT_CA", path("clients.pem")),
        ("TLS_CLIENT_SCOPES", "CN=operator: admin".to_owned()),
    ];
    let settings = settings.each_ref().map(|(name, value)| (*name, value.as_str()));
    let mutual = start(&files, &settings).await;
    let port = mutual.address.port();
    let ended = asked(port, &["--ca", &path("ca.pem")]).await;
    assert!(failure(&ended, 1).contains("--cert and --cert-key"), "{ended:?}");
    let own = [
        "--ca",
        &path("ca.pem"),
        "--cert",
        &path("operator.pem"),
        "--cert-key",
        &path("operator-key.pem"),
    ];
    let ended = asked(port, &own).await;
    assert_eq!(ended.code, Some(0), "{ended:?}");
}
