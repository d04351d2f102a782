//! A cached table over real servers, one module for each behaviour. Each test has its own servers.

#![cfg(test)]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

mod bypassing;
mod cancellation;
mod checking;
mod installing;
mod other_drivers;
mod reading;
mod transactions;
mod two_lines;
mod world;
