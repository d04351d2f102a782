//! A cache in front of PostgreSQL, in process and in Redis, that never answers with a value which an acknowledged write
//! has replaced.
//!
//! A [`Cache`](cache::Cache) reads through an [`Origin`](origin::Origin), the database. A write is announced before it
//! commits and released afterwards, see [`Fenced`](fenced::Fenced).
//!
//! Where Redis is, a [`RedisUrl`](redis_url::RedisUrl) says; why it is not used, a
//! [`RedisProblem`](problem::RedisProblem) in [`Stats`](stats::Stats), in the log, and from
//! [`check_redis`](redis_check::check_redis) before anything depends on it.
//!
//! The rules it follows:
//! * [`cell`]: what Redis holds under a key: a value, a lease to load it, or a fence put up by writers.
//! * [`scripts`]: the five Lua scripts that change a cell, and [`transitions`], the same five as functions.
//! * [`epoch`]: which keyspace of which Redis is trusted, and for how long an instance may act on knowing it.
//! * [`near`]: for how long a value kept in process is proven to be fresh enough.
//!
//! These are functions of their arguments: no I/O, and the time is passed in. `tests/model` explores these very
//! functions, with crashes, lost messages, evictions, restarts and split brains in between; `docs/coherence.md` tells
//! the protocol they make up and what it promises.

pub mod cell;

pub mod scripts;
pub mod transitions;

pub mod moment;

pub mod epoch;
pub mod near;

pub mod clock;
mod ids;

pub mod redis_url;

pub mod problem;

pub mod config;
pub mod origin;
pub mod stats;

mod near_cache;
pub mod read;

mod flight;
mod local;

mod redis_reports;
mod reply;

mod proof;
mod topology;
mod words;

mod connection;
mod tls;

mod command;
mod server;

mod breaker;
mod lane;

mod node;

mod link;
mod links;

pub mod key_count;

pub mod redis_check;

mod cells;
mod disagreement;
mod tracking;
mod views;

mod shared;

mod caution;
mod keeper;
mod keepers;
mod plain;
mod row_faults;

mod poller;

pub mod fenced;

mod tier;

pub mod cache;

pub mod history;
