//! Behind a proxy that removes a prefix from the path, all references of the service lead to the right place.

use std::net::SocketAddr;

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, copy},
    net::{TcpListener, TcpStream},
};

use crate::support::{Answer, Connection, Service, resolve};

const PREFIX: &str = "/api/v1";

/// A proxy that removes the prefix, with one request a connection. It does not change the answers.
async fn proxy(service: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            tokio::spawn(pass(client, service));
        }
    });
    address
}

async fn pass(mut client: TcpStream, service: SocketAddr) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(client.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let (method, rest) = head.split_once(' ').unwrap();
    let Some(rest) = rest.strip_prefix(PREFIX) else {
        return client
            .write_all(b"HTTP/1.1 502 Outside\r\ncontent-length: 0\r\n\r\n")
            .await;
    };
    let mut server = TcpStream::connect(service).await?;
    server.write_all(format!("{method} {rest}").as_bytes()).await?;
    let ((mut from_client, mut to_client), (mut from_server, mut to_server)) = (client.split(), server.split());
    tokio::select! {
        _ = copy(&mut from_client, &mut to_server) => {}
        _ = copy(&mut from_server, &mut to_client) => {}
    }
    Ok(())
}

/// A client of the proxy at this address.
struct Browser(SocketAddr);

impl Browser {
    async fn ask(&self, method: &str, path: &str, body: &str) -> Answer {
        let mut connection = Connection::open(self.0).await.unwrap();
        let json = [("content-type", "application/json")];
        connection.ask(method, path, &json, body).await.unwrap()
    }

    /// Follows redirects, and returns the last path and its answer.
    async fn get(&self, path: &str) -> (String, Answer) {
        let mut path = path.to_owned();
        loop {
            let answer = self.ask("GET", &path, "").await;
            match answer.headers.get("location") {
                Some(location) => path = resolve(&path, location),
                None => return (path, answer),
            }
        }
    }
}

#[tokio::test]
async fn references_lead_to_where_they_should() {
    let service = Service::start(&[]).await;
    let browser = Browser(proxy(service.address).await);
    for (base, reference, found) in [
        ("/api/v1/users/", "7", "/api/v1/users/7"),
        ("/api/v1/users", "users/7", "/api/v1/users/7"),
        ("/api/v1/health/", "../health", "/api/v1/health"),
        ("/api/v1/users?limit=1", "?after=1", "/api/v1/users?after=1"),
    ] {
        assert_eq!(resolve(base, reference), found);
    }

    // `Location` leads to the new user and `Link` to the next page, with and without a slash at the end.
    for (n, path) in ["/api/v1/users/", "/api/v1/users"].into_iter().enumerate() {
        for m in 0..2 {
            let user = json!({"name": "Ada", "email": format!("ada{n}{m}@example.org")});
            let added = browser.ask("POST", path, &user.to_string()).await;
            let location = resolve(path, &added.headers["location"]);
            let found = browser.ask("GET", &location, "").await;
            assert_eq!(found.json(200), added.json(201), "{location}");
        }
        let mut path = format!("{path}?limit=1");
        let mut seen = Vec::new();
        loop {
            let page = browser.ask("GET", &path, "").await;
            seen.extend(page.json(200).as_array().unwrap().clone());
            let Some(link) = page.headers.get("link") else {
                break;
            };
            let next = link
                .strip_prefix('<')
                .and_then(|link| link.strip_suffix(">; rel=\"next\""));
            path = resolve(&path, next.unwrap());
        }
        assert_eq!(seen.len(), 2 * (n + 1));
    }

    // Paths with a slash too many.
    let (path, health) = browser.get("/api/v1/health/").await;
    assert_eq!((path, health.status), ("/api/v1/health".to_owned(), 200));
    let (path, user) = browser.get("/api/v1/users/1/").await;
    assert_eq!((path, user.status), ("/api/v1/users/1".to_owned(), 200));

    // The documentation, its files, and the description that it shows.
    let (docs, page) = browser.get("/api/v1/docs").await;
    assert_eq!((&*docs, page.status), ("/api/v1/docs/", 200));
    let script = browser
        .ask("GET", &resolve(&docs, "./swagger-initializer.js"), "")
        .await;
    let script = script.text();
    let address = script
        .split("\"url\": \"")
        .nth(1)
        .and_then(|rest| rest.split('"').next());
    let description_at = resolve(&docs, address.unwrap());
    let description = browser.ask("GET", &description_at, "").await.json(200);
    // The description leads to the server, and so to each route.
    let server = description["servers"][0]["url"].as_str().unwrap();
    let server = resolve(&description_at, server);
    let health = browser
        .ask("GET", &format!("{}/health", server.trim_end_matches('/')), "")
        .await;
    assert_eq!(health.json(200)["status"], "ok");
    assert!(description["paths"]["/health"].is_object());
}

#[tokio::test]
async fn the_older_path_of_the_health_answers_the_same() {
    let service = Service::start(&[]).await;
    let mut answers = Vec::new();
    for path in ["/health", "/api/health"] {
        let mut health: Value = service.get(path).await.json(200);
        health["uptime_s"] = Value::Null;
        health["latency_ms"] = Value::Null;
        answers.push(health);
    }
    assert_eq!(answers[0], answers[1]);
    let moved = service.get("/api/health/").await;
    assert_eq!((moved.status, &*moved.headers["location"]), (307, "../health"));
    assert_eq!(service.ask("HEAD", "/api/health", &[], "").await.status, 200);
}
