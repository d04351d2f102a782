//! Why the cache is not used, in words. Invariant: no address is in them.

use cenote_cache::{DegradedReason, State as CacheState, Stats as CacheStats};

/// Returns why the cache is not used, with Redis' own message.
pub(crate) fn problem_of_cache(stats: &CacheStats) -> Option<String> {
    let CacheState::Degraded(reason) = stats.state else {
        return None;
    };
    let effect = match reason {
        DegradedReason::UnknownEpoch => {
            let unknown = "the database has not said which Redis is in use; reads go to the database, writes wait";
            return Some(unknown.to_owned());
        }
        DegradedReason::Untrusted => "no Redis is in use; reads and writes go to the database",
        DegradedReason::OtherKeyspace => {
            let other = "another instance uses a Redis keyspace that this one does not see: check that REDIS_URL names \
                         the same server and database number in all of them; reads and writes go to the database";
            return Some(other.to_owned());
        }
        DegradedReason::Unreachable => {
            "Redis does not answer; reads go to the database, writes wait until that is agreed on"
        }
    };
    Some(match &stats.redis_problem {
        Some(problem) => format!("{effect}. {}", problem.without_address()),
        None => effect.to_owned(),
    })
}
