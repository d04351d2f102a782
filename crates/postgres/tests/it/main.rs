//! The behaviour of the pool over real PostgreSQL servers, one module for each behaviour.
//!
//! One binary, because linking each file by itself took longer than running it. Three tests have a binary of their own,
//! because they would disturb others or be disturbed: `durations`, `endurance` and `overload`. Tests run at the same
//! time and share one server, on which each has its own database; a test that changes more than that starts its own
//! server.

#![cfg(test)]

mod application_name;
mod batching;
mod behind_a_pooler;
mod binary_copying;
mod black_hole;
mod cancellation;
#[cfg(feature = "tls")]
mod certificates;
mod changed_schema;
mod clean_on_return;
mod combining;
mod combining_histories;
mod command_timeout;
mod copying;
mod credentials;
mod failover;
mod generic_client;
mod harmless_commands;
mod health;
mod honest_errors;
mod hooks;
mod hosts;
mod listening;
mod loading;
mod metrics;
mod outages;
mod own_errors;
mod owned_streams;
mod permanent;
mod pipelining;
mod portals;
mod retry;
mod row_level_security;
mod runtimes;
mod savepoints;
mod secrets;
mod server_capacity;
mod session_on_return;
mod shortcuts;
mod statement_cache;
mod statements_on_return;
mod streams;
#[path = "../support/mod.rs"]
mod support;
mod timeouts_beside_neighbours;
#[cfg(feature = "tls")]
mod tls;
mod transaction_retries;
mod transactions;
mod typed_commands;
mod typed_rows;
