//! The service and command line of cenote: a key-value and users API over pooled PostgreSQL.
//!
//! Modules in import order; each imports only from those above it.

#![warn(clippy::print_stdout, clippy::print_stderr)]

pub mod http;
pub mod settings;

mod memory;

mod store;

mod health;

mod app;
mod openapi;
mod problems;
mod routes;

mod cores;
mod descriptors;
mod output;
mod telemetry;

pub mod commands;
