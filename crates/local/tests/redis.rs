//! A private Redis answers, hangs, crashes and comes back. Without Redis installed these tests say so and pass.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test a panic is the failed assertion"
)]

mod support;

use std::{process::Command, time::Duration};

use cenote_local::{Error, RedisServer};
use support::{eventually, runs};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

async fn server() -> Option<RedisServer> {
    match RedisServer::temporary()
        .setting("maxmemory", "10mb")
        .start()
        .await
    {
        Err(Error::RedisMissing { .. }) => {
            println!("skipped: no redis-server");
            None
        }
        started => Some(started.unwrap()),
    }
}

/// Logs in with the password of the URL, sends a command and returns the answer to it.
async fn ask(server: &RedisServer, command: &str) -> String {
    let password = server
        .url()
        .split(':')
        .nth(2)
        .unwrap()
        .split('@')
        .next()
        .unwrap()
        .to_owned();
    let mut stream = TcpStream::connect(("127.0.0.1", server.port()))
        .await
        .unwrap();
    stream
        .write_all(format!("AUTH {password}\r\n{command}\r\nQUIT\r\n").as_bytes())
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
        .strip_prefix("+OK\r\n")
        .unwrap()
        .strip_suffix("+OK\r\n")
        .unwrap()
        .trim()
        .to_owned()
}

#[tokio::test]
async fn it_answers_and_asks_for_its_password() {
    let Some(server) = server().await else { return };
    assert_eq!(ask(&server, "PING").await, "+PONG");
    let mut stream = TcpStream::connect(("127.0.0.1", server.port()))
        .await
        .unwrap();
    stream.write_all(b"PING\r\nQUIT\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("-NOAUTH"), "{answer}");
}

#[tokio::test]
async fn it_comes_back_empty_on_its_port_after_a_crash() {
    let Some(server) = server().await else { return };
    ask(&server, "SET k v").await;
    let pid = server.pid().unwrap();
    server.kill().await.unwrap();
    assert!(!runs(pid) && server.pid().is_none());
    server.restart().await.unwrap();
    assert_eq!(ask(&server, "GET k").await, "$-1");
}

#[tokio::test]
async fn it_hangs_while_frozen() {
    let Some(server) = server().await else { return };
    server.freeze().await.unwrap();
    let answer = tokio::time::timeout(Duration::from_millis(500), ask(&server, "PING")).await;
    assert!(answer.is_err());
    server.thaw().await.unwrap();
    assert_eq!(ask(&server, "PING").await, "+PONG");
}

#[tokio::test]
async fn it_is_gone_after_stop_and_after_drop() {
    let Some(server) = server().await else { return };
    server.stop().await.unwrap();
    assert_eq!(server.pid(), None);
    server.restart().await.unwrap();
    let pid = server.pid().unwrap();
    drop(server);
    eventually("the server ends", Duration::from_secs(5), || !runs(pid)).await;
}

#[tokio::test]
async fn a_setting_it_rejects_is_told_in_its_own_words() {
    if Command::new("redis-server")
        .arg("--version")
        .output()
        .is_err()
    {
        return;
    }
    let error = RedisServer::temporary()
        .setting("no-such-thing", "1")
        .start()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("no-such-thing"), "{error}");
}
