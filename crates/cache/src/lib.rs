//! A cache in front of PostgreSQL, in process and in Redis, that never answers with a value which an acknowledged write has
//! replaced.
//!
//! A [`Cache`] reads through an [`Origin`], the database. A write is announced before it commits and released afterwards:
//! [`Cache::fence`], [`Fenced::release`]. [`Config`] and its [`Mode`] say what a read guarantees.
//!
//! A [`RedisUrl`] says where Redis is. If Redis is not used, a [`RedisProblem`] says why: in [`Stats`], in the log, and from
//! [`check_redis`] before anything depends on it.
//!
//! `docs/coherence.md` describes the protocol and what it promises. The modules:
//! * `url`: the URLs of Redis.
//! * `protocol`: its rules, without I/O. `tests/model` explores these very functions with crashes, lost messages, evictions,
//!   restarts and split brains.
//! * `redis`: the I/O with Redis.
//! * `modes`: what each mode does with the two.

#![warn(clippy::significant_drop_tightening)]

mod cache;
mod cache_core;
mod config;
mod fenced;
mod flight;
mod metrics;
mod near_cache;
mod origin;
mod password;
mod read;
mod stats;
mod ttl;
mod value;
mod write_outcome;

mod modes;
mod redis;
mod url;

#[doc(hidden)]
pub mod clock;
#[doc(hidden)]
pub mod protocol;

pub use cache::Cache;
pub use cenote_metrics::{Histogram, Metrics};
pub use config::{ClientIdentity, Config, ConfigError, MIN_STALENESS, Mode, RedisConfig, check_name};
pub use fenced::Fenced;
pub use origin::Origin;
#[doc(inline)]
pub use protocol::epoch::{EpochRow, InvalidTiming, Nonce, Timing, Trust};
pub use read::{Read, Source};
pub use stats::{Absent, DegradedReason, State, Stats};
pub use ttl::Ttl;
pub use value::Value;
pub use write_outcome::{Coherence, NotFenced, Obstacle};

pub use self::redis::{
    check::{CheckError, check_redis},
    key_count::KeyCount,
    problem::{RedisProblem, RedisProblemKind},
    script_connection::ScriptConnection,
};
pub use password::RedisPassword;
pub use url::{InvalidRedisUrl, RedisUrl};
