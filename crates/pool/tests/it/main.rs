//! The pool's promises to its users, one module for each behaviour.
//!
//! One binary, because linking each file by itself takes longer than running it. Only `durations` has its own, because
//! it counts the panics of the whole process. Wherever a test sleeps, tokio's clock is paused: the sleep takes no time
//! and ends when nothing else can happen before.

#![cfg(test)]

mod affinity;
mod any_error;
mod breaker;
mod cancellation;
mod cancellation_matrix;
mod capacity;
mod checking;
mod configuration;
mod connection_info;
mod ending;
mod fairness;
mod health;
mod holders;
mod hooks;
mod outage;
mod overload;
mod pausing;
mod permanent;
mod replacing;
mod resizing;
mod runtimes;
mod spike;
mod support;
mod sweeping;
mod use_times;
mod warming;
