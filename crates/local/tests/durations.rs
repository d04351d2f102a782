//! No duration makes anything panic: the longest and none among them.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

use std::time::Duration;

use cenote_local::{Direction, Error, PostgresServer, Proxy, RedisServer};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

#[tokio::test]
async fn a_server_may_take_for_ever_to_start_or_no_time() {
    let server = PostgresServer::temporary()
        .start_timeout(Duration::MAX)
        .start()
        .await
        .unwrap();
    server.restart().await.unwrap();
    drop(server);
    match PostgresServer::temporary().start_timeout(Duration::ZERO).start().await {
        Ok(_) | Err(Error::StartTimeout { .. }) => {}
        Err(other) => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_proxy_may_delay_for_ever() {
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
