//! How old the keys of tokens are, and what an operator should know of that.
//!
//! Invariant: the problem names no source, because strangers may see it.

use std::time::Duration;

/// Keys that are older than this are reported as a problem.
const DEGRADED_AFTER: Duration = Duration::from_secs(3600);

/// How old the keys are, and why.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct KeyAge {
    /// The number of keys.
    pub(crate) keys: usize,
    /// The time since the keys were last read. `None` if they never were.
    pub(crate) age: Option<Duration>,
    /// Why they could not be read lately.
    pub(crate) problem: Option<String>,
}

impl KeyAge {
    /// What an operator should know: there are no keys, or they could not be read for an hour.
    pub(crate) fn problem(&self) -> Option<String> {
        let what = match self.age {
            None => "there are no keys of tokens yet, so no token is accepted".to_owned(),
            Some(age) if age > DEGRADED_AFTER => {
                format!("the keys of tokens were last read {} minutes ago", age.as_secs() / 60)
            }
            Some(_) => return None,
        };
        // Without the cause, which names the source: strangers may see the health.
        Some(match &self.problem {
            Some(_) => format!("{what}; the log has the cause"),
            None => what,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_that_are_missing_or_an_hour_old_are_a_problem_and_a_recent_failure_is_none() {
        let problem = |age| {
            let problem = Some("cannot connect".to_owned());
            KeyAge { keys: 1, age, problem }.problem()
        };
        assert_eq!(problem(Some(DEGRADED_AFTER)), None);
        let old = problem(Some(DEGRADED_AFTER + Duration::from_secs(60)));
        assert_eq!(
            old.as_deref(),
            Some("the keys of tokens were last read 61 minutes ago; the log has the cause")
        );
        assert!(problem(None).unwrap().contains("no token is accepted"));
    }
}
