//! Verdicts about the parts beside the database. Invariant: each is told in the words of the part itself, as `/health` does.

use super::{Rule, rule};
use crate::dashboard::verdicts::Level::{Critical, Warning};

pub(super) static RULES: &[Rule] = &[
    rule("memory-critical", Critical, "docs/memory.md#what-is-done", |signs| {
        let shortage = signs.shortage.as_ref().filter(|shortage| shortage.is_critical)?;
        Some(format!(
            "Memory is short: {}. Long bodies may be refused.",
            shortage.text
        ))
    }),
    rule("memory-short", Warning, "docs/memory.md#what-is-done", |signs| {
        let shortage = signs.shortage.as_ref().filter(|shortage| !shortage.is_critical)?;
        Some(format!("Memory gets short: {}.", shortage.text))
    }),
    rule(
        "cache-not-used",
        Warning,
        "docs/coherence.md#what-happens-when",
        |signs| {
            let problem = signs.cache_problem.as_ref()?;
            Some(format!("The cache is not used: {problem}."))
        },
    ),
    rule("redis-down", Warning, "docs/troubleshooting.md#redis", |signs| {
        let problem = signs.redis_problem.as_ref()?;
        Some(format!("There is no connection to Redis: {problem}."))
    }),
    rule(
        "change-feed-down",
        Warning,
        "docs/coherence.md#writes-that-bypass-cenote",
        |signs| {
            let text = "The change feed is interrupted: changes made outside the service are not seen.";
            signs.is_feed_down.then(|| text.to_owned())
        },
    ),
    rule(
        "limits-not-shared",
        Warning,
        "docs/limits.md#several-instances",
        |signs| {
            let problem = signs.limits_problem.as_ref()?;
            Some(format!("Limits are not shared: {problem}."))
        },
    ),
];
