//! server
pub mod http;
