//! What a limit decided about a request, as headers and as a problem.
//!
//! The headers are those of draft-ietf-httpapi-ratelimit-headers-11. Invariant: `Retry-After` is never shorter than the
//! time after which the limits admit a request.

use std::borrow::Cow;
use std::io::Write;

use axum::http::header::HeaderName;
use axum::http::{HeaderMap, HeaderValue, StatusCode};

use super::gcra::Rate;
use super::limit::Limit;
use super::policy::MOST_WINDOWS;
use super::table::Windows;
use crate::http::{Member, Problem};

static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
static RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
static LEGACY_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
static LEGACY_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
static LEGACY_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Which responses tell the caller its limit and what is left of it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HeadersOn {
    /// Those of every route with a limit.
    #[default]
    All,
    /// Refusals alone.
    Refusals,
    /// None. `Retry-After` is sent nevertheless.
    Nothing,
}

impl HeadersOn {
    /// The words of the setting.
    pub(crate) const WORDS: &[(&str, Self)] = &[
        ("always", Self::All),
        ("refused", Self::Refusals),
        ("off", Self::Nothing),
    ];
}

/// How headers are written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct HeaderStyle {
    pub(super) on: HeadersOn,
    /// Whether `X-RateLimit-Limit`, `-Remaining` and `-Reset` are sent as well.
    pub(super) legacy: bool,
}

/// What tells a caller its limit, and what is left of it.
#[derive(Debug, Default)]
pub struct LimitHeaders {
    policy: Option<HeaderValue>,
    rate_limit: Option<HeaderValue>,
    legacy: Option<Legacy>,
}

/// The numbers of `X-RateLimit-Limit`, `-Remaining` and `-Reset`.
#[derive(Debug)]
struct Legacy {
    limit: HeaderValue,
    remaining: HeaderValue,
    reset: HeaderValue,
}

impl LimitHeaders {
    /// Adds them to those of a response.
    pub fn add_to(self, headers: &mut HeaderMap) {
        let (limit, remaining, reset) = match self.legacy {
            Some(Legacy {
                limit,
                remaining,
                reset,
            }) => (Some(limit), Some(remaining), Some(reset)),
            None => (None, None, None),
        };
        for (name, value) in [
            (&RATE_LIMIT_POLICY, self.policy),
            (&RATE_LIMIT, self.rate_limit),
            (&LEGACY_LIMIT, limit),
            (&LEGACY_REMAINING, remaining),
            (&LEGACY_RESET, reset),
        ] {
            if let Some(value) = value {
                headers.insert(name, value);
            }
        }
    }
}

/// Whether a request may be made, and what is left of the caller's limit.
#[derive(Debug, Clone, Copy)]
pub struct Verdict<'a> {
    pub(super) limit: &'a Limit,
    /// The number of instances among which the limit is divided at present.
    pub(super) parts: u32,
    /// How far ahead of now the bucket of each window lies.
    pub(super) ahead: [u64; MOST_WINDOWS],
    pub(super) refused_by: Windows,
    pub(super) style: HeaderStyle,
}

impl Verdict<'_> {
    /// Whether the request must be refused.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        !self.refused_by.is_empty()
    }

    /// Returns the 429, if the request must be refused. [`headers`](Self::headers) has the rest.
    #[must_use]
    pub fn refusal(&self) -> Option<Problem> {
        if !self.is_refused() {
            return None;
        }
        let mut violated = Vec::new();
        let mut wait = 1;
        let mut exceeded = None;
        for (at, window) in self.limit.policy.windows().iter().enumerate() {
            if self.refused_by.contains(at) {
                violated.push(Cow::Owned(self.limit.names[at].clone()));
                wait = wait.max(self.seconds_until_more(at));
                exceeded = exceeded.or(Some(window));
            }
        }
        let wait = with_jitter(wait);
        let detail = match exceeded {
            Some(window) => format!(
                "the limit of {}/{} is exceeded; try again in {wait} s",
                window.quota(),
                window.unit()
            ),
            None => format!("the limit is exceeded; try again in {wait} s"),
        };
        let problem = Problem::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too-many-requests",
            "Too many requests",
            detail,
        );
        Some(
            problem
                .retry_after(wait)
                .member("violated-policies", Member::Texts(violated)),
        )
    }

    /// Returns `RateLimit` and `RateLimit-Policy`, as the settings want them: none without a limit.
    #[must_use]
    pub fn headers(&self) -> LimitHeaders {
        let is_wanted = match self.style.on {
            HeadersOn::All => true,
            HeadersOn::Refusals => self.is_refused(),
            HeadersOn::Nothing => false,
        };
        let policy = is_wanted.then(|| self.limit.policy_header()).flatten();
        match policy {
            None => LimitHeaders::default(),
            policy => LimitHeaders {
                policy,
                rate_limit: self.rate_limit(),
                legacy: self.style.legacy.then(|| self.legacy()).flatten(),
            },
        }
    }

    /// `"read";r=9;t=1`: for each window what may be requested at once, and the seconds until that is more.
    fn rate_limit(&self) -> Option<HeaderValue> {
        // More than four windows with the longest names and numbers take.
        let mut bytes = [0; 384];
        let mut rest = &mut bytes[..];
        let mut digits = itoa::Buffer::new();
        for window in 0..self.limit.rates.len() {
            let separator = if window == 0 { "\"" } else { ", \"" };
            let remaining = self.remaining(window);
            let texts = [separator, &self.limit.names[window], "\";r=", digits.format(remaining)];
            write_all(&mut rest, &texts)?;
            let wait = self.seconds_until_more(window);
            if wait > 0 {
                write_all(&mut rest, &[";t=", digits.format(wait)])?;
            }
        }
        let left = rest.len();
        HeaderValue::from_bytes(&bytes[..bytes.len() - left]).ok()
    }

    /// The numbers of the window of which the least is left.
    fn legacy(&self) -> Option<Legacy> {
        let windows = self.limit.policy.windows().iter().enumerate();
        let (window, of) = windows.min_by_key(|(window, _)| self.remaining(*window))?;
        Some(Legacy {
            limit: of.quota().into(),
            remaining: self.remaining(window).into(),
            reset: self.seconds_until_more(window).into(),
        })
    }

    fn remaining(&self, window: usize) -> u64 {
        if self.waits_for_redis(window) {
            return 0;
        }
        self.rate(window).remaining(self.ahead[window])
    }

    fn rate(&self, window: usize) -> Rate {
        self.limit.rates[window].share(self.parts)
    }

    /// Whether the bucket would admit the request, but too many requests of this instance are not known to Redis. That lasts
    /// a round trip.
    fn waits_for_redis(&self, window: usize) -> bool {
        self.refused_by.contains(window) && self.rate(window).admits(self.ahead[window])
    }

    /// Rounded up.
    fn seconds_until_more(&self, window: usize) -> u32 {
        if self.waits_for_redis(window) {
            return 1;
        }
        let nanoseconds = self.rate(window).until_more(self.ahead[window]);
        u32::try_from(nanoseconds.div_ceil(1_000_000_000)).unwrap_or(u32::MAX)
    }
}

fn write_all(rest: &mut &mut [u8], texts: &[&str]) -> Option<()> {
    texts.iter().try_for_each(|text| rest.write_all(text.as_bytes())).ok()
}

/// Adds up to a tenth to a long wait, so that callers that were refused together do not return together.
fn with_jitter(seconds: u32) -> u32 {
    match seconds {
        0..10 => seconds,
        _ => seconds.saturating_add(fastrand::u32(0..=seconds / 10)),
    }
}

#[cfg(test)]
#[path = "verdict_tests.rs"]
mod tests;
