//! A private Redis answers, hangs, crashes and comes back. Without Redis installed these tests say so and pass.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test a panic is the failed assertion"
)]

use std::{process::Command, time::Duration};

use cenote_testing::{Authority, Error, RedisServer, eventually, runs};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

async fn server() -> Option<RedisServer> {
    match RedisServer::temporary().setting("maxmemory", "10mb").start().await {
        Err(Error::RedisMissing { .. }) => {
            println!("skipped: no redis-server");
            None
        }
        started => Some(started.unwrap()),
    }
}

async fn ask(server: &RedisServer, command: &str) -> String {
    let words: Vec<_> = command.split(' ').collect();
    server.command(&words).await.unwrap()
}

#[tokio::test]
async fn it_answers_and_asks_for_its_password() {
    let Some(server) = server().await else { return };
    assert_eq!(ask(&server, "PING").await, "PONG");
    let mut stream = TcpStream::connect(("127.0.0.1", server.port())).await.unwrap();
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
    assert_eq!(ask(&server, "EXISTS k").await, "0");
}

#[tokio::test]
async fn it_comes_back_with_what_it_last_saved() {
    let Some(server) = server().await else { return };
    ask(&server, "SET k old").await;
    server.save().await.unwrap();
    ask(&server, "SET k new").await;
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(ask(&server, "GET k").await, "old");
    ask(&server, "SET k new").await;
    server.stop().await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(ask(&server, "GET k").await, "old");
}

#[tokio::test]
async fn a_replica_has_what_its_primary_has_and_can_be_made_one() {
    let Some(server) = server().await else { return };
    ask(&server, "SET k v").await;
    let replica = server.replica().start().await.unwrap();
    assert_eq!(ask(&replica, "GET k").await, "v");
    let refused = replica.command(&["SET", "k", "w"]).await.unwrap_err();
    assert!(refused.to_string().contains("READONLY"), "{refused}");
    ask(&replica, "REPLICAOF NO ONE").await;
    ask(&replica, "SET k w").await;
    assert_eq!(ask(&server, "GET k").await, "v");
}

#[tokio::test]
async fn beyond_its_memory_it_evicts_if_told_to() {
    let started = RedisServer::temporary()
        .setting("maxmemory", "2mb")
        .setting("maxmemory-policy", "allkeys-lru")
        .start()
        .await;
    let Ok(server) = started else { return };
    let filled = "for i = 1, 2000 do redis.call('SET', i, string.rep('x', 4096)) end";
    server.command(&["EVAL", filled, "0"]).await.unwrap();
    server.command(&["SET", "one", "more"]).await.unwrap();
    let kept: usize = ask(&server, "DBSIZE").await.parse().unwrap();
    assert!((1..2000).contains(&kept), "{kept}");
}

#[tokio::test]
async fn it_speaks_tls_with_the_certificate_it_is_given() {
    let authority = Authority::new("authority");
    let (certificate, key) = authority.issue("127.0.0.1");
    let started = RedisServer::temporary().tls(certificate, key);
    let Ok(server) = started.start().await else {
        return;
    };
    assert_eq!(ask(&server, "PING").await, "PONG");
    let trusted = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(trusted.path(), authority.pem()).unwrap();
    let mut client = tokio::process::Command::new("redis-cli");
    // This client takes no URL without a user.
    let url = server.tls_url().unwrap().replace("//:", "//default:");
    client.args(["-u", &url, "--no-auth-warning"]);
    client.arg("--cacert").arg(trusted.path()).arg("PING");
    let Ok(output) = client.output().await else {
        println!("skipped: no redis-cli");
        return;
    };
    assert_eq!(output.stdout, b"PONG\n", "{output:?}");
}

#[tokio::test]
async fn it_hangs_while_frozen() {
    let Some(server) = server().await else { return };
    server.freeze().await.unwrap();
    let answer = tokio::time::timeout(Duration::from_millis(500), ask(&server, "PING")).await;
    assert!(answer.is_err());
    server.thaw().await.unwrap();
    assert_eq!(ask(&server, "PING").await, "PONG");
}

#[tokio::test]
async fn it_is_gone_after_stop_and_after_drop() {
    let Some(server) = server().await else { return };
    server.stop().await.unwrap();
    assert_eq!(server.pid(), None);
    server.restart().await.unwrap();
    let pid = server.pid().unwrap();
    drop(server);
    eventually("the server ends", Duration::from_secs(20), || !runs(pid)).await;
}

#[tokio::test]
async fn a_setting_it_rejects_is_told_in_its_own_words() {
    if Command::new("redis-server").arg("--version").output().is_err() {
        return;
    }
    let error = RedisServer::temporary()
        .setting("no-such-thing", "1")
        .start()
        .await
        .unwrap_err();
    assert!(error.to_string().contains("no-such-thing"), "{error}");
}

#[tokio::test]
async fn a_missing_redis_is_named_along_with_how_to_install() {
    let error = RedisServer::temporary()
        .program("/nonexistent/redis-server")
        .start()
        .await
        .unwrap_err();
    assert!(matches!(error, Error::RedisMissing { .. }), "{error:?}");
    for part in [
        "/nonexistent/redis-server",
        "valkey",
        "apt-get install",
        "dnf install",
        "brew install",
    ] {
        assert!(error.to_string().contains(part), "no {part:?} in {error}");
    }
}
