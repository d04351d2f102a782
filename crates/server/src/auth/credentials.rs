//! Finds the key or token in a request's headers. Invariant: there is exactly one, or the request is refused. It is never
//! taken from the URL, which ends in logs.

use std::fmt;

use axum::http::{HeaderMap, HeaderName, HeaderValue, header::AUTHORIZATION};

use super::{
    api_key::{InvalidKey, KeyText, PREFIX},
    outcome::{Method, Outcome},
    refusal::Refusal,
};

/// The other header for API keys.
const X_API_KEY: HeaderName = HeaderName::from_static("x-api-key");
const SCHEME: &str = "bearer";

/// What a request may show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) keys: bool,
    pub(crate) tokens: bool,
}

/// What a request shows. Its `Debug` shows neither a key nor a token.
#[derive(PartialEq, Eq)]
pub(super) enum Credential<'a> {
    /// Whether its checksum is right is not known yet: a key that is known need not be checked.
    Key(KeyText<'a>),
    /// Not checked in any way.
    Token(&'a str),
}

impl fmt::Debug for Credential<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key(key) => f.debug_tuple("Key").field(key).finish(),
            Self::Token(text) => write!(f, "Token({} bytes)", text.len()),
        }
    }
}

/// Finds the one credential.
pub(super) fn find(headers: &HeaderMap, accepted: Accepted) -> Result<Credential<'_>, Refusal> {
    let authorization = only(headers, &AUTHORIZATION)?;
    let api_key = only(headers, &X_API_KEY)?;
    match (authorization, api_key) {
        (None, None) => Err(Refusal::new(Method::Nothing, Outcome::Missing)),
        (Some(_), Some(_)) => Err(Refusal::new(Method::Nothing, Outcome::Ambiguous)),
        (None, Some(key)) if accepted.keys => parse_key(key.as_bytes()),
        (None, Some(_)) => Err(Refusal::new(Method::ApiKey, Outcome::Malformed)),
        (Some(value), None) => bearer(value, accepted),
    }
}

fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a HeaderValue>, Refusal> {
    let mut values = headers.get_all(name).iter();
    let first = values.next();
    match values.next() {
        None => Ok(first),
        Some(_) => Err(Refusal::new(Method::Nothing, Outcome::Ambiguous)),
    }
}

fn bearer(value: &HeaderValue, accepted: Accepted) -> Result<Credential<'_>, Refusal> {
    let method = match accepted.tokens {
        true => Method::Token,
        false => Method::ApiKey,
    };
    let malformed = Refusal::new(method, Outcome::Malformed);
    let text = value.to_str().map_err(|_| malformed)?;
    let (scheme, credential) = text.split_at_checked(SCHEME.len()).ok_or(malformed)?;
    if !scheme.eq_ignore_ascii_case(SCHEME) || !credential.starts_with(' ') {
        return Err(malformed);
    }
    let credential = credential.trim_matches(' ');
    match credential.starts_with(PREFIX) {
        true if accepted.keys => parse_key(credential.as_bytes()),
        false if accepted.tokens => Ok(Credential::Token(credential)),
        _ => Err(malformed),
    }
}

fn parse_key(text: &[u8]) -> Result<Credential<'_>, Refusal> {
    Ok(Credential::Key(KeyText::new(text)?))
}

impl From<InvalidKey> for Refusal {
    fn from(invalid: InvalidKey) -> Self {
        let outcome = match invalid {
            InvalidKey::Malformed => Outcome::Malformed,
            InvalidKey::Checksum => Outcome::Checksum,
        };
        Self::new(Method::ApiKey, outcome)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &str = "cnk_0000000000000000000000000000002C8GjS";
    const BOTH: Accepted = Accepted {
        keys: true,
        tokens: true,
    };
    const KEYS: Accepted = Accepted {
        keys: true,
        tokens: false,
    };
    const TOKENS: Accepted = Accepted {
        keys: false,
        tokens: true,
    };

    fn headers(of: &[(&HeaderName, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in of {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    fn outcome(of: &[(&HeaderName, &str)], accepted: Accepted) -> Outcome {
        find(&headers(of), accepted).unwrap_err().outcome()
    }

    #[test]
    fn a_key_comes_in_either_header() {
        let key = KeyText::new(KEY.as_bytes()).unwrap();
        for (name, value) in [
            (&AUTHORIZATION, format!("Bearer {KEY}")),
            (&AUTHORIZATION, format!("bEARER  {KEY} ")),
            (&X_API_KEY, KEY.to_owned()),
        ] {
            let headers = headers(&[(name, &value)]);
            assert_eq!(find(&headers, BOTH), Ok(Credential::Key(key)), "{value}");
            assert_eq!(find(&headers, KEYS), Ok(Credential::Key(key)), "{value}");
            assert_eq!(
                find(&headers, TOKENS).unwrap_err().outcome(),
                Outcome::Malformed,
                "{value}"
            );
        }
    }

    #[test]
    fn a_token_comes_in_authorization_alone() {
        assert_eq!(
            find(&headers(&[(&AUTHORIZATION, "Bearer a.b.c")]), TOKENS),
            Ok(Credential::Token("a.b.c"))
        );
        assert_eq!(outcome(&[(&AUTHORIZATION, "Bearer a.b.c")], KEYS), Outcome::Malformed);
        assert_eq!(outcome(&[(&X_API_KEY, "a.b.c")], BOTH), Outcome::Malformed);
    }

    #[test]
    fn two_credentials_are_one_too_many_even_if_they_are_equal() {
        let bearer = format!("Bearer {KEY}");
        let twice = [
            [(&AUTHORIZATION, bearer.as_str()), (&X_API_KEY, KEY)],
            [(&AUTHORIZATION, bearer.as_str()), (&AUTHORIZATION, bearer.as_str())],
            [(&X_API_KEY, KEY), (&X_API_KEY, KEY)],
        ];
        for both in twice {
            assert_eq!(outcome(&both, BOTH), Outcome::Ambiguous, "{both:?}");
        }
    }

    #[test]
    fn other_schemes_are_malformed_and_no_header_is_missing() {
        for value in ["Basic dXNlcjpwYXNz", "Bearer", "", KEY, "Digest x=1"] {
            assert_eq!(outcome(&[(&AUTHORIZATION, value)], BOTH), Outcome::Malformed, "{value}");
        }
        assert_eq!(outcome(&[], BOTH), Outcome::Missing);
        for wrong in [&KEY[1..], &KEY.replace("cnk_", "cnk-")] {
            assert_eq!(outcome(&[(&X_API_KEY, wrong)], BOTH), Outcome::Malformed, "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_it_panic(value in proptest::collection::vec(any::<u8>(), 0..80)) {
            if let Ok(value) = HeaderValue::from_bytes(&value) {
                for name in [AUTHORIZATION, X_API_KEY] {
                    let _found = find(&HeaderMap::from_iter([(name, value.clone())]), BOTH);
                }
            }
        }
    }
}
