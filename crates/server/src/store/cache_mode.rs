//! What a cached read guarantees, in a word.
//!
//! Invariant: the words are those of the setting `CACHE_MODE`, of the statistics and of `/health`.

/// What a cached read guarantees; [`Mode`](cenote_cache::Mode) without the Redis and the bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CacheMode {
    /// A cache in this process, coherent with its own writes.
    #[default]
    Local,
    /// No read is older than the newest acknowledged write of any instance.
    Strong,
    /// As `Strong`, except that reads may be stale by a bound.
    Bounded,
    /// Plain cache-aside: a read may be stale until the lifetime ends.
    Ttl,
    /// No cache.
    Off,
}

impl CacheMode {
    pub(crate) const WORDS: &[(&'static str, Self)] = &[
        ("local", Self::Local),
        ("strong", Self::Strong),
        ("bounded", Self::Bounded),
        ("ttl", Self::Ttl),
        ("off", Self::Off),
    ];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        let found = Self::WORDS.iter().find(|(_, mode)| *mode == self);
        found.map_or("", |(word, _)| word)
    }

    /// Whether it needs Redis.
    #[must_use]
    pub const fn needs_redis(self) -> bool {
        matches!(self, Self::Strong | Self::Bounded | Self::Ttl)
    }
}
