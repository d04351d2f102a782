//! API keys. Invariant: a key that is not well-formed is refused without asking anybody, and one that is unknown is looked
//! up at most 20 times a second.

mod digest;
mod directory;
mod format;
mod keys;
mod lookup_limit;

#[cfg(test)]
mod tests;

pub(crate) use digest::KeyHasher;
pub(crate) use directory::Found;
pub(crate) use format::{ApiKey, InvalidKey, KeyText, PREFIX};
pub(crate) use keys::{KeyStats, Keys};
