//! No printed form of a cache's settings contains a password or a key.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

use std::{error::Error, fmt::Debug, time::Duration};

use cenote_cache::{ClientIdentity, Config, Mode, RedisConfig, RedisUrl, check_redis};

const MARKER: &str = "hunter2";

fn hides(what: &dyn Debug) {
    cenote_testing::hides(what, MARKER);
}

fn hides_with_sources(error: &dyn Error) {
    cenote_testing::hides_with_sources(error, MARKER);
}

#[tokio::test]
async fn neither_settings_nor_errors_show_a_password_or_a_key() {
    let mut redis = RedisConfig::from_url(&format!("rediss://user:{MARKER}@127.0.0.1:1/2")).unwrap();
    redis.identity = Some(ClientIdentity {
        certificate: Vec::new(),
        key: MARKER.as_bytes().to_vec().into(),
    });
    hides(&redis);
    hides(&redis.identity);
    hides(&redis.servers);
    assert!(!redis.servers[0].to_string().contains(MARKER));
    let max_staleness = Duration::from_millis(100);
    let mode = Mode::Bounded {
        redis: redis.clone(),
        max_staleness,
    };
    hides(&mode);
    hides(&Config::new("secrets", mode.clone()));
    hides_with_sources(&check_redis(&mode).await.unwrap_err());
    redis.identity = None;
    hides_with_sources(&check_redis(&Mode::Strong(redis)).await.unwrap_err());
}

#[test]
fn the_error_about_a_url_quotes_no_part_of_its_password() {
    for url in [
        "redis://:hunter2",
        "redis://user:hunter2/@h",
        "redis://user:hun/ter2@h",
        "redis://:x?hunter2@h",
        "redis://:x#hunter2@h",
        "redis://hunter2@h",
        "redis://:hunter2,@a@h",
        "redis://:hunter2@h:port",
        "redis://:hunter2@h/x",
        "redis://:hunter2@h?nonsense=hunter2",
        "redis://h?password=hunter2&password=hunter3",
        "redis://h?hunter2",
        "redis://:hunter2%zz@h",
        "redis://:hunter2@a,rediss://:hunter2@b",
        "redis://:a,hunter2",
        "hunter2",
    ] {
        hides_with_sources(&RedisUrl::parse_list(url).unwrap_err());
    }
}
