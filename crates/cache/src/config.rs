//! The settings of a cache. Invariant: a mode carries the settings that it needs, so it cannot be chosen without them.

use std::{fmt, time::Duration};

use cenote_secret::Secret;

use crate::{
    password::RedisPassword,
    protocol::epoch::{InvalidTiming, Timing},
    ttl::Ttl,
    url::{InvalidRedisUrl, RedisUrl},
};

/// What a read guarantees.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Mode {
    /// Values are kept in this process, which must be the only one that writes. No read misses an acknowledged write.
    Local,
    /// Values are kept in Redis. No read misses a write acknowledged by any instance, and reads of a key never go back.
    Strong(RedisConfig),
    /// Values are kept in Redis and in this process. No read misses a write that was acknowledged `max_staleness` before
    /// the read began, or by this instance.
    Bounded {
        /// The Redis.
        redis: RedisConfig,
        /// The bound, at least [`MIN_STALENESS`].
        max_staleness: Duration,
    },
    /// Cache-aside: values are kept in Redis and deleted after a write. A read may miss writes for up to `ttl`. For
    /// comparison.
    Ttl(RedisConfig),
    /// Nothing is cached.
    Off,
}

impl Mode {
    /// Returns the Redis, in modes with one.
    #[must_use]
    pub fn redis(&self) -> Option<&RedisConfig> {
        match self {
            Self::Strong(redis) | Self::Bounded { redis, .. } | Self::Ttl(redis) => Some(redis),
            Self::Local | Self::Off => None,
        }
    }
}

/// The smallest bound on staleness. Below it, proving the bound costs more than the near cache saves.
pub const MIN_STALENESS: Duration = Duration::from_millis(20);

/// Where Redis is and how to connect. To each server there is one connection for each runtime that uses the cache, one to
/// watch the server, and in `bounded` one that is told of changes.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisConfig {
    /// The server. Of a cluster, one node leads to all; several may be named, of which the first that answers is used.
    pub servers: Vec<RedisUrl>,
    /// The source of the password, asked for each new connection. `None`: the password of the URL.
    pub password: Option<RedisPassword>,
    /// With TLS: the certificates, in PEM, of the authorities that may sign a server's certificate. Initially `None`: those
    /// of the system.
    pub authorities: Option<Vec<u8>>,
    /// With TLS: the certificate for a server that asks for one. Initially none.
    pub identity: Option<ClientIdentity>,
    /// The prefix of every key, before the name of the cache. Must not be empty, and must be the same for all instances of
    /// an application. Initially `cenote`.
    pub prefix: String,
    /// A call without an answer for this long counts as an outage. Initially 250 ms.
    pub timeout: Duration,
}

impl RedisConfig {
    /// Creates settings for these servers.
    #[must_use]
    pub fn new(servers: Vec<RedisUrl>) -> Self {
        Self {
            servers,
            password: None,
            authorities: None,
            identity: None,
            prefix: "cenote".to_owned(),
            timeout: Duration::from_millis(250),
        }
    }

    /// Creates settings for this URL, or for several separated by commas: see [`RedisUrl::parse_list`].
    ///
    /// # Errors
    /// [`InvalidRedisUrl`] if the text is not a list of URLs.
    pub fn from_url(url: &str) -> Result<Self, InvalidRedisUrl> {
        Ok(Self::new(RedisUrl::parse_list(url)?))
    }
}

/// A client certificate for TLS.
#[derive(Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// The certificate in PEM, followed by any intermediate certificates.
    pub certificate: Vec<u8>,
    /// Its private key in PEM.
    pub key: Secret<Vec<u8>>,
}

/// Shows no bytes.
impl fmt::Debug for ClientIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientIdentity").finish_non_exhaustive()
    }
}

impl fmt::Debug for RedisConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConfig")
            .field("servers", &self.servers)
            .field("password", &self.password)
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
    /// The name of the cache, a part of every key. A letter, followed by letters, digits, `_`, `.` and `-`; at most 64
    /// bytes. Caches of the same name over the same database share their values.
    pub name: String,
    /// What a read guarantees.
    pub mode: Mode,
    /// How long a value is kept. Initially 300 s. Each value is kept up to a tenth less, chosen at random, so that values
    /// that were loaded together do not expire together.
    pub ttl: Duration,
    /// How long the absence of a row is kept. Initially 30 s.
    pub absent_ttl: Duration,
    /// The most bytes kept in this process: keys, values and bookkeeping together. Initially 64 MiB.
    pub near_bytes: u64,
    /// Whether values that come from Redis and are kept in this process have room for their decoded form: see
    /// [`Value::decoded`](crate::Value::decoded). Initially off.
    pub keeps_decoded: bool,
    /// Whether to answer with an outdated value, marked as stale, when the database fails. Initially off.
    pub stale_on_error: bool,
    /// The times of the protocol. Initially a lease of 2 s, a deadline of 1 s and a fence of 3 s.
    pub timing: Timing,
    /// How long a write waits for Redis: before its commit to be fenced, and again after it to be released. Initially 5 s,
    /// which is longer than writes wait after an outage of Redis.
    pub write_patience: Duration,
}

impl Config {
    /// Creates the initial settings with this name and mode.
    #[must_use]
    pub fn new(name: impl Into<String>, mode: Mode) -> Self {
        Self {
            name: name.into(),
            mode,
            ttl: Duration::from_secs(300),
            absent_ttl: Duration::from_secs(30),
            near_bytes: 64 << 20,
            keeps_decoded: false,
            stale_on_error: false,
            timing: Timing::default(),
            write_patience: Duration::from_secs(5),
        }
    }

    /// Sets `ttl` and `absent_ttl` as [`Ttl::new`] does.
    pub fn set_ttl(&mut self, ttl: Duration) {
        let Ttl { present, absent } = Ttl::new(ttl);
        (self.ttl, self.absent_ttl) = (present, absent);
    }

    /// How long values are kept, if their origin does not say.
    pub(crate) const fn kept_for(&self) -> Ttl {
        Ttl {
            present: self.ttl,
            absent: self.absent_ttl,
        }
    }
}

/// A cache in this process, named `default`.
impl Default for Config {
    fn default() -> Self {
        Self::new("default", Mode::Local)
    }
}

/// The longest name of a cache.
const LONGEST_NAME: usize = 64;

/// Checks a name of a part of every key: it must not contain `:`, which separates the parts.
///
/// # Errors
/// [`ConfigError::Name`] with the rule.
pub fn check_name(name: &str) -> Result<(), ConfigError> {
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
    /// A certificate cannot be read, or is given for a URL without TLS.
    #[error("TLS: {0}")]
    Tls(String),
    /// The name is not valid.
    #[error(
        "{0:?} cannot be the name of a cache: it is a letter, followed by letters, digits, '_', '.' and '-', 64 bytes at \
         most"
    )]
    Name(String),
    /// The prefix of the keys in Redis is empty.
    #[error("the prefix of the keys in Redis must not be empty")]
    Prefix,
    /// The bound on staleness is too short.
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
    fn a_name_starts_with_a_letter_and_has_no_separator() {
        for name in ["users", "a", "User_names.v2-x", &"a".repeat(LONGEST_NAME)] {
            assert!(check_name(name).is_ok(), "{name}");
        }
        let long = "a".repeat(LONGEST_NAME + 1);
        for name in ["", ":", "a:b", "7", "-a", "a b", "a{b}", "ä", "a\0", "a\n", &long] {
            assert!(check_name(name).is_err(), "{name:?}");
        }
    }
}
