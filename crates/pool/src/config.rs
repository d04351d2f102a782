//! The configuration of a pool. Invariant: a [`Config`] that passed [`Config::validate`] is checked nowhere else.

use std::time::Duration;

/// The default number of warm connections.
const WARM: u32 = 2;

/// The default maximum of the pause between failing connects. It bounds how late a recovered server is noticed.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Sizes, timeouts and lifetimes of a pool.
///
/// With the feature `serde` it is a table with these names; what is absent has its default. Times are as in
/// `cenote_pool::serde_duration`.
#[derive(Clone, Debug, PartialEq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
pub struct Config {
    /// The number of connections that are kept open although nobody needs them. `None`: 2, or `max_size` if that is
    /// less.
    pub min_size: Option<u32>,
    /// The number of connections that are kept once opened, until they are idle for too long. Default: 10.
    pub max_size: u32,
    /// The number of connections that may be opened beyond `max_size` under load. They are closed on release unless a
    /// caller waits. Default: 0.
    pub max_overflow: u32,
    /// Sheds waiters if the wait exceeds this time for long: from the head of the queue, and ever faster until the wait
    /// is short again. Bursts that are worked off within 20 times this time are left alone. This is CoDel (Nichols and
    /// Jacobson, "Controlling Queue Delay", ACM Queue, 2012). Good values are between the usual time that a connection
    /// is held and a tenth of `acquire_timeout`. `None`, the default: nobody is shed.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration::optional"))]
    pub shed_target: Option<Duration>,
    /// The longest wait of a caller. Zero: take an idle connection or fail. Default: 30 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
    pub acquire_timeout: Duration,
    /// The maximum number of waiters. One more caller is refused at once. So is a caller whose wait would time out,
    /// once the queue has stood for a second and its rate is known. Default: 10,000.
    pub max_waiters: u32,
    /// The lifetime of a connection, less a random part of up to a tenth, so that connections opened together do not
    /// end together. `None`: unlimited. Default: 30 minutes.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration::optional"))]
    pub max_lifetime: Option<Duration>,
    /// The time after which an idle connection beyond `min_size` is closed. `None`: never. Default: 5 minutes.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration::optional"))]
    pub idle_timeout: Option<Duration>,
    /// A connection that was idle for this time is [checked](crate::Manager::check) before it is handed out. `None`:
    /// never. Default: 30 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration::optional"))]
    pub check_after: Option<Duration>,
    /// How long a [check](crate::Manager::check) stays valid for connections whose
    /// [condition](crate::Manager::inspect) is unknown. A connection that dies within this time may be handed out dead.
    /// Zero, the default: each is checked before it is handed out.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
    pub trust_check_for: Duration,
    /// The longest time of one [`Manager::check`](crate::Manager::check). Default: 1 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
    pub check_timeout: Duration,
    /// The longest time of one [`Manager::connect`](crate::Manager::connect), including name resolution, handshakes and
    /// authentication. Default: 5 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
    pub connect_timeout: Duration,
    /// The longest time of one [`Manager::clean`](crate::Manager::clean). Default: 1 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
    pub clean_timeout: Duration,
    /// The longest time of one [`Manager::close`](crate::Manager::close). Until then the connection counts against the
    /// maximum. Default: 5 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
    pub close_timeout: Duration,
    /// The maximum number of connects under way at once; one while connects fail. While connections are in use,
    /// connects for waiters begin with one, and each success while the queue stands allows one more: a burst of short
    /// uses is over before a new connection would be ready. Default: 4.
    pub connect_concurrency: u32,
    /// A connection that one caller holds for this time counts as leaked: a warning is logged, once for each holder,
    /// and [`Stats::leaked`](crate::Stats::leaked) counts it. It is not taken away. `None`: never. Default: 60 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration::optional"))]
    pub leak_after: Option<Duration>,
    /// Measures how long each connection is held: [`Stats::use_times`](crate::Stats::use_times). It takes two readings of
    /// the clock, some 60 ns, for each use that nobody waits for. Default: false.
    pub time_uses: bool,
    /// The pause after the first failed connect. It doubles with each further failure. Up to half of each pause is
    /// random. Default: 50 ms.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
    pub backoff_base: Duration,
    /// The longest pause between failing connects. `None`: 500 ms, or `backoff_base` if that is more.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration::optional"))]
    pub backoff_max: Option<Duration>,
    /// The pause while connects fail [permanently](crate::Manager::is_permanent). It bounds how late a corrected
    /// password is noticed, and how many logins a wrong one costs. In a pool that has worked it is also the time for
    /// which such failures are retried with the usual backoff before they count as permanent. Default: 5 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration"))]
    pub backoff_permanent: Duration,
    /// When connects have failed for this time and no connection is open, new callers are refused at once with
    /// [`Reason::Unavailable`](crate::Reason::Unavailable); waiters stay. The pool goes on connecting, and the first
    /// success ends it. `None`: new callers always wait. Default: 5 s.
    #[cfg_attr(feature = "serde", serde(with = "crate::serde_duration::optional"))]
    pub breaker_after: Option<Duration>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            min_size: None,
            max_size: 10,
            max_overflow: 0,
            acquire_timeout: Duration::from_secs(30),
            max_waiters: 10_000,
            shed_target: None,
            max_lifetime: Some(Duration::from_secs(1800)),
            idle_timeout: Some(Duration::from_secs(300)),
            check_after: Some(Duration::from_secs(30)),
            trust_check_for: Duration::ZERO,
            check_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(5),
            clean_timeout: Duration::from_secs(1),
            close_timeout: Duration::from_secs(5),
            connect_concurrency: 4,
            leak_after: Some(Duration::from_secs(60)),
            time_uses: false,
            backoff_base: Duration::from_millis(50),
            backoff_max: None,
            backoff_permanent: Duration::from_secs(5),
            breaker_after: Some(Duration::from_secs(5)),
        }
    }
}

/// The part of a [`Config`] that [`Pool::resize`](crate::Pool::resize) changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// As [`Config::min_size`].
    pub min_size: Option<u32>,
    /// As [`Config::max_size`].
    pub max_size: u32,
    /// As [`Config::max_overflow`].
    pub max_overflow: u32,
}

/// Why a [`Config`] cannot work.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invalid pool configuration: {0}")]
pub struct InvalidConfig(pub(crate) &'static str);

impl Config {
    pub(crate) fn limits(&self) -> Limits {
        Limits {
            min_size: self.min_size,
            max_size: self.max_size,
            max_overflow: self.max_overflow,
        }
    }

    /// Returns this configuration with other limits, if they are valid.
    pub(crate) fn resized(&self, limits: Limits) -> Result<Self, InvalidConfig> {
        let resized = Self {
            min_size: limits.min_size,
            max_size: limits.max_size,
            max_overflow: limits.max_overflow,
            ..self.clone()
        };
        resized.validate()?;
        Ok(resized)
    }

    /// The effective `min_size`.
    pub(crate) fn warm(&self) -> u32 {
        self.min_size.unwrap_or(WARM.min(self.max_size))
    }

    /// The effective `backoff_max`.
    pub(crate) fn longest_pause(&self) -> Duration {
        self.backoff_max.unwrap_or(LONGEST_PAUSE.max(self.backoff_base))
    }

    /// The maximum number of connections.
    pub(crate) fn capacity(&self) -> u32 {
        self.max_size + self.max_overflow
    }

    pub(crate) fn validate(&self) -> Result<(), InvalidConfig> {
        let positive = |d: Duration| !d.is_zero();
        let rules = [
            (self.max_size >= 1, "max_size must be at least 1"),
            (
                self.min_size.is_none_or(|min| min <= self.max_size),
                "min_size must not be above max_size",
            ),
            (
                self.max_size.checked_add(self.max_overflow).is_some(),
                "max_size + max_overflow is too large",
            ),
            (self.connect_concurrency >= 1, "connect_concurrency must be at least 1"),
            (positive(self.connect_timeout), "connect_timeout must not be zero"),
            (positive(self.check_timeout), "check_timeout must not be zero"),
            (
                self.max_lifetime.is_none_or(positive),
                "max_lifetime must not be zero; None means unlimited",
            ),
            (
                self.idle_timeout.is_none_or(positive),
                "idle_timeout must not be zero; None means unlimited",
            ),
            (
                self.leak_after.is_none_or(positive),
                "leak_after must not be zero; None means never",
            ),
            (
                self.breaker_after.is_none_or(positive),
                "breaker_after must not be zero; None means never",
            ),
            (
                self.shed_target.is_none_or(positive),
                "shed_target must not be zero; None means never",
            ),
            (positive(self.backoff_base), "backoff_base must not be zero"),
            (self.backoff_max.is_none_or(positive), "backoff_max must not be zero"),
            (positive(self.backoff_permanent), "backoff_permanent must not be zero"),
        ];
        match rules.into_iter().find(|(holds, _)| !holds) {
            Some((_, broken)) => Err(InvalidConfig(broken)),
            None => Ok(()),
        }
    }
}
