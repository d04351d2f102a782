//! TLS, logins and database numbers: the URL's options take effect, or Redis is not used.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

mod world;

use std::time::Duration;

use cenote_cache::{Cache, ClientIdentity, ConfigError, Mode, RedisConfig, Source, State};
use cenote_testing::{RedisCluster, RedisServer};
use tokio::time::Instant;
use world::{Database, config, read, ready, until, write};

struct Authority(cenote_testing::Authority);

impl Authority {
    fn new() -> Self {
        Self(cenote_testing::Authority::new("authority"))
    }

    fn identifies(&self, name: &str) -> ClientIdentity {
        let (certificate, key) = self.0.issue(name);
        ClientIdentity {
            certificate: certificate.into_bytes(),
            key: key.into_bytes().into(),
        }
    }

    async fn server(&self, name: &str) -> RedisServer {
        let (certificate, key) = self.0.issue(name);
        let builder = RedisServer::temporary().tls(certificate, key);
        builder.start().await.unwrap()
    }

    fn trusted_for(&self, server: &RedisServer) -> RedisConfig {
        let mut redis = RedisConfig::from_url(&server.tls_url().unwrap()).unwrap();
        redis.authorities = Some(self.0.pem().into_bytes());
        redis
    }
}

fn cache(database: &Database, redis: RedisConfig) -> Cache<Database> {
    Cache::new(database.clone(), config(Mode::Strong(redis))).unwrap()
}

async fn is_used(cache: &Cache<Database>, database: &Database) {
    ready(cache).await;
    let version = write(cache, database, "key", "value").await;
    assert_eq!(read(cache, "key").await, (Some(version), Source::Database));
    assert_eq!(read(cache, "key").await, (Some(version), Source::Redis));
}

/// It is tried again and again, and the database answers.
async fn is_refused(cache: &Cache<Database>) {
    until("it was tried", || cache.stats().redis_errors > 2).await;
    assert_ne!(cache.stats().state, State::Ok);
    assert_eq!(read(cache, "key").await.1, Source::Database);
}

#[tokio::test]
async fn a_certificate_of_a_trusted_authority_is_accepted() {
    let authority = Authority::new();
    let server = authority.server("127.0.0.1").await;
    let database = Database::new();
    let redis = authority.trusted_for(&server);
    is_used(&cache(&database, redis.clone()), &database).await;
    let max_staleness = Duration::from_millis(400);
    let bounded = config(Mode::Bounded { redis, max_staleness });
    let cache = Cache::new(database.clone(), bounded).unwrap();
    ready(&cache).await;
    let deadline = Instant::now() + Duration::from_secs(20);
    while read(&cache, "key").await.1 != Source::Near {
        assert!(Instant::now() < deadline, "never near");
    }
}

#[tokio::test]
async fn a_certificate_of_another_authority_or_for_another_name_is_refused() {
    let authority = Authority::new();
    let server = authority.server("127.0.0.1").await;
    is_refused(&cache(&Database::new(), Authority::new().trusted_for(&server))).await;
    let untrusted = RedisConfig::from_url(&server.tls_url().unwrap()).unwrap();
    is_refused(&cache(&Database::new(), untrusted)).await;
    let server = authority.server("elsewhere.example").await;
    is_refused(&cache(&Database::new(), authority.trusted_for(&server))).await;
}

#[tokio::test]
async fn invalid_certificates_and_certificates_for_a_plain_url_are_refused_at_once() {
    let mut redis = RedisConfig::from_url("rediss://127.0.0.1:1/").unwrap();
    redis.authorities = Some(b"-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n".to_vec());
    let refused = |redis| {
        let made = Cache::new(Database::new(), config(Mode::Strong(redis)));
        matches!(made, Err(ConfigError::Tls(_)))
    };
    assert!(refused(redis.clone()));
    redis.servers = RedisConfig::from_url("redis://127.0.0.1:1/").unwrap().servers;
    assert!(refused(redis));
}

#[tokio::test]
async fn a_server_that_asks_for_a_client_certificate_accepts_one_of_its_authority() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let (certificate, key) = authority.0.issue("127.0.0.1");
    let builder = RedisServer::temporary().tls(certificate, key);
    let server = builder.tls_clients(clients.0.pem()).start().await.unwrap();
    let database = Database::new();
    let mut redis = authority.trusted_for(&server);
    is_refused(&cache(&Database::new(), redis.clone())).await;
    redis.identity = Some(authority.identifies("client"));
    is_refused(&cache(&Database::new(), redis.clone())).await;
    redis.identity = Some(clients.identifies("client"));
    is_used(&cache(&database, redis.clone()), &database).await;
    let shown = format!("{redis:?}");
    assert!(
        !shown.contains("PRIVATE") && shown.contains("ClientIdentity"),
        "{shown}"
    );
}

#[tokio::test]
async fn an_invalid_private_key_is_refused_at_once() {
    let mut redis = RedisConfig::from_url("rediss://127.0.0.1:1/").unwrap();
    let mut identity = Authority::new().identifies("client");
    identity.key = b"no key".to_vec().into();
    redis.identity = Some(identity);
    let made = Cache::new(Database::new(), config(Mode::Strong(redis)));
    assert!(matches!(made, Err(ConfigError::Tls(_))));
}

#[tokio::test]
async fn all_primaries_of_a_cluster_are_used_over_tls() {
    let authority = Authority::new();
    let (certificate, key) = authority.0.issue("127.0.0.1");
    let builder = RedisCluster::temporary().tls(certificate, key, authority.0.pem());
    let cluster = builder.start().await.unwrap();
    let mut redis = RedisConfig::from_url(&cluster.tls_url().unwrap()).unwrap();
    redis.authorities = Some(authority.0.pem().into_bytes());
    let database = Database::new();
    let unidentified = Mode::Strong(redis.clone());
    redis.identity = Some(authority.identifies("client"));
    is_refused(&Cache::new(Database::new(), config(unidentified)).unwrap()).await;
    let cache = self::cache(&database, redis);
    ready(&cache).await;
    for number in 0..30 {
        let key = format!("key {number}");
        let version = write(&cache, &database, &key, "value").await;
        assert_eq!(read(&cache, &key).await, (Some(version), Source::Database));
        assert_eq!(read(&cache, &key).await, (Some(version), Source::Redis));
    }
    for primary in &cluster.nodes()[..3] {
        let count = primary.command(&["DBSIZE"]).await.unwrap();
        assert!(count.parse::<usize>().unwrap() > 1, "each has its part");
    }
}

#[tokio::test]
async fn a_user_logs_in_and_a_wrong_password_is_refused_without_showing_either() {
    let server = RedisServer::temporary().start().await.unwrap();
    let user = ["ACL", "SETUSER", "cenote", "on", ">secret", "~cenote:*", "+@all"];
    server.command(&user).await.unwrap();
    let port = server.port();
    let database = Database::new();
    let right = RedisConfig::from_url(&format!("redis://cenote:secret@127.0.0.1:{port}/")).unwrap();
    assert!(!format!("{right:?}").contains("secret"), "{right:?}");
    is_used(&cache(&database, right), &database).await;
    let wrong = RedisConfig::from_url(&format!("redis://cenote:guess@127.0.0.1:{port}/")).unwrap();
    is_refused(&cache(&Database::new(), wrong)).await;
}

#[tokio::test]
async fn the_database_number_of_the_url_is_used() {
    let server = RedisServer::temporary().start().await.unwrap();
    let database = Database::new();
    let redis = RedisConfig::from_url(&format!("{}3", server.url())).unwrap();
    is_used(&cache(&database, redis), &database).await;
    let keyspace = server.command(&["INFO", "keyspace"]).await.unwrap();
    assert!(keyspace.contains("db3:") && !keyspace.contains("db0:"), "{keyspace}");
}

#[tokio::test]
async fn a_unix_socket_is_used_with_its_login_and_database() {
    let socket = std::env::temp_dir().join(format!("cenote-{}.sock", std::process::id()));
    let server = RedisServer::temporary()
        .setting("unixsocket", socket.to_str().unwrap())
        .setting("unixsocketperm", "777")
        .start()
        .await
        .unwrap();
    let url = server.url();
    let password = url.split([':', '@']).nth(2).unwrap();
    let redis = RedisConfig::from_url(&format!("unix://:{password}@{}?db=2", socket.display())).unwrap();
    let database = Database::new();
    is_used(&cache(&database, redis), &database).await;
    let keyspace = server.command(&["INFO", "keyspace"]).await.unwrap();
    assert!(keyspace.contains("db2:"), "{keyspace}");
    drop(server);
    let _gone = std::fs::remove_file(socket);
}
