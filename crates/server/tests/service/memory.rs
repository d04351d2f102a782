//! Small requests for large answers: the memory that answers take is bounded, and each client is answered or refused.

use bytes::Bytes;
use futures_util::future::join_all;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use serde_json::{Value, json};
use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use crate::support::{Connection, Process, SOON, Service, eventually, millis};

const MIB: u64 = 1 << 20;
/// `HTTP_ANSWER_MEMORY`. Values that are being loaded may take as much again.
const ROOM: u64 = 32 * MIB;
/// How far the process may grow beyond that: an answer is written before its values are freed, a debug build uses more
/// memory, and the allocator returns memory late.
const SLACK: u64 = 96 * MIB;
const VALUES: usize = 60;

impl Process {
    /// Resident memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
    }
}

/// A service with different values of nearly 1 MB.
async fn service() -> Service {
    let service = Service::start(&[("HTTP_ANSWER_MEMORY", "32m")]).await;
    let session = service.database.session().await;
    let sql = format!(
        "INSERT INTO kv (key, value) SELECT 'large/' || n, n || repeat('x', 1000000) FROM generate_series(1, {VALUES}) n"
    );
    session.run(&sql).await;
    service
}

/// The highest memory while `work` ran.
async fn peak<T>(service: &Service, work: impl Future<Output = T>) -> (u64, T) {
    let mut peak = 0;
    tokio::pin!(work);
    loop {
        peak = peak.max(service.memory());
        // Between two looks, so that the service has the processor.
        let pause = tokio::time::sleep(millis(5));
        tokio::select! {
            done = &mut work => return (peak.max(service.memory()), done),
            () = pause => {}
        }
    }
}

#[track_caller]
fn is_bounded(before: u64, peak: u64) {
    let grown = peak.saturating_sub(before);
    assert!(
        grown < 2 * ROOM + SLACK,
        "{} MiB, before {} MiB",
        peak / MIB,
        before / MIB
    );
}

impl Service {
    async fn works(&self) {
        eventually("a large value is served again", async || {
            let read = self.get("/read/large%2F1").await;
            (read.status == 200).then(|| assert_eq!(value(&read.json(200)), &large(1)))
        })
        .await;
        self.write("small", "value").await;
        assert_eq!(self.read("small").await.json(200)["value"], "value");
    }
}

fn large(n: usize) -> String {
    format!("{n}{}", "x".repeat(1_000_000))
}

fn value(read: &Value) -> &str {
    read["value"].as_str().unwrap()
}

#[tokio::test]
async fn many_large_values_are_read_in_parts_and_within_bounds() {
    let service = service().await;
    let before = service.memory();
    let client = async |address| {
        let mut connection = Connection::open(address).await.unwrap();
        let mut keys: Vec<String> = (1..=VALUES).map(|n| format!("large/{n}")).collect();
        keys.insert(7, "absent".to_owned());
        let mut refused = 0;
        while !keys.is_empty() {
            let answer = connection.post("/read", &json!({ "keys": keys })).await.unwrap();
            if answer.status == 503 {
                answer.problem(503, "answers-waiting");
                refused += 1;
                assert!(refused < 100, "it never gets its turn");
                continue;
            }
            let many = answer.json(200);
            let found = many["found"].as_object().unwrap();
            assert!(!found.is_empty() || !many["missing"].as_array().unwrap().is_empty());
            for (key, entry) in found {
                let n = key.strip_prefix("large/").unwrap().parse().unwrap();
                assert_eq!(value(entry), &large(n));
            }
            let deferred = many["deferred"].as_array().cloned().unwrap_or_default();
            assert_eq!(
                found.len() + deferred.len() + many["missing"].as_array().unwrap().len(),
                keys.len()
            );
            keys = deferred.iter().map(|key| key.as_str().unwrap().to_owned()).collect();
        }
    };
    let address = service.address;
    let clients = (0..8).map(|_| client(address));
    let (peak, _) = peak(&service, join_all(clients)).await;
    is_bounded(before, peak);
    service.works().await;
}

#[tokio::test]
async fn clients_who_do_not_read_their_large_answers_take_bounded_memory() {
    let service = service().await;
    let before = service.memory();
    let mut clients = Vec::new();
    let opening = async {
        for n in 0..200 {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            // So the kernel takes little of an answer.
            socket.set_recv_buffer_size(4096).unwrap();
            let mut stream = socket.connect(service.address).await.unwrap();
            let path = format!("/read/large%2F{}", n % VALUES + 1);
            let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
            stream.write_all(request.as_bytes()).await.unwrap();
            clients.push(stream);
        }
        // Each has an answer on its way, or has been refused.
        let answered = clients.iter().map(TcpStream::readable);
        timeout(SOON, join_all(answered)).await.unwrap();
    };
    let (peak, ()) = peak(&service, opening).await;
    is_bounded(before, peak);
    // Small answers do not wait for large ones.
    service.write("small", "value").await;
    assert_eq!(service.read("small").await.json(200)["value"], "value");
    drop(clients);
    service.works().await;
}

#[tokio::test]
async fn streams_of_http2_that_are_not_read_take_bounded_memory() {
    let service = service().await;
    let before = service.memory();
    let stream = TcpStream::connect(service.address).await.unwrap();
    let mut client = http2::Builder::new(TokioExecutor::new());
    // A stream may send 1 KiB until the client reads, and this one does not.
    client.initial_stream_window_size(1024);
    let handshake = client.handshake::<_, Empty<Bytes>>(TokioIo::new(stream));
    let (sender, connection) = handshake.await.unwrap();
    let connection = tokio::spawn(connection);
    let ask = async |n: usize| {
        let uri = format!("http://{}/read/large%2F{}", service.address, n % VALUES + 1);
        let request = Request::builder().uri(uri).body(Empty::new()).unwrap();
        sender.clone().send_request(request).await.unwrap()
    };
    let asking = join_all((0..100).map(ask));
    let (peak, responses) = peak(&service, timeout(SOON, asking)).await;
    is_bounded(before, peak);
    let mut statuses = Vec::new();
    let mut taken = Vec::new();
    for response in responses.unwrap() {
        statuses.push(response.status().as_u16());
        if response.status() == 200 {
            taken.push(response);
        }
    }
    let answered = statuses.iter().filter(|status| **status == 200).count();
    assert!(answered >= 10, "{statuses:?}");
    assert!(
        statuses.iter().all(|status| matches!(status, 200 | 503)),
        "{statuses:?}"
    );
    assert!(statuses.contains(&503), "100 do not fit");
    // A client that reads late gets the whole answer.
    let late = taken.pop().unwrap().into_body().collect();
    let late = timeout(SOON, late).await.unwrap().unwrap();
    assert!(late.to_bytes().len() > 1_000_000);
    drop((taken, sender));
    connection.abort();
    service.works().await;
}

#[tokio::test]
async fn a_value_above_32_kib_is_current_and_its_version_is_known_without_loading_it() {
    let service = Service::start(&[]).await;
    let below = "y".repeat(32 * 1024);
    let above = format!("{below}y");
    for text in [&below, &above, &below, &above] {
        let version = service.write("key", text).await;
        for _ in 0..2 {
            let answer = service.read("key").await;
            let read = answer.json(200);
            assert!(read["value"] == **text, "of the write before");
            assert_eq!(read["version"], version);
            let many = service.post("/read", &json!({"keys": ["key"]})).await.json(200);
            assert!(many["found"]["key"]["value"] == **text);
            let tag = &answer.headers["etag"];
            let known = service.ask("GET", "/read/key", &[("if-none-match", tag)], "").await;
            assert_eq!(known.status, 304);
        }
    }
    assert_eq!(service.delete("/read/key").await.status, 204);
    service.read("key").await.problem(404, "not-found");
}

#[tokio::test]
async fn a_thousand_values_of_32_kib_in_one_request_are_bounded_too() {
    let service = Service::start(&[("HTTP_ANSWER_MEMORY", "32m")]).await;
    let session = service.database.session().await;
    session
        .run("INSERT INTO kv (key, value) SELECT n::text, repeat('z', 32000) FROM generate_series(1, 1000) n")
        .await;
    let before = service.memory();
    let client = async |address| {
        let mut connection = Connection::open(address).await.unwrap();
        let keys: Vec<String> = (1..=1000).map(|n| n.to_string()).collect();
        let answer = connection.post("/read", &json!({ "keys": keys })).await.unwrap();
        match answer.status {
            200 => {
                let many = answer.json(200);
                let found = many["found"].as_object().unwrap().len();
                let deferred = many["deferred"].as_array().unwrap().len();
                assert_eq!((found + deferred, found > 100), (1000, true));
            }
            _ => drop(answer.problem(503, "answers-waiting")),
        }
    };
    let clients = (0..16).map(|_| client(service.address));
    let (peak, _) = peak(&service, join_all(clients)).await;
    is_bounded(before, peak);
}
