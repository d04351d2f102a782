//! Nothing that can be printed of a private server has its password, a key or what a setting was set to.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

use cenote_local::PostgresServer;
use cenote_testing::{Authority, RedisCluster, RedisServer, Replication, hides};

const MARKER: &str = "hunter2";

/// The password in a URL.
fn password(url: &str) -> &str {
    let (_, credentials) = url.split_once("://").unwrap();
    let (credentials, _) = credentials.split_once('@').unwrap();
    credentials.split_once(':').unwrap().1
}

#[test]
fn a_builder_shows_no_key_and_no_value_of_a_setting() {
    let postgres = PostgresServer::temporary()
        .setting("primary_conninfo", MARKER)
        .access_rule(format!("host all all all ldap ldapbindpasswd={MARKER}"))
        .tls("certificate", MARKER);
    hides(&postgres, MARKER);
    hides(
        &RedisServer::temporary()
            .setting("masterauth", MARKER)
            .tls("certificate", MARKER),
        MARKER,
    );
    let cluster = RedisCluster::temporary().setting("masterauth", MARKER);
    hides(&cluster.tls("certificate", MARKER, "authorities"), MARKER);
}

#[tokio::test]
async fn a_refused_rule_or_setting_is_not_quoted() {
    let rule = format!("host all all all ldap\nldapbindpasswd={MARKER}");
    let refused = PostgresServer::temporary().access_rule(rule).start().await.unwrap_err();
    hides(&refused, MARKER);
    assert!(!refused.to_string().contains(MARKER), "{refused}");
    let refused = RedisServer::temporary()
        .setting("masterauth", format!("{MARKER}\n"))
        .start()
        .await
        .unwrap_err();
    hides(&refused, MARKER);
    assert!(!refused.to_string().contains(MARKER), "{refused}");
}

#[tokio::test]
async fn a_running_server_shows_no_password_nor_does_its_replica() {
    let postgres = PostgresServer::temporary().start().await.unwrap();
    let url = postgres.url();
    hides(&postgres, password(&url));
    hides(&postgres.replica(), password(&url));
    hides(&postgres.psql_line(), password(&url));
    let (certificate, key) = Authority::new("authority").issue("127.0.0.1");
    let redis = RedisServer::temporary()
        .tls(certificate, key.clone())
        .start()
        .await
        .unwrap();
    let url = redis.url();
    hides(&redis, password(&url));
    hides(&redis, &key);
    hides(&redis.replica(), password(&url));
    let unknown = redis.command(&["AUTH", MARKER]).await.unwrap_err();
    hides(&unknown, MARKER);
}
