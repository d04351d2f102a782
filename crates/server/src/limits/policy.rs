//! The text of a limit: `100/min burst=20`, several windows as `100/s,5000/h`, or `off`.
//!
//! Invariant: what parses can be enforced. No two windows of a policy have one length, and all times that follow from a
//! window fit into 64 bits of nanoseconds.

use std::fmt;
use std::str::FromStr;

/// Most windows of a policy: one for each unit.
pub(super) const MOST_WINDOWS: usize = 4;

const MOST_REQUESTS: u32 = 1_000_000_000;
const MOST_BURST: u32 = 100_000;
/// Shorter intervals would be rounded by more than a thousandth.
const SHORTEST_INTERVAL: u64 = 1_000;
const FEWEST_AT_ONCE: u32 = 4;
const SECOND: u64 = 1_000_000_000;

/// How often a caller may do something: not more often than each of the windows allows. Without a window: as often as it
/// likes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Policy {
    /// From the shortest to the longest.
    windows: Vec<Window>,
}

/// The part of a policy about one length of time: in any such time at most `quota + burst` requests are admitted, and
/// `quota` on average.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Window {
    quota: u32,
    unit: Unit,
    burst: u32,
}

/// What an instance may admit before Redis knows of it: its part of the burst.
///
/// Reports come late by as much as the instances keep to themselves. All of that fits into the burst, so a caller within its
/// limit is not refused because its requests are charged together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Lease {
    /// The most requests that Redis does not know of. Most clients open a few connections: their first requests must not be
    /// refused because they arrive within one round trip to Redis. So these are at least four, or the burst.
    pub(super) most: u32,
    /// More than these are reported.
    pub(super) kept: u32,
}

/// The length of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Unit {
    /// `s`
    Second,
    /// `min`
    Minute,
    /// `h`
    Hour,
    /// `d`, 24 hours
    Day,
}

/// Why a text is no policy. `Display` continues a sentence that begins with the text, and quotes nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPolicy {
    /// A part between commas is not of the form `100/min`.
    #[error("is not a limit such as 100/min, 100/min burst=20, or off")]
    Malformed,
    /// The number before the slash.
    #[error("has a number of requests that is not a whole number between 1 and {MOST_REQUESTS}")]
    Quota,
    /// The text after the slash.
    #[error("has an unknown unit of time; it is one of s, min, h and d")]
    Unit,
    /// More than a million requests a second.
    #[error("allows more than a million requests a second; off means no limit")]
    TooOften,
    /// The number after `burst=`.
    #[error("has a burst that is not a whole number between 1 and {MOST_BURST}")]
    Burst,
    /// Something else follows a limit.
    #[error("has something after a limit that is not understood; burst=20 may follow, or a comma and another limit")]
    Option,
    /// Two windows have one length.
    #[error("has two limits for the unit {0}; one for each unit is possible")]
    Twice(Unit),
}

impl Policy {
    /// No limit.
    pub const OFF: Self = Self { windows: Vec::new() };

    /// The limit of failed logins, `20/min`, unless the settings say otherwise.
    pub(super) fn auth_failures() -> Self {
        let (quota, unit) = (20, Unit::Minute);
        let burst = default_burst(quota);
        let windows = vec![Window { quota, unit, burst }];
        Self { windows }
    }

    /// Returns the windows, from the shortest to the longest. None: no limit.
    #[must_use]
    pub fn windows(&self) -> &[Window] {
        &self.windows
    }

    /// Whether there is no limit.
    #[must_use]
    pub fn is_off(&self) -> bool {
        self.windows.is_empty()
    }
}

impl Window {
    /// The requests that are allowed on average.
    #[must_use]
    pub fn quota(self) -> u32 {
        self.quota
    }

    /// Its length.
    #[must_use]
    pub fn unit(self) -> Unit {
        self.unit
    }

    /// The requests that a caller who has been idle may make at once.
    #[must_use]
    pub fn burst(self) -> u32 {
        self.burst
    }

    /// What one of several instances may admit before Redis knows of it.
    pub(super) fn lease(self, instances: u32) -> Lease {
        let part = self.burst.div_ceil(instances.max(1));
        Lease {
            most: part.max(self.burst.min(FEWEST_AT_ONCE)),
            kept: part / 2,
        }
    }

    /// The nanoseconds between two requests of a caller that exhausts its quota. Rounded up: the limit is never exceeded.
    pub(super) fn interval(self) -> u64 {
        self.unit.nanoseconds().div_ceil(u64::from(self.quota))
    }
}

impl Unit {
    /// Its length.
    #[must_use]
    pub fn seconds(self) -> u32 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }

    fn nanoseconds(self) -> u64 {
        u64::from(self.seconds()) * SECOND
    }

    /// Its name in a policy.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Minute => "min",
            Self::Hour => "h",
            Self::Day => "d",
        }
    }

    fn parse(text: &str) -> Result<Self, InvalidPolicy> {
        match text {
            "s" => Ok(Self::Second),
            "min" => Ok(Self::Minute),
            "h" => Ok(Self::Hour),
            "d" => Ok(Self::Day),
            _ => Err(InvalidPolicy::Unit),
        }
    }
}

impl FromStr for Policy {
    type Err = InvalidPolicy;

    fn from_str(text: &str) -> Result<Self, InvalidPolicy> {
        if text.trim() == "off" {
            return Ok(Self::OFF);
        }
        let windows: Result<Vec<_>, _> = text.split(',').map(window).collect();
        let mut windows = windows?;
        windows.sort_by_key(|window| window.unit);
        match windows.windows(2).find(|pair| pair[0].unit == pair[1].unit) {
            Some(pair) => Err(InvalidPolicy::Twice(pair[0].unit)),
            None => Ok(Self { windows }),
        }
    }
}

fn window(text: &str) -> Result<Window, InvalidPolicy> {
    let mut words = text.split_ascii_whitespace();
    let rate = words.next().and_then(|rate| rate.split_once('/'));
    let (count, unit) = rate.ok_or(InvalidPolicy::Malformed)?;
    let quota = number(count, MOST_REQUESTS).ok_or(InvalidPolicy::Quota)?;
    let unit = Unit::parse(unit)?;
    if unit.nanoseconds() / u64::from(quota) < SHORTEST_INTERVAL {
        return Err(InvalidPolicy::TooOften);
    }
    let burst = match words.next() {
        None => default_burst(quota),
        Some(option) => {
            let burst = option.strip_prefix("burst=").ok_or(InvalidPolicy::Option)?;
            number(burst, MOST_BURST).ok_or(InvalidPolicy::Burst)?
        }
    };
    match words.next() {
        None => Ok(Window { quota, unit, burst }),
        Some(_) => Err(InvalidPolicy::Option),
    }
}

/// With a burst as large as the quota, twice the quota would pass in the first window.
fn default_burst(quota: u32) -> u32 {
    (quota / 10).clamp(1, MOST_BURST)
}

/// Parses digits alone, up to `most`.
fn number(text: &str, most: u32) -> Option<u32> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
    let number = is_plain.then(|| text.parse().ok()).flatten()?;
    (1..=most).contains(&number).then_some(number)
}

/// The text that parses to this policy.
impl fmt::Display for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_off() {
            return f.write_str("off");
        }
        for (at, window) in self.windows.iter().enumerate() {
            let separator = if at == 0 { "" } else { "," };
            write!(f, "{separator}{window}")?;
        }
        Ok(())
    }
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.quota, self.unit)?;
        match self.burst == default_burst(self.quota) {
            true => Ok(()),
            false => write!(f, " burst={}", self.burst),
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn policy(text: &str) -> Policy {
        text.parse().unwrap()
    }

    #[test]
    fn a_policy_is_off_or_one_window_for_each_unit() {
        assert!(policy("off").is_off() && policy(" off ").is_off());
        let window = |quota, unit, burst| Window { quota, unit, burst };
        for (text, windows) in [
            ("100/min", vec![window(100, Unit::Minute, 10)]),
            ("5/s", vec![window(5, Unit::Second, 1)]),
            ("100/min burst=20", vec![window(100, Unit::Minute, 20)]),
            (
                " 5000/h , 100/s  burst=1 ",
                vec![window(100, Unit::Second, 1), window(5000, Unit::Hour, 500)],
            ),
            ("1000000/s", vec![window(1_000_000, Unit::Second, 100_000)]),
            ("1/d burst=100000", vec![window(1, Unit::Day, 100_000)]),
        ] {
            assert_eq!(policy(text).windows(), windows, "{text}");
        }
    }

    #[test]
    fn an_invalid_policy_is_refused_with_what_is_wrong() {
        use InvalidPolicy::{Burst, Malformed, Option, Quota, TooOften, Twice};
        for (text, error) in [
            ("", Malformed),
            ("100", Malformed),
            ("100/s,", Malformed),
            ("off,1/s", Malformed),
            ("0/s", Quota),
            ("/s", Quota),
            ("-1/s", Quota),
            ("1.5/s", Quota),
            ("1000000001/d", Quota),
            ("99999999999999999999/s", Quota),
            ("100/m", InvalidPolicy::Unit),
            ("100/", InvalidPolicy::Unit),
            ("1000001/s", TooOften),
            ("100/s burst=0", Burst),
            ("100/s burst=x", Burst),
            ("100/s burst=100001", Burst),
            ("100/s 20", Option),
            ("100/s burst=2 x", Option),
            ("100/s 5000/h", Option),
            ("1/s,2/s", Twice(super::Unit::Second)),
        ] {
            assert_eq!(text.parse::<Policy>(), Err(error), "{text}");
        }
    }

    #[test]
    fn a_lease_is_an_instances_part_of_the_burst_but_allows_a_few_requests_at_once() {
        for (text, instances, most, kept) in [
            ("2400/min", 3, 80, 40),
            ("2400/min burst=601", 3, 201, 100),
            ("100/min", 3, 4, 2),
            ("100/min burst=2", 3, 2, 0),
            ("10/min", 3, 1, 0),
            ("10/min burst=30", 100, 4, 0),
            ("10/min burst=5", 1, 5, 2),
        ] {
            let lease = policy(text).windows()[0].lease(instances);
            assert_eq!(lease, Lease { most, kept }, "{text}");
        }
    }

    proptest! {
        #[test]
        fn every_text_is_parsed_without_a_panic_and_a_policy_is_read_back_from_its_text(
            text in "([0-9]{0,7}/?(s|min|h|d)?( burst=[0-9]{0,4})?[ ,]?){0,3}",
        ) {
            if let Ok(policy) = text.parse::<Policy>() {
                prop_assert_eq!(policy.to_string().parse(), Ok(policy));
            }
        }

        /// The rounding makes a quota smaller by a thousandth at most.
        #[test]
        fn the_interval_gives_the_quota(quota in 1..1_000_000_u32) {
            for unit in [Unit::Second, Unit::Minute, Unit::Hour, Unit::Day] {
                let interval = Window { quota, unit, burst: 1 }.interval();
                let admitted = unit.nanoseconds() / interval;
                let least = u64::from(quota) - u64::from(quota).div_ceil(1000);
                prop_assert!((least..=u64::from(quota)).contains(&admitted));
            }
        }
    }
}
