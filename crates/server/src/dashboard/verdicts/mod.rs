//! What is wrong with the service, in words. Invariant: pure; the same signs get the same verdicts, the gravest first.
//!
//! | To find | Look in |
//! |---|---|
//! | what verdicts are made of | `signs` |
//! | the verdicts: when each holds, what it says, where to read on | `rules` |
//! | durations and numbers in words | `words` |

mod rules;
mod signs;
#[cfg(test)]
mod tests;
mod words;

use serde::Serialize;

pub(super) use self::signs::{Certificate, FiveMinutes, LastMinute, Pool, Shortage, Signs, Use};

/// How grave a verdict is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    /// Callers are refused or will be soon.
    Critical,
    /// Somebody should look at it.
    Warning,
    /// Worth knowing.
    Info,
    /// Nothing is wrong.
    Ok,
}

/// A verdict.
#[derive(Debug, PartialEq, Serialize)]
pub(super) struct Verdict {
    pub(super) level: Level,
    /// That of the alert for the same, in `deploy/alerts.yml`, where there is one: `callers-wait` for `CenoteCallersWait`.
    pub(super) name: &'static str,
    /// One or two sentences.
    pub(super) text: String,
    /// Where to read on, from the root of the repository.
    pub(super) doc: &'static str,
}

/// Returns what is wrong, the gravest first; or one verdict that says that nothing is.
pub(super) fn judge(signs: &Signs) -> Vec<Verdict> {
    let verdict = |rule: &rules::Rule| {
        Some(Verdict {
            level: rule.level,
            name: rule.name,
            text: (rule.says)(signs)?,
            doc: rule.doc,
        })
    };
    let mut verdicts: Vec<_> = rules::all().filter_map(verdict).collect();
    verdicts.sort_by_key(|verdict| verdict.level);
    if verdicts.is_empty() {
        verdicts.push(Verdict {
            level: Level::Ok,
            name: "healthy",
            text: "Healthy: requests are answered, nobody waits for a connection, and every part works.".to_owned(),
            doc: "docs/dashboard.md#what-the-verdicts-mean",
        });
    }
    verdicts
}
