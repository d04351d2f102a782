//! Compares cenote with its peers: its pool with other pools ([`pools`]), its service with other services
//! ([`comparison`]).
//!
//! Invariant: all take turns under the same conditions, and the figures are medians.

#![warn(clippy::significant_drop_tightening)]

pub mod comparison;
pub mod pools;
mod statistics;

pub use statistics::median;
