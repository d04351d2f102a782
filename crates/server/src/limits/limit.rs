//! A policy made ready for requests: its rates and the texts of its headers.
//!
//! Invariant: whatever a request does not change is computed once, when the settings or a key are read.

use std::hash::{DefaultHasher, Hash, Hasher};

use axum::http::HeaderValue;

use super::gcra::Rate;
use super::policy::{Policy, Unit};
use crate::per_thread::PerThread;

/// The limit of one class. Without rates: no limit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Limit {
    pub(super) policy: Policy,
    /// Stands for class and policy in the identities of callers, so that they begin anew with another limit.
    pub(super) seed: u64,
    pub(super) rates: Box<[Rate]>,
    /// The name of each window in headers and problems.
    pub(super) names: Box<[String]>,
    /// `RateLimit-Policy`. `None` without a limit.
    policy_header: Option<HeaderValue>,
    policy_headers: PerThread<HeaderValue>,
}

impl Limit {
    /// `class` consists of letters, digits and `-`.
    pub(super) fn new(class: &str, policy: Policy) -> Self {
        let windows = policy.windows();
        let rate = |window: &super::policy::Window| Rate::new(window.interval(), window.burst());
        let name = |unit: Unit| match windows.len() {
            1 => class.to_owned(),
            _ => format!("{class}-{unit}"),
        };
        let names: Box<[_]> = windows.iter().map(|window| name(window.unit())).collect();
        let items = windows.iter().zip(&names).map(|(window, name)| {
            let (quota, seconds, burst) = (window.quota(), window.unit().seconds(), window.burst());
            format!("\"{name}\";q={quota};w={seconds};cenote-burst={burst}")
        });
        let header = items.collect::<Vec<_>>().join(", ");
        let mut seed = DefaultHasher::new();
        (class, &policy).hash(&mut seed);
        Self {
            seed: seed.finish(),
            rates: windows.iter().map(rate).collect(),
            names,
            // Fails never: the texts are ASCII.
            policy_header: HeaderValue::try_from(header).ok().filter(|_| !policy.is_off()),
            policy_headers: PerThread::default(),
            policy,
        }
    }

    /// `RateLimit-Policy`. `None` without a limit.
    pub(super) fn policy_header(&self) -> Option<HeaderValue> {
        let header = self.policy_header.as_ref()?;
        // Its bytes are counted by those who hold them.
        let copy = || HeaderValue::from_bytes(header.as_bytes()).unwrap_or_else(|_| header.clone());
        Some(self.policy_headers.get(copy).clone())
    }
}
