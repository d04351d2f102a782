//! Private Redis servers and Redis Clusters. The one invariant: each listens on 127.0.0.1 only and asks for a password.

mod builder;
mod client;
mod cluster;
mod server;
mod wait;

pub use builder::RedisBuilder;
pub use cluster::{RedisCluster, RedisClusterBuilder};
pub use server::RedisServer;
