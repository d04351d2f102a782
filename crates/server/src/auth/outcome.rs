//! How an authentication ended, and how often each way. Invariant: the outcome is for the log and the counters; callers
//! see only the refusal's status.

use cenote_metrics::StripedCounters;

/// What the caller showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Method {
    /// Nothing, or more than one thing.
    Nothing,
    ApiKey,
    Token,
    /// The certificate of a client.
    Certificate,
}

impl Method {
    pub(crate) const ALL: [Self; 4] = [Self::Nothing, Self::ApiKey, Self::Token, Self::Certificate];

    /// The name in the log and in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Nothing => "none",
            Self::ApiKey => "api_key",
            Self::Token => "jwt",
            Self::Certificate => "certificate",
        }
    }
}

/// How an authentication ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Accepted,
    /// Neither a key nor a token.
    Missing,
    /// More than one key or token.
    Ambiguous,
    /// Not in the form of a key or token, or a token without a claim that it must have.
    Malformed,
    /// The key's checksum is wrong.
    Checksum,
    /// The key is not in the database.
    Unknown,
    Revoked,
    Expired,
    /// The token is not valid yet.
    NotYet,
    /// The token is from somebody else.
    Issuer,
    /// The token is for somebody else.
    Audience,
    /// No key has the algorithm that the token names.
    Algorithm,
    Signature,
    /// No key has the id that the token names.
    Kid,
    /// Valid, but without the scope that the route needs.
    Scope,
    /// Too many unknown keys are being looked up.
    Throttled,
    /// The database or the issuer of tokens could not be asked.
    Unavailable,
}

impl Outcome {
    pub(crate) const ALL: [Self; 17] = [
        Self::Accepted,
        Self::Missing,
        Self::Ambiguous,
        Self::Malformed,
        Self::Checksum,
        Self::Unknown,
        Self::Revoked,
        Self::Expired,
        Self::NotYet,
        Self::Issuer,
        Self::Audience,
        Self::Algorithm,
        Self::Signature,
        Self::Kid,
        Self::Scope,
        Self::Throttled,
        Self::Unavailable,
    ];

    /// The name in the log and in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Missing => "missing",
            Self::Ambiguous => "ambiguous",
            Self::Malformed => "malformed",
            Self::Checksum => "checksum",
            Self::Unknown => "unknown",
            Self::Revoked => "revoked",
            Self::Expired => "expired",
            Self::NotYet => "not_yet",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Algorithm => "algorithm",
            Self::Signature => "signature",
            Self::Kid => "kid",
            Self::Scope => "scope",
            Self::Throttled => "throttled",
            Self::Unavailable => "unavailable",
        }
    }
}

/// How often each outcome occurred.
#[derive(Debug, Default)]
pub(crate) struct Outcomes(StripedCounters<{ Method::ALL.len() * Outcome::ALL.len() }>);

const fn place(method: Method, outcome: Outcome) -> usize {
    method as usize * Outcome::ALL.len() + outcome as usize
}

impl Outcomes {
    pub(crate) fn count(&self, method: Method, outcome: Outcome) {
        self.0.add(place(method, outcome), 1);
    }

    /// The number of authentications since the start that ended this way.
    pub(crate) fn of(&self, method: Method, outcome: Outcome) -> u64 {
        self.0.total(place(method, outcome))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_outcome_has_its_own_counter_and_name() {
        let outcomes = Outcomes::default();
        outcomes.count(Method::ApiKey, Outcome::Unavailable);
        for (at, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, at, "{}", outcome.name());
            for method in Method::ALL {
                let expected = (method, outcome) == (Method::ApiKey, Outcome::Unavailable);
                assert_eq!(outcomes.of(method, outcome), u64::from(expected));
            }
        }
        let names: std::collections::HashSet<_> = Outcome::ALL.map(Outcome::name).into();
        assert_eq!(names.len(), Outcome::ALL.len());
    }
}
