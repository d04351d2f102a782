//! cenote beside its peers: its pool beside other pools ([`pools`]), its service beside other services ([`comparison`]).
//!
//! Invariant: all of them take turns under the same conditions, and what is shown are medians.

pub mod comparison;
pub mod pools;
mod statistics;

pub use statistics::median;
