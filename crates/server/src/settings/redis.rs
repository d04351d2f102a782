//! Reads `REDIS_URL`, as the cache does. Invariant: there is one reading of it, the cache's.

use cenote_cache::RedisUrl;

use super::parse::Kind;

/// The kind of `REDIS_URL`: a server, or several nodes of a cluster.
pub(crate) struct RedisServers;

impl Kind for RedisServers {
    type Value = Vec<RedisUrl>;
    const SECRET: bool = true;
    const PLACEHOLDER: &'static str = "URL";

    fn parse(&self, text: &str) -> Result<Vec<RedisUrl>, String> {
        RedisUrl::parse_list(text).map_err(|invalid| invalid.to_string())
    }

    fn show(&self, value: &Vec<RedisUrl>) -> String {
        let shown: Vec<_> = value.iter().map(ToString::to_string).collect();
        shown.join(",")
    }

    fn describe(&self) -> String {
        "URL of Redis, or a comma-separated list of those of a cluster's nodes".into()
    }
}
