//! A session with the server: its commands, transactions and streams, and how it becomes clean again.
//!
//! Invariant: a session is handed to its next user only when the wire and the statements' texts show nothing of the
//! previous one.

pub(crate) mod binary_copy;
mod clean;
pub(crate) mod command_limit;
pub(crate) mod commands;
pub(crate) mod connection;
pub(crate) mod copy;
mod error_classes;
mod execution;
pub(crate) mod generic_client;
pub(crate) mod hook_adapter;
pub(crate) mod hooks;
mod lexer;
pub(crate) mod manager;
pub(crate) mod owned_stream;
pub(crate) mod pipeline;
pub(crate) mod portal;
mod prepare;
pub(crate) mod query_metrics;
mod read_timeout;
pub(crate) mod side_effects;
mod staleness;
mod statement_cache;
mod statement_span;
pub(crate) mod streams;
pub(crate) mod transaction;
pub(crate) mod typed;
pub(crate) mod typed_rows;
