//! The protocol of the coherent cache, explored state by state: one key, two instances, and faults between any two steps.
//!
//! `promises.rs` shows that the whole protocol keeps its promises, `rules_matter.rs` that each rule is needed: without
//! it the search finds a counter-example, which is printed. Cells change, epochs follow each other, views and proofs end
//! by the production functions; around them are the steps of instances and servers, and time as a tick that may come
//! between any two of them.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

mod state;

mod rules;
mod scenarios;
mod search;

mod world;

mod redis;

mod near;

mod epochs;
mod faults;
mod proofs;
mod reads;
mod writes;

mod promises;
mod rules_matter;
