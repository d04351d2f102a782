//! The verdicts, by the same rules as the alerts of `deploy/alerts.yml`. An alert waits until a sign has lasted; a verdict
//! holds while the sign is there, because somebody looks at it now.
//!
//! Invariant: a rule and the alert of the same name have the same level and the same threshold; a test compares names and levels.
//!
//! | Verdicts about | Look in |
//! |---|---|
//! | whether the database can be reached | `database` |
//! | who waits for a connection, and who holds one | `pool` |
//! | statements that take long | `statements` |
//! | errors and refusals of requests | `requests` |
//! | memory, cache, Redis, sharing of limits | `parts` |
//! | certificates and keys | `credentials` |

mod credentials;
mod database;
mod parts;
mod pool;
mod requests;
mod statements;

use std::time::Duration;

use super::{Level, Pool, Signs};

/// When a verdict holds, and what it says.
pub(super) struct Rule {
    pub(super) name: &'static str,
    pub(super) level: Level,
    pub(super) doc: &'static str,
    /// Returns the text; `None` if the verdict does not hold.
    pub(super) says: fn(&Signs) -> Option<String>,
}

/// A wait that lasts this long is one in a queue that does not drain, or for a lock that somebody keeps. Shorter waits come
/// and go under normal load.
const LASTING: Duration = Duration::from_millis(250);

const fn rule(name: &'static str, level: Level, doc: &'static str, says: fn(&Signs) -> Option<String>) -> Rule {
    Rule { name, level, doc, says }
}

/// Returns all rules. Verdicts of the same level are shown in this order.
pub(super) fn all() -> impl Iterator<Item = &'static Rule> {
    let themes = [
        database::RULES,
        pool::RULES,
        statements::RULES,
        requests::RULES,
        parts::RULES,
        credentials::RULES,
    ];
    themes.into_iter().flatten()
}
