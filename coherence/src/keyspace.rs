//! The keys and values of the clients. Invariant: no two writes have the same value.

use std::{
    hash::{DefaultHasher, Hasher},
    sync::Arc,
};

/// The number of hot keys, which most requests use; the first one is the hottest.
const HOT: usize = 200;
const COLD: usize = 10_000;
/// The percentage of requests that use a hot key.
const HOT_SHARE: u8 = 80;
/// The length of a value, in bytes.
const LENGTH: usize = 100;

/// The keys, hot ones first.
pub(crate) struct Keys(Vec<Arc<str>>);

impl Keys {
    pub(crate) fn new() -> Self {
        let hot = (0..HOT).map(|n| format!("hot-{n}").into());
        let cold = (0..COLD).map(|n| format!("cold-{n}").into());
        Self(hot.chain(cold).collect())
    }

    pub(crate) fn all(&self) -> &[Arc<str>] {
        &self.0
    }

    /// A random key.
    pub(crate) fn draw(&self) -> &Arc<str> {
        let index = match fastrand::u8(..100) < HOT_SHARE {
            true => (fastrand::f64().powi(2) * HOT as f64) as usize,
            false => HOT + fastrand::usize(..COLD),
        };
        &self.0[index]
    }
}

/// The value of a client's write.
pub(crate) fn value(client: usize, write: u64) -> String {
    format!("{:.<LENGTH$}", format!("{client}/{write}"))
}

/// The digest that identifies a value in the history.
pub(crate) fn digest(value: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(value.as_bytes());
    hasher.finish()
}
