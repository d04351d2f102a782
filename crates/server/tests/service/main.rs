//! The program as its users meet it: the built binary, over HTTP, signals and a real PostgreSQL.
//!
//! Each test starts its own service on its own database. Most tests share one PostgreSQL server; a test that breaks or
//! configures a server starts its own.

#![cfg(test)]

mod access;
mod addresses;
mod admin;
mod admin_command;
mod cache_outages;
mod caching;
mod change_feed;
mod client_certificates;
mod commands;
mod conditional;
mod dashboard;
mod database_load;
mod descriptors;
mod drain;
mod durability;
mod encodings;
mod errors;
mod first_start;
mod foreign_settings;
mod http2;
mod identity_provider;
mod instances;
mod key_commands;
mod key_count;
mod keys;
mod leaving;
mod limits;
mod live_settings;
mod memory;
mod memory_pressure;
mod metrics;
mod openapi;
mod operations;
mod outages;
mod output;
mod overload;
mod own_rules;
mod prefix;
mod reaching;
mod read_only;
mod redis_problems;
mod reload;
mod revocation;
mod rotation;
mod schema;
mod settings;
mod shared_limits;
#[path = "../settings/spans.rs"]
mod spans;
mod startup;
mod support;
mod systemd;
mod tls;
mod top;
mod traces;
mod tracing;
mod users;
mod verdicts;
mod web;
