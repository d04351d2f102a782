//! The HTTP transport over real sockets, as well-behaved and misbehaving peers see it.

#![cfg(test)]

mod bodies;
mod connections;
mod cores;
mod drain;
mod half_close;
mod heads;
mod identity;
mod paths;
mod problems;
mod proxy_protocol;
mod routing;
mod support;
mod timeouts;
mod tls;
mod web;
