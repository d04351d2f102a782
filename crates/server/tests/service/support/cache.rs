//! A service and its cache.
//!
//! Invariant: the helpers only read what the service reports.

use cenote_testing::RedisServer;
use serde_json::Value;

use super::{Answer, Service, eventually};

/// A new Redis server.
pub(crate) async fn redis() -> RedisServer {
    RedisServer::temporary().start().await.unwrap()
}

/// `Cache-Status` of an answer: where it comes from.
pub(crate) fn source(answer: &Answer) -> &str {
    let status = answer.headers.get("cache-status");
    status.map_or("", String::as_str)
}

impl Service {
    pub(crate) async fn cache_stats(&self) -> Value {
        self.get("/cache-stats").await.json(200)
    }

    /// The number of statements sent so far.
    pub(crate) async fn queries(&self) -> u64 {
        let stats = self.get("/pool-stats").await.json(200);
        stats["query_count"].as_u64().unwrap()
    }

    /// Waits until the cache is in use.
    pub(crate) async fn uses_its_cache(&self) {
        eventually("the cache is used", async || {
            (self.cache_stats().await["state"] == "ok").then_some(())
        })
        .await;
    }
}
