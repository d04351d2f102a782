//! The service: settings, HTTP and command line over a pooled PostgreSQL.

pub mod settings;
