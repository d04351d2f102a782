//! How a cache is set up. Invariant: a mode carries all it needs, so none can be chosen without.

use std::{fmt, time::Duration};

use cenote_secret::Secret;

use crate::{
    protocol::epoch::{InvalidTiming, Timing},
    redis::url::{InvalidRedisUrl, RedisUrl},
};

/// What a read guarantees.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Values are kept in this process, which is the only one to write. No read misses an acknowledged write.
    Local,
    /// Values are kept in Redis. No read misses a write acknowledged by any instance, and reads of a key never go back.
    Strong(RedisConfig),
    /// Values are kept in Redis and in this process. No read misses a write that was acknowledged `max_staleness` before
    /// the read began, or by this instance.
    Bounded {
        /// The Redis.
        redis: RedisConfig,
        /// The bound; [`MIN_STALENESS`] at least.
        max_staleness: Duration,
    },
    /// The plain cache-aside: values are kept in Redis and deleted after a write. A read may miss writes until `ttl` is
    /// over; meant for comparison.
    Ttl(RedisConfig),
    /// Nothing is kept.
    Off,
}

impl Mode {
    /// The Redis, in modes with one.
    #[must_use]
    pub fn redis(&self) -> Option<&RedisConfig> {
        match self {
            Self::Strong(redis) | Self::Bounded { redis, .. } | Self::Ttl(redis) => Some(redis),
            Self::Local | Self::Off => None,
        }
    }
}

/// The smallest bound on staleness: below it, more would be spent on proofs than is saved on reads.
pub const MIN_STALENESS: Duration = Duration::from_millis(20);

/// A Redis and how to talk to it. To each server there is a connection for each runtime that the cache is used from, one
/// to watch the server, and in `bounded` one that is told of changes.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisConfig {
    /// Where it is. A server that belongs to a cluster leads to all of it; several of its nodes may be named, any of which
    /// will do that answers.
    pub servers: Vec<RedisUrl>,
    /// With TLS: the certificates, PEM, of the authorities that may sign a server's. Initially none, which means those of
    /// the system.
    pub authorities: Option<Vec<u8>>,
    /// With TLS: what is shown to a server that asks who is there. Initially nothing.
    pub identity: Option<ClientIdentity>,
    /// What every key begins with, before the name of the cache; not empty. Instances of one application have the same.
    /// Initially `cenote`.
    pub prefix: String,
    /// After what time an unanswered call counts as an outage. Initially 250 ms.
    pub timeout: Duration,
}

impl RedisConfig {
    /// The Redis with these servers.
    #[must_use]
    pub fn new(servers: Vec<RedisUrl>) -> Self {
        Self {
            servers,
            authorities: None,
            identity: None,
            prefix: "cenote".to_owned(),
            timeout: Duration::from_millis(250),
        }
    }

    /// The Redis at this URL, or at these, separated by commas: see [`RedisUrl::parse_list`].
    ///
    /// # Errors
    /// [`InvalidRedisUrl`] for what is none.
    pub fn from_url(url: &str) -> Result<Self, InvalidRedisUrl> {
        Ok(Self::new(RedisUrl::parse_list(url)?))
    }
}

/// The certificate of a client of TLS.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate, followed by those that lead to its authority, if any; PEM.
    pub certificate: Vec<u8>,
    /// Its private key, PEM.
    pub key: Secret<Vec<u8>>,
}

/// Nobody reads certificates as numbers.
impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity").finish_non_exhaustive()
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("servers", &self.servers)
            .field("authorities", &self.authorities.is_some())
            .field("identity", &self.identity)
            .field("prefix", &self.prefix)
            .field("timeout", &self.timeout)
            .finish()
    }
}

/// The settings of a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Tells this cache from others that share a Redis or a process: a part of every key. A letter, followed by letters,
    /// digits, `_`, `.` and `-`; 64 bytes at most. Caches of the same name and the same database share their values.
    pub name: String,
    /// What a read guarantees.
    pub mode: Mode,
    /// For how long a value is kept. Initially 300 s; up to a tenth less for each, so that what was loaded together does
    /// not end together.
    pub ttl: Duration,
    /// For how long it is kept that there is no row. Initially 30 s.
    pub absent_ttl: Duration,
    /// How much is kept in this process, keys, values and bookkeeping together. Initially 64 MiB.
    pub near_bytes: u64,
    /// Whether to answer with what was known before, marked as such, when the database fails. Initially off.
    pub stale_on_error: bool,
    /// The times of the protocol. Initially a lease of 2 s, a deadline of 1 s and a fence of 3 s.
    pub timing: Timing,
    /// For how long a write waits for Redis: before its commit, to be fenced, and once more after it, to be released.
    /// Initially 5 s, which is longer than an outage of Redis stalls writes.
    pub write_patience: Duration,
}

impl Config {
    /// The initial settings with this name and mode.
    #[must_use]
    pub fn new(name: impl Into<String>, mode: Mode) -> Self {
        Self {
            name: name.into(),
            mode,
            ttl: Duration::from_secs(300),
            absent_ttl: Duration::from_secs(30),
            near_bytes: 64 << 20,
            stale_on_error: false,
            timing: Timing::default(),
            write_patience: Duration::from_secs(5),
        }
    }
}

/// The longest name of a cache.
const LONGEST_NAME: usize = 64;

/// Checks a name, of which two must not overlap in keys: `:` separates there.
pub(crate) fn check_name(name: &str) -> Result<(), ConfigError> {
    let begins_well = name.starts_with(|first: char| first.is_ascii_alphabetic());
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte);
    match begins_well && name.bytes().all(is_plain) && name.len() <= LONGEST_NAME {
        true => Ok(()),
        false => Err(ConfigError::Name(name.to_owned())),
    }
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No server is named, or several that cannot belong to one cluster.
    #[error("the URL {0}")]
    Url(InvalidRedisUrl),
    /// The certificates are none, or are given for a URL without TLS.
    #[error("TLS: {0}")]
    Tls(String),
    /// The name does not tell this cache from others.
    #[error(
        "{0:?} cannot be the name of a cache: it is a letter, followed by letters, digits, '_', '.' and '-', 64 bytes at \
         most"
    )]
    Name(String),
    /// The prefix of the keys in Redis is empty.
    #[error("the prefix of the keys in Redis must not be empty")]
    Prefix,
    /// The bound cannot be kept.
    #[error("a bound of {0:?} on staleness is too short: {MIN_STALENESS:?} at least")]
    Staleness(Duration),
    /// See [`Timing::new`].
    #[error(transparent)]
    Timing(#[from] InvalidTiming),
}

impl From<InvalidRedisUrl> for ConfigError {
    fn from(error: InvalidRedisUrl) -> Self {
        Self::Url(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_letter_and_what_cannot_be_taken_for_a_separator() {
        for name in ["users", "a", "User_names.v2-x", &"a".repeat(LONGEST_NAME)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        let long = "a".repeat(LONGEST_NAME + 1);
        for name in ["", ":", "a:b", "7", "-a", "a b", "a{b}", "ä", "a\0", "a\n", &long] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }
}
