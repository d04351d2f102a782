//! What a pool is told at the start. Invariant: a [`Config`] that passed [`Config::validate`] needs
//! no second look anywhere else.

use std::time::Duration;

/// The usual number of warm connections.
const WARM: u32 = 2;

/// The usual bound on the pause between failing connects.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Sizes, deadlines and lifetimes of a pool.
///
/// The defaults are those of the service's contract: 2 warm connections, 10 at most, 30 s to wait
/// for one, half an hour of life.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Connections kept open even when nobody needs them. `None`: 2, or `max_size` where that is less.
    pub min_size: Option<u32>,
    /// Connections kept once opened, as long as they are used.
    pub max_size: u32,
    /// Connections opened beyond `max_size` under load, closed on return unless someone waits.
    pub max_overflow: u32,
    /// If callers have waited for longer than this all the time, some are sent away from the head
    /// of the line, ever more of them until the wait is short again; bursts that are worked off
    /// within 20 times this do no harm. It is CoDel (Nichols and Jacobson, "Controlling Queue
    /// Delay", ACM Queue, 2012). Good values lie between the usual time a connection is held and a
    /// tenth of `acquire_timeout`. `None`: nobody is sent away before its time.
    pub shed_target: Option<Duration>,
    /// Longest time a caller waits for a connection. Zero: it takes what is idle or fails.
    pub acquire_timeout: Duration,
    /// Most callers waiting at once; one more is refused immediately. So is, once a line has not been
    /// empty for a second, a caller who at the rate measured there would not be served in time.
    pub max_waiters: u32,
    /// A connection older than this is replaced, each at a random point in the last tenth of the
    /// time so that connections opened together do not end together. `None`: no limit.
    pub max_lifetime: Option<Duration>,
    /// An idle connection beyond `min_size` is closed after this time. `None`: never.
    pub idle_timeout: Option<Duration>,
    /// A connection idle for longer is asked [`Manager::check`](crate::Manager::check) before it is
    /// handed out. `None`: never.
    pub check_after: Option<Duration>,
    /// How long a [`Manager::check`](crate::Manager::check) is trusted for connections of which
    /// [`Manager::inspect`](crate::Manager::inspect) knows nothing. One that dies within this time
    /// is handed out dead; zero has each checked before it is handed out.
    pub trust_check_for: Duration,
    /// Longest time one [`Manager::check`](crate::Manager::check) may take.
    pub check_timeout: Duration,
    /// Longest time one [`Manager::connect`](crate::Manager::connect) may take, name resolution,
    /// handshakes and authentication included.
    pub connect_timeout: Duration,
    /// Longest time one [`Manager::clean`](crate::Manager::clean) may take.
    pub clean_timeout: Duration,
    /// Longest time [`Manager::close`](crate::Manager::close) may take; until then the connection
    /// totals against the maximum.
    pub close_timeout: Duration,
    /// Connects under way at once. While connecting fails it is one. While connections are in use,
    /// those for callers in line begin with one, and each that succeeds while the line stands allows
    /// one more: a burst of short uses is over before a new connection would be ready.
    pub connect_concurrency: u32,
    /// A connection held by one caller for longer is taken for leaked: a warning is logged, once for
    /// each holder, and it is counted in [`Stats::leaked`](crate::Stats::leaked). It is not taken
    /// away. `None`: no connection is.
    pub leak_after: Option<Duration>,
    /// Pause after the first failed connect; it doubles with each further failure.
    pub backoff_base: Duration,
    /// Longest pause between failing connects. It bounds how late a recovered server is noticed. `None`: 500 ms, or
    /// `backoff_base` where that is more.
    pub backoff_max: Option<Duration>,
    /// Pause after a connect that failed [for good](crate::Manager::is_permanent). It bounds how late
    /// a corrected password is noticed, and how many logins a wrong one costs.
    pub backoff_permanent: Duration,
    /// When connects have failed for this long and no connection is open, newcomers are refused at
    /// once with [`Reason::Unavailable`](crate::Reason::Unavailable); those in line stay. The pool
    /// goes on connecting by itself, and the first success ends it. `None`: newcomers always wait.
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
            backoff_base: Duration::from_millis(50),
            backoff_max: None,
            backoff_permanent: Duration::from_secs(5),
            breaker_after: Some(Duration::from_secs(5)),
        }
    }
}

/// How many connections a pool may have: that part of its [`Config`] which
/// [`Pool::resize`](crate::Pool::resize) changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// As [`Config::min_size`].
    pub min_size: Option<u32>,
    /// As [`Config::max_size`].
    pub max_size: u32,
    /// As [`Config::max_overflow`].
    pub max_overflow: u32,
}

/// A [`Config`] that cannot work, and why.
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

    /// The same with other limits, if they make sense.
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

    /// The number of connections kept open, chosen by the user or by default.
    pub(crate) fn warm(&self) -> u32 {
        self.min_size.unwrap_or(WARM.min(self.max_size))
    }

    /// The longest pause between failing connects, chosen by the user or by default.
    pub(crate) fn longest_pause(&self) -> Duration {
        self.backoff_max.unwrap_or(LONGEST_PAUSE.max(self.backoff_base))
    }

    /// Most connections that may exist at once.
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
