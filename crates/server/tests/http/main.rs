//! The transport as peers see it, well-behaved or not, over real sockets.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod bodies;
mod connections;
mod cores;
mod drain;
mod half_close;
mod heads;
mod identity;
mod paths;
mod problems;
mod routing;
mod support;
mod timeouts;
