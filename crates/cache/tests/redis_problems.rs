//! A problem with Redis is reported with the server's own text and with what to do, and without a password.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

mod world;

use std::{sync::Arc, time::Duration};

use cenote_cache::{CheckError, Mode, RedisConfig, RedisProblem, RedisProblemKind, check_redis};
use cenote_local::PostgresServer;
use cenote_testing::{RedisCluster, RedisServer};
use rcgen::{CertificateParams, KeyPair};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    time::{Instant, sleep},
};
use world::redis;

/// Returns the problem of the Redis at this URL.
async fn problem(url: &str) -> RedisProblem {
    problem_of(&Mode::Strong(RedisConfig::from_url(url).unwrap())).await
}

async fn problem_of(mode: &Mode) -> RedisProblem {
    match check_redis(mode).await {
        Err(CheckError::Redis(problem)) => problem,
        other => panic!("{other:?}"),
    }
}

/// Names the server, the cause and these words, and keeps the password to itself.
fn tells(problem: &RedisProblem, cause: RedisProblemKind, words: &[&str]) {
    let shown = problem.to_string();
    assert_eq!(problem.kind(), cause, "{shown}");
    for word in words {
        assert!(shown.contains(word), "{word:?} in {shown}");
    }
    assert!(shown.contains("127.0.0.1:"), "{shown}");
    assert!(!shown.contains("hunter"), "{shown}");
    assert!(!shown.contains('\n') && shown.len() < 400, "{shown}");
}

async fn with_user(server: &RedisServer, rules: &[&str]) -> String {
    let user = ["ACL", "SETUSER", "someone", "reset", "on", ">hunter2"];
    server.command(&[&user[..], rules].concat()).await.unwrap();
    format!("redis://someone:hunter2@127.0.0.1:{}", server.port())
}

#[tokio::test]
async fn a_refused_login_is_reported_with_the_servers_error() {
    let server = redis().await;
    let port = server.port();
    let wrong = ["WRONGPASS invalid username-password pair", "the password in the URL"];
    for login in [":hunter3@", "default:hunter3@", "nobody:hunter3@", "nobody:@"] {
        let refused = problem(&format!("redis://{login}127.0.0.1:{port}")).await;
        tells(&refused, RedisProblemKind::Login, &wrong);
        assert!(refused.is_permanent());
    }
    let none = problem(&format!("redis://127.0.0.1:{port}")).await;
    tells(&none, RedisProblemKind::Login, &["NOAUTH Authentication required."]);
    server.command(&["CONFIG", "SET", "requirepass", ""]).await.unwrap();
    let needless = problem(&format!("redis://:hunter3@127.0.0.1:{port}")).await;
    tells(
        &needless,
        RedisProblemKind::Login,
        &["called without any password configured"],
    );
}

#[tokio::test]
async fn a_user_without_a_password_logs_in_and_resp3_may_be_asked_for() {
    let server = redis().await;
    let user = ["ACL", "SETUSER", "open", "on", "nopass", "~*", "+@all"];
    server.command(&user).await.unwrap();
    for query in ["", "?protocol=3", "?protocol=2&db=1"] {
        let url = format!("redis://open:@127.0.0.1:{}{query}", server.port());
        check_redis(&Mode::Strong(RedisConfig::from_url(&url).unwrap()))
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_missing_permission_is_named() {
    let server = redis().await;
    for command in [
        "get",
        "set",
        "del",
        "pttl",
        "mget",
        "eval",
        "evalsha",
        "script|load",
        "info",
        "ping",
    ] {
        let url = with_user(&server, &["~*", "+@all", &format!("-{command}")]).await;
        let refused = problem(&url).await;
        tells(
            &refused,
            RedisProblemKind::Permission,
            &["NOPERM", &format!("'{command}'"), "ACL SETUSER"],
        );
    }
    let url = with_user(&server, &["~other:*", "+@all"]).await;
    tells(&problem(&url).await, RedisProblemKind::Permission, &["NOPERM", "key"]);
    let url = with_user(&server, &["~*", "+@all", "-client|tracking"]).await;
    let redis = RedisConfig::from_url(&url).unwrap();
    check_redis(&Mode::Strong(redis.clone())).await.unwrap();
    let max_staleness = Duration::from_millis(100);
    let bounded = Mode::Bounded { redis, max_staleness };
    tells(
        &problem_of(&bounded).await,
        RedisProblemKind::Permission,
        &["client|tracking"],
    );
}

#[tokio::test]
async fn an_unknown_database_is_refused_with_the_servers_error() {
    let server = redis().await;
    let beyond = problem(&format!("{}99", server.url())).await;
    tells(&beyond, RedisProblemKind::Mismatch, &["DB index is out of range"]);
}

#[tokio::test]
async fn servers_outside_a_cluster_are_recognized() {
    let (one, other) = (redis().await, redis().await);
    let port = other.port();
    let password = one.url();
    let password = password.split([':', '@']).nth(2).unwrap();
    let both = problem(&format!(
        "redis://:{password}@127.0.0.1:{},127.0.0.1:{port}",
        one.port()
    ))
    .await;
    assert!(
        matches!(both.kind(), RedisProblemKind::Mismatch | RedisProblemKind::Login),
        "{both}"
    );
    let cluster = one.url().replace("redis://", "redis+cluster://");
    tells(
        &problem(&cluster).await,
        RedisProblemKind::Mismatch,
        &["belongs to no cluster"],
    );
}

#[tokio::test]
async fn a_cluster_with_unassigned_slots_is_not_used() {
    let cluster = RedisCluster::temporary().start().await.unwrap();
    let url = cluster.nodes()[0].url();
    check_redis(&Mode::Strong(RedisConfig::from_url(&url).unwrap()))
        .await
        .unwrap();
    cluster.nodes()[0].command(&["CLUSTER", "DELSLOTS", "7"]).await.unwrap();
    tells(
        &problem(&url).await,
        RedisProblemKind::Cluster,
        &["slot 7", "not served"],
    );
    let beyond = problem(&format!("{url}1")).await;
    tells(
        &beyond,
        RedisProblemKind::Mismatch,
        &["SELECT is not allowed in cluster mode"],
    );
}

#[tokio::test]
async fn a_server_that_refuses_writes_says_why() {
    let primary = redis().await;
    let replica = primary.replica().start().await.unwrap();
    let read_only = problem(&replica.url()).await;
    tells(&read_only, RedisProblemKind::Replica, &["READONLY", "name the primary"]);
    for (settings, cause, words) in [
        (
            &["maxmemory", "1"][..],
            RedisProblemKind::OutOfMemory,
            "OOM command not allowed",
        ),
        (
            &["maxmemory", "0", "min-replicas-to-write", "3"],
            RedisProblemKind::RefusesWrites,
            "NOREPLICAS",
        ),
    ] {
        primary.command(&[&["CONFIG", "SET"], settings].concat()).await.unwrap();
        tells(&problem(&primary.url()).await, cause, &[words]);
    }
}

#[tokio::test]
async fn a_server_that_cannot_save_says_so() {
    let server = RedisServer::temporary()
        .setting("save", "3600 1")
        .start()
        .await
        .unwrap();
    let told = server.command(&["CONFIG", "GET", "dir"]).await.unwrap();
    let dir = told
        .split(['"', '\r', '\n', ' ', ','])
        .find(|word| word.starts_with('/'))
        .unwrap();
    std::fs::create_dir(format!("{dir}/dump.rdb")).unwrap();
    server.command(&["SET", "key", "value"]).await.unwrap();
    server.command(&["BGSAVE"]).await.unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    while !server
        .command(&["INFO", "persistence"])
        .await
        .unwrap()
        .contains("rdb_last_bgsave_status:err")
    {
        assert!(Instant::now() < deadline, "it never fails");
        sleep(Duration::from_millis(10)).await;
    }
    tells(
        &problem(&server.url()).await,
        RedisProblemKind::RefusesWrites,
        &["MISCONF"],
    );
}

#[tokio::test]
async fn a_busy_server_says_so() {
    let server = Arc::new(
        RedisServer::temporary()
            .setting("lua-time-limit", "1")
            .start()
            .await
            .unwrap(),
    );
    let busy = tokio::spawn({
        let server = server.clone();
        async move { server.command(&["EVAL", "while true do end", "0"]).await }
    });
    let deadline = Instant::now() + Duration::from_secs(20);
    let told = loop {
        match check_redis(&Mode::Strong(RedisConfig::from_url(&server.url()).unwrap())).await {
            Err(CheckError::Redis(problem)) if problem.kind() != RedisProblemKind::TimedOut => break problem,
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
    };
    tells(&told, RedisProblemKind::Busy, &["BUSY"]);
    server.command(&["SCRIPT", "KILL"]).await.unwrap();
    let _killed = busy.await.unwrap();
    server.command(&["CONFIG", "SET", "maxclients", "1"]).await.unwrap();
    let mut holders = Vec::new();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        holders.push(TcpStream::connect(("127.0.0.1", server.port())).await.unwrap());
        match check_redis(&Mode::Strong(RedisConfig::from_url(&server.url()).unwrap())).await {
            Err(CheckError::Redis(problem)) => {
                tells(
                    &problem,
                    RedisProblemKind::TooManyClients,
                    &["max number of clients reached"],
                );
                break;
            }
            other => assert!(Instant::now() < deadline, "{other:?}"),
        }
    }
}

#[tokio::test]
async fn a_missing_server_is_unreachable_and_a_hanging_one_times_out() {
    let server = redis().await;
    server.freeze().await.unwrap();
    let hangs = problem(&server.url()).await;
    tells(&hangs, RedisProblemKind::TimedOut, &["too long"]);
    server.thaw().await.unwrap();
    server.kill().await.unwrap();
    let refused = problem(&server.url()).await;
    tells(&refused, RedisProblemKind::Unreachable, &["refused"]);
    assert!(!hangs.is_permanent() && !refused.is_permanent());
    let nowhere = problem("redis://:hunter2@no-such-host.invalid").await;
    assert_eq!(nowhere.kind(), RedisProblemKind::Unreachable, "{nowhere}");
    let nowhere = problem("unix:///no/such/socket").await;
    assert_eq!(nowhere.kind(), RedisProblemKind::Unreachable, "{nowhere}");
    assert!(nowhere.to_string().contains("/no/such/socket"), "{nowhere}");
}

#[tokio::test]
async fn a_server_with_another_protocol_is_not_redis() {
    let postgres = PostgresServer::temporary().start().await.unwrap();
    for url in ["redis://:hunter2@127.0.0.1", "redis://127.0.0.1"] {
        let other = problem(&format!("{url}:{}", postgres.port())).await;
        assert!(
            matches!(other.kind(), RedisProblemKind::Closed | RedisProblemKind::NotRedis),
            "{other}"
        );
        assert!(
            other.to_string().contains("no Redis") || other.to_string().contains("not a Redis"),
            "{other}"
        );
    }
    for (answer, cause, words) in [
        (
            "HTTP/1.1 400 Bad Request\r\nconnection: close\r\n\r\n",
            RedisProblemKind::NotRedis,
            "HTTP/1.1 400 Bad Request",
        ),
        ("SSH-2.0-OpenSSH_9.2\r\n", RedisProblemKind::NotRedis, "SSH-2.0"),
        ("+OK\r\n+PONG\r\n$3\r\nx", RedisProblemKind::NotRedis, "not a Redis"),
        ("\x15\x03\x03\0\x02\x02\x28", RedisProblemKind::OnlyTls, "rediss://"),
        (
            "-DENIED Redis is running in protected mode because protected mode is enabled and no password is set\r\n",
            RedisProblemKind::ProtectedMode,
            "protected-mode",
        ),
        ("", RedisProblemKind::Closed, "closed the connection"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let answering = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut question = [0; 512];
            let _read = stream.read(&mut question).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        });
        let other = problem(&format!("redis://:hunter2@127.0.0.1:{port}")).await;
        tells(&other, cause, &[words]);
        answering.await.unwrap();
    }
}

#[tokio::test]
async fn the_reason_why_tls_fails_is_reported() {
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["elsewhere.example".to_owned()]).unwrap();
    let pem = certificate.self_signed(&key).unwrap().pem();
    let builder = RedisServer::temporary().tls(pem.clone(), key.serialize_pem());
    let server = builder.start().await.unwrap();
    let tls = server.tls_url().unwrap();
    tells(&problem(&tls).await, RedisProblemKind::Tls, &["TLS: ", "UnknownIssuer"]);
    let mut redis = RedisConfig::from_url(&tls).unwrap();
    redis.authorities = Some(pem.into_bytes());
    let misnamed = problem_of(&Mode::Strong(redis)).await;
    tells(&misnamed, RedisProblemKind::Tls, &["TLS: ", "elsewhere.example"]);
    let plain = problem(&tls.replace("rediss://", "redis://")).await;
    assert!(
        matches!(plain.kind(), RedisProblemKind::OnlyTls | RedisProblemKind::Closed),
        "{plain}"
    );
    assert!(plain.to_string().contains("rediss://"), "{plain}");
    let encrypted = problem(&server.url().replace("redis://", "rediss://")).await;
    assert!(encrypted.to_string().contains("redis://"), "{encrypted}");
}
