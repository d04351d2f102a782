//! The service and command line of cenote: a key-value and users API over pooled PostgreSQL.
//!
//! | Module | Job |
//! |---|---|
//! | `commands` | `serve`, `check`, `migrate`, `key`, `admin` and the other commands |
//! | [`startup`] | builds the service from its settings, and ends it |
//! | `settings` | from the environment to checked settings |
//! | [`http`] | the transport: sockets, connections, timeouts, errors |
//! | `http_client` | asks other HTTP services |
//! | [`limits`] | how often a caller may do what |
//! | `routes` | the handlers and their OpenAPI description |
//! | `store` | all SQL: keys and users in PostgreSQL, the cache in front of them, the schema |
//! | `auth` | who calls: API keys and tokens |
//! | `access` | the gate that every request passes: who may do what, and how often |
//! | `app` | the state that the routes share |
//! | `dashboard` | the page at `/`, and the figures that it shows |
//! | `metrics` | what is counted, as text for Prometheus |
//! | [`recent`], `slow_statements` | what failed or was slow just now |
//! | `health` | measures the database's health |
//! | `response_memory` | bounds the memory of large responses |
//! | [`memory_watch`] | gives memory back and refuses long bodies while memory is short |
//! | `audit` | the log of administrative calls |
//! | `per_thread` | copies of a value, so that cores do not contend for it |
//! | `cores` | a thread and a runtime for each core |
//! | `open_files` | divides the limit of open files |
//! | `systemd` | readiness, watchdog and passed sockets |
//! | `dotenv` | parses `.env` files |
//! | [`spans`] | traces, and their export |
//! | `output`, `telemetry` | standard output, the log |
//!
//! The modules below are in import order; each imports only from those above it.

#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod recent;

mod pem;

pub mod http;
mod http_client;

mod per_thread;

pub mod limits;

mod audit;
mod line_budget;
mod output;
mod slow_statements;
pub mod spans;
mod telemetry;

mod dotenv;
mod response_memory;

mod store;

mod access;
mod auth;
#[cfg(fuzzing)]
pub use auth::fuzzing::{accepts_token, count_keys, judge_token, parse_api_key};

pub mod memory_watch;

pub mod settings;

mod health;

mod admin;
mod app;
mod dashboard;
mod metrics;
mod routes;
#[cfg(fuzzing)]
pub use routes::status_for_version;

mod cores;
mod open_files;
mod systemd;

pub mod startup;

pub mod commands;
