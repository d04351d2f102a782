//! The transport as peers see it, well-behaved or not, over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bodies;
mod connections;
mod cores;
mod drain;
mod identity;
mod paths;
mod problems;
mod support;
mod timeouts;
