//! The ways a connection can be disturbed, each as its two ends see it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test a panic is the failed assertion"
)]

use std::{io::ErrorKind, time::Duration};

use cenote_local::PostgresServer;
use cenote_testing::{Direction, Proxy, RedisServer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, timeout},
};

/// Long enough for anything that is going to happen at all on a busy machine.
const SOON: Duration = Duration::from_secs(10);
/// Long enough to believe that something does not happen.
const WHILE: Duration = Duration::from_millis(100);

/// A proxy, and the server behind it, which the test itself plays.
struct Line {
    proxy: Proxy,
    server: TcpListener,
}

impl Line {
    async fn new() -> Self {
        let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let proxy = Proxy::to(server.local_addr().unwrap()).await.unwrap();
        Self { proxy, server }
    }

    async fn dial(&self) -> TcpStream {
        let client = TcpStream::connect(self.proxy.address()).await.unwrap();
        client.set_nodelay(true).unwrap();
        client
    }

    async fn answer(&self) -> TcpStream {
        let accepted = timeout(SOON, self.server.accept()).await;
        accepted.expect("nobody dials").unwrap().0
    }

    /// Both ends of a new connection.
    async fn connect(&self) -> (TcpStream, TcpStream) {
        (self.dial().await, self.answer().await)
    }
}

async fn sends(from: &mut TcpStream, bytes: &[u8]) {
    from.write_all(bytes).await.unwrap();
}

async fn gets(to: &mut TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    let read = timeout(SOON, to.read_exact(&mut bytes)).await;
    read.expect("nothing comes").unwrap();
    assert_eq!(bytes, expected);
}

async fn gets_nothing(to: &mut TcpStream) {
    let read = timeout(WHILE, to.read_u8()).await;
    assert!(read.is_err(), "{read:?}");
}

async fn sees_end(to: &mut TcpStream) {
    let read = timeout(SOON, to.read(&mut [0])).await;
    assert_eq!(read.expect("it stays open").unwrap(), 0);
}

async fn sees_reset(to: &mut TcpStream) {
    let read = timeout(SOON, to.read(&mut [0])).await;
    let error = read.expect("it stays open").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn without_faults_everything_passes_and_is_counted() {
    let line = Line::new().await;
    let (mut client, mut server) = line.connect().await;
    let large: Vec<u8> = (0..3_000_000_u32).map(|n| n as u8).collect();
    let (mut reading, mut writing) = server.split();
    tokio::join!(
        async { client.write_all(&large).await.unwrap() },
        async {
            let mut all = vec![0; large.len()];
            reading.read_exact(&mut all).await.unwrap();
            assert!(all == large);
        },
        async { writing.write_all(b"answer").await.unwrap() },
    );
    gets(&mut client, b"answer").await;
    let counts = line.proxy.counts();
    assert_eq!((counts.accepted, counts.open), (1, 1));
    assert_eq!((counts.to_server, counts.to_client), (3_000_000, 6));
}

#[tokio::test]
async fn new_connections_can_be_led_to_another_server() {
    let (line, other) = (Line::new().await, Line::new().await);
    let (mut client, mut server) = line.connect().await;
    line.proxy.lead_to(other.server.local_addr().unwrap());
    sends(&mut client, b"here").await;
    gets(&mut server, b"here").await;
    let (mut newcomer, mut elsewhere) = (line.dial().await, other.answer().await);
    sends(&mut newcomer, b"there").await;
    gets(&mut elsewhere, b"there").await;
}

#[tokio::test]
async fn the_end_of_one_side_is_passed_on_and_the_other_may_still_speak() {
    let line = Line::new().await;
    let (mut client, mut server) = line.connect().await;
    sends(&mut client, b"last").await;
    client.shutdown().await.unwrap();
    gets(&mut server, b"last").await;
    sees_end(&mut server).await;
    sends(&mut server, b"words").await;
    gets(&mut client, b"words").await;
    drop(server);
    sees_end(&mut client).await;
}

#[tokio::test]
async fn a_reset_by_one_side_is_a_reset_for_the_other() {
    let line = Line::new().await;
    let (client, mut server) = line.connect().await;
    client.set_zero_linger().unwrap();
    drop(client);
    sees_reset(&mut server).await;
}

#[tokio::test]
async fn a_client_of_a_server_that_is_not_there_is_reset() {
    let Line { proxy, server } = Line::new().await;
    drop(server);
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    sees_reset(&mut client).await;
}

#[tokio::test]
async fn a_cut_resets_both_ends_of_all_connections_and_new_ones_pass() {
    let line = Line::new().await;
    let mut connections = [line.connect().await, line.connect().await];
    line.proxy.cut().await;
    assert_eq!(line.proxy.counts().open, 0);
    for (client, server) in &mut connections {
        sees_reset(client).await;
        sees_reset(server).await;
    }
    let (mut client, mut server) = line.connect().await;
    sends(&mut client, b"new").await;
    gets(&mut server, b"new").await;
}

#[tokio::test]
async fn new_connections_are_refused_until_the_proxy_is_healed() {
    let line = Line::new().await;
    let (mut client, _server) = line.connect().await;
    line.proxy.refuse().await;
    sees_reset(&mut client).await;
    for _ in 0..3 {
        sees_reset(&mut line.dial().await).await;
    }
    assert_eq!(line.proxy.counts().accepted, 4);
    line.proxy.heal();
    let (mut client, mut server) = line.connect().await;
    sends(&mut client, b"back").await;
    gets(&mut server, b"back").await;
}

#[tokio::test]
async fn a_frozen_proxy_keeps_everything_back_and_a_healed_one_delivers_it() {
    let line = Line::new().await;
    let (mut client, mut server) = line.connect().await;
    line.proxy.freeze();
    sends(&mut client, b"request").await;
    sends(&mut server, b"notice").await;
    let mut late = line.dial().await;
    sends(&mut late, b"late").await;
    gets_nothing(&mut server).await;
    gets_nothing(&mut client).await;
    let dialled = timeout(WHILE, line.server.accept()).await;
    assert!(dialled.is_err(), "a new connection reached the server");
    drop(client);
    gets_nothing(&mut server).await;

    line.proxy.heal();
    gets(&mut server, b"request").await;
    // The client is gone with the notice unread, which is a reset.
    let ended = timeout(SOON, server.read(&mut [0])).await.unwrap();
    assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    gets(&mut line.answer().await, b"late").await;
}

/// While bytes stream through it as fast as they can.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_a_byte_passes_once_a_proxy_is_frozen() {
    let line = Line::new().await;
    let (mut client, mut server) = line.connect().await;
    let writer = tokio::spawn(async move { while client.write_all(&[1; 9000]).await.is_ok() {} });
    let reader = tokio::spawn(async move {
        let mut bytes = vec![0; 70_000];
        while server.read(&mut bytes).await.unwrap_or(0) > 0 {}
    });
    for _ in 0..100 {
        let before = line.proxy.counts().to_server;
        while line.proxy.counts().to_server == before {
            tokio::task::yield_now().await;
        }
        line.proxy.freeze();
        let frozen = line.proxy.counts();
        for _ in 0..50 {
            tokio::task::yield_now().await;
            assert_eq!(line.proxy.counts(), frozen);
        }
        line.proxy.heal();
    }
    line.proxy.cut().await;
    let _ = tokio::join!(writer, reader);
}

#[tokio::test]
async fn one_direction_can_be_held_alone() {
    let line = Line::new().await;
    for direction in [Direction::ToServer, Direction::ToClient] {
        let (client, server) = line.connect().await;
        let (mut from, mut to) = match direction {
            Direction::ToServer => (client, server),
            Direction::ToClient => (server, client),
        };
        line.proxy.hold(direction);
        sends(&mut from, b"held").await;
        sends(&mut to, b"free").await;
        gets(&mut from, b"free").await;
        gets_nothing(&mut to).await;
        line.proxy.heal();
        gets(&mut to, b"held").await;
    }
}

#[tokio::test]
async fn a_delay_makes_a_direction_late_and_not_slow() {
    let line = Line::new().await;
    let (mut client, mut server) = line.connect().await;
    let delay = Duration::from_millis(400);
    line.proxy.delay(Direction::ToClient, delay);
    let started = Instant::now();
    for number in 0..20 {
        sends(&mut client, &[number]).await;
        gets(&mut server, &[number]).await;
        sends(&mut server, &[number]).await;
    }
    let first_half = started.elapsed();
    for number in 0..20 {
        gets(&mut client, &[number]).await;
    }
    let took = started.elapsed();
    assert!(took >= delay && first_half < took, "{took:?}");
    assert!(took < delay * 10, "{took:?} for twenty at once");

    line.proxy.delay(Direction::ToClient, SOON * 2);
    sends(&mut server, b"x").await;
    gets_nothing(&mut client).await;
    line.proxy.heal(); // also for what is under way
    gets(&mut client, b"x").await;
}

#[tokio::test]
async fn new_connections_can_be_slow() {
    let line = Line::new().await;
    let delay = Duration::from_millis(300);
    line.proxy.delay_connects(delay);
    let started = Instant::now();
    let (mut client, mut server) = line.connect().await;
    assert!(started.elapsed() >= delay);
    sends(&mut client, b"then").await;
    gets(&mut server, b"then").await;
    line.proxy.delay_connects(SOON * 2);
    let _client = line.dial().await;
    assert!(timeout(WHILE, line.server.accept()).await.is_err());
    line.proxy.heal();
    line.answer().await;
}

#[tokio::test]
async fn a_half_open_connection_has_lost_its_server_and_is_not_told() {
    let line = Line::new().await;
    let (mut client, mut server) = line.connect().await;
    sends(&mut client, b"hello").await;
    gets(&mut server, b"hello").await;
    line.proxy.half_open().await;
    sees_end(&mut server).await;
    for _ in 0..2 {
        sends(&mut client, b"is anybody there?").await;
        gets_nothing(&mut client).await;
        line.proxy.heal(); // does not bring the server's side back
    }
    let (mut new_client, mut new_server) = line.connect().await;
    sends(&mut new_client, b"new").await;
    gets(&mut new_server, b"new").await;
    assert_eq!(line.proxy.counts().open, 2);
    line.proxy.cut().await;
    sees_reset(&mut client).await;
}

#[tokio::test]
async fn a_half_open_connection_is_over_when_its_client_closes_it() {
    let line = Line::new().await;
    let (client, _server) = line.connect().await;
    line.proxy.half_open().await;
    drop(client);
    let closed = async {
        while line.proxy.counts().open > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    timeout(SOON, closed).await.unwrap();
}

#[tokio::test]
async fn exactly_the_chosen_byte_is_inverted() {
    let line = Line::new().await;
    let (mut client, mut server) = line.connect().await;
    line.proxy.corrupt(Direction::ToClient, 5);
    for _ in 0..3 {
        sends(&mut client, b"abc").await;
        gets(&mut server, b"abc").await;
    }
    sends(&mut server, b"abc").await;
    gets(&mut client, b"abc").await;
    sends(&mut server, b"abcabc").await;
    gets(&mut client, &[b'a', b'b', !b'c', b'a', b'b', b'c']).await;
}

#[tokio::test]
async fn a_dropped_proxy_closes_everything() {
    let line = Line::new().await;
    let (mut client, mut server) = line.connect().await;
    line.proxy.freeze();
    let address = line.proxy.address();
    drop(line.proxy);
    for end in [&mut client, &mut server] {
        let ended = timeout(SOON, end.read(&mut [0])).await.unwrap();
        assert!(matches!(ended, Ok(0) | Err(_)), "{ended:?}");
    }
    let refused = TcpStream::connect(address).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_server_is_reached_by_the_url_of_its_proxy() {
    let server = PostgresServer::temporary().start().await.unwrap();
    let proxy = Proxy::to(([127, 0, 0, 1], server.port())).await.unwrap();
    let mut psql = tokio::process::Command::new("psql");
    let url = proxy.url(&server.url());
    let output = psql.args([&url, "-XwAtc", "select 42"]).output().await;
    assert_eq!(output.unwrap().stdout, b"42\n");
    assert!(proxy.counts().to_server > 0);
}

#[tokio::test]
async fn a_delay_may_be_the_longest_duration_there_is() {
    let server = RedisServer::temporary().start().await.unwrap();
    let proxy = Proxy::to(([127, 0, 0, 1], server.port())).await.unwrap();
    proxy.delay(Direction::ToClient, Duration::MAX);
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    client.write_all(b"PING\r\n").await.unwrap();
    let mut answer = [0; 1];
    let early = timeout(Duration::from_millis(200), client.read(&mut answer)).await;
    assert!(early.is_err(), "{early:?}");
    proxy.heal();
    let answered = timeout(Duration::from_secs(20), client.read(&mut answer)).await;
    assert_eq!(answered.unwrap().unwrap(), 1);
}
