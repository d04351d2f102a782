//! Verdicts about the requests of callers. Invariant: a share is told only of enough requests to have a meaning.

use super::{Rule, rule};
use crate::dashboard::verdicts::{
    Level::{Critical, Info},
    words::share,
};

/// An error budget of 0.1 % is used up 14.4 times too fast, in thousandths of a percent.
const ERRORS: u64 = 1_440;
/// The share of requests that limits may refuse before it is worth knowing, in percent.
const REFUSED: u64 = 5;
/// Fewer in a minute say nothing about a share.
const FEWEST: u64 = 5;
const MOST_GUESSES: u64 = 100;

pub(super) static RULES: &[Rule] = &[
    rule(
        "errors",
        Critical,
        "docs/errors.md#the-service-cannot-serve-it-now-retry",
        |signs| {
            let minute = &signs.last_minute;
            let is_high = minute.errors * 100_000 > ERRORS * minute.requests && minute.errors >= FEWEST;
            is_high.then(|| {
                format!(
                    "{} of the requests of the last minute failed ({} with status 5xx). The last errors are below.",
                    share(minute.errors, minute.requests),
                    minute.errors
                )
            })
        },
    ),
    rule("limits-refuse", Info, "docs/limits.md#which-limit-applies", |signs| {
        let (refused, requests) = (signs.five_minutes.refused_by_limits, signs.five_minutes.requests);
        let is_high = refused * 100 > REFUSED * requests && refused >= FEWEST;
        is_high.then(|| {
            format!(
                "Limits refused {} of the requests of the last five minutes ({refused} with status 429): a caller asks too \
                 often, or a limit is too low.",
                share(refused, requests)
            )
        })
    }),
    rule(
        "guessed-credentials",
        Info,
        "docs/auth.md#what-is-refused-and-why",
        |signs| {
            let guesses = signs.five_minutes.guesses;
            (guesses > MOST_GUESSES).then(|| {
            format!("Somebody tries many credentials: {guesses} failed logins of the last five minutes were refused by their limit.")
        })
        },
    ),
    rule("no-requests", Info, "README.md", |signs| {
        let text = "No requests yet. Write a key, then read it.";
        (signs.is_unused && !signs.is_starting).then(|| text.to_owned())
    }),
];
