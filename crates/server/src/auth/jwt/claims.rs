//! The rules for a token's claims (RFC 7519, section 4.1).
//!
//! Invariant: a claim that is required is also required to have the right type; absent, `null` and `[]` are refused alike.
//! `iat` is not judged: it says nothing about validity, and clocks that differ made it refuse good tokens elsewhere.

use serde_json::{Number, Value};

use super::super::{identity::Identity, outcome::Outcome, scopes::Scopes};

/// Claims that hold scopes if no other is set, and the subject if there is no `sub`.
const SCOPES: [&str; 2] = ["/scope", "/scp"];
const SUBJECTS: [&str; 3] = ["sub", "client_id", "azp"];

/// The largest float up to which every whole number is one.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// What is demanded of a token.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimRules {
    /// The only issuer, if one is set.
    pub issuer: Option<String>,
    /// The token must be for one of them. Empty if the audience is not judged.
    pub audiences: Vec<String>,
    /// Seconds by which the clocks may differ.
    pub leeway: i64,
    /// Where the scopes are, as a JSON pointer; `None` for `scope` and `scp`.
    pub scopes: Option<String>,
}

/// A claim that is missing, wrong, or malformed, as an outcome.
type Refused = Outcome;

/// When a token is valid, in seconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::auth) struct Lifetime {
    not_before: i64,
    expires: i64,
}

impl ClaimRules {
    /// Turns the name of a claim, or a JSON pointer, into a JSON pointer.
    pub(crate) fn pointer(claim: &str) -> String {
        match claim.starts_with('/') {
            true => claim.to_owned(),
            // RFC 6901, section 3.
            false => format!("/{}", claim.replace('~', "~0").replace('/', "~1")),
        }
    }

    /// Judges all claims but the times, and returns whose token it is and when it is valid.
    pub(in crate::auth) fn judge(&self, claims: &Value) -> Result<(Identity, Lifetime), Refused> {
        if !claims.is_object() {
            return Err(Outcome::Malformed);
        }
        let lifetime = Lifetime::of(claims)?;
        let issuer = claims.get("iss").and_then(Value::as_str);
        if self.issuer.is_some() && issuer != self.issuer.as_deref() {
            return Err(Outcome::Issuer);
        }
        if !self.audiences.is_empty() && !self.is_audience(claims.get("aud")) {
            return Err(Outcome::Audience);
        }
        let subject = SUBJECTS
            .iter()
            .find_map(|name| claims.get(name).and_then(Value::as_str));
        let scopes = self.scopes(claims);
        let identity = Identity::of_subject(issuer.unwrap_or_default(), subject.unwrap_or_default(), scopes);
        Ok((identity, lifetime))
    }

    fn is_audience(&self, claim: Option<&Value>) -> bool {
        let is_ours = |text: &str| self.audiences.iter().any(|audience| audience == text);
        match claim {
            Some(Value::String(text)) => is_ours(text),
            Some(Value::Array(all)) => {
                all.iter().all(Value::is_string) && all.iter().filter_map(Value::as_str).any(is_ours)
            }
            _ => false,
        }
    }

    /// A text with scopes, or a list of scopes. Anything else grants nothing.
    fn scopes(&self, claims: &Value) -> Scopes {
        let found = match &self.scopes {
            Some(pointer) => claims.pointer(pointer),
            None => SCOPES.iter().find_map(|pointer| claims.pointer(pointer)),
        };
        match found {
            Some(Value::String(list)) => Scopes::of_known(list),
            Some(Value::Array(all)) => {
                let lists = all.iter().filter_map(Value::as_str).map(Scopes::of_known);
                lists.fold(Scopes::default(), Scopes::union)
            }
            _ => Scopes::default(),
        }
    }
}

impl Lifetime {
    fn of(claims: &Value) -> Result<Self, Refused> {
        let expires = match claims.get("exp") {
            Some(Value::Number(exp)) => seconds(exp, f64::floor)?,
            _ => return Err(Outcome::Malformed),
        };
        let not_before = match claims.get("nbf") {
            None => i64::MIN,
            Some(Value::Number(nbf)) => seconds(nbf, f64::ceil)?,
            Some(_) => return Err(Outcome::Malformed),
        };
        Ok(Self { not_before, expires })
    }

    /// Judges the times. `now` is the wall clock, in seconds since 1970; read it for each request, because a token may end
    /// between two.
    pub(in crate::auth) fn judge(self, now: i64, leeway: i64) -> Result<(), Refused> {
        if now >= self.expires.saturating_add(leeway) {
            return Err(Outcome::Expired);
        }
        if now.saturating_add(leeway) < self.not_before {
            return Err(Outcome::NotYet);
        }
        Ok(())
    }
}

/// A NumericDate may have a fraction. One that no calendar has is malformed: beyond [`EXACT`] a float skips seconds.
fn seconds(date: &Number, round: fn(f64) -> f64) -> Result<i64, Refused> {
    if let Some(whole) = date.as_i64() {
        return Ok(whole);
    }
    match date.as_f64() {
        Some(date) if date.abs() <= EXACT => Ok(round(date) as i64),
        _ => Err(Outcome::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::super::super::scopes::Scope;
    use super::*;

    const NOW: i64 = 1_800_000_000;
    const LEEWAY: i64 = 30;

    fn rules() -> ClaimRules {
        ClaimRules {
            issuer: Some("https://issuer.example".to_owned()),
            audiences: vec!["cenote".to_owned(), "other".to_owned()],
            leeway: LEEWAY,
            scopes: None,
        }
    }

    fn good() -> Value {
        json!({"iss": "https://issuer.example", "aud": "cenote", "sub": "ada", "exp": NOW + 60, "scope": "read write"})
    }

    fn judge(claims: &Value) -> Result<Identity, Outcome> {
        let (identity, lifetime) = rules().judge(claims)?;
        lifetime.judge(NOW, LEEWAY)?;
        Ok(identity)
    }

    /// The outcome with one claim replaced.
    fn with(claim: &str, value: Value) -> Result<Identity, Outcome> {
        let mut claims = good();
        claims[claim] = value;
        judge(&claims)
    }

    fn without(claim: &str) -> Result<Identity, Outcome> {
        let mut claims = good();
        claims.as_object_mut().unwrap().remove(claim);
        judge(&claims)
    }

    #[test]
    fn a_good_token_is_its_subject_with_its_scopes() {
        let identity = judge(&good()).unwrap();
        assert!(identity.name.ends_with("#ada"), "{}", identity.name);
        assert_eq!(identity.scopes, Scopes::of(&[Scope::Read, Scope::Write]));
    }

    #[test]
    fn the_expiry_is_required_and_has_a_leeway() {
        assert_eq!(without("exp"), Err(Outcome::Malformed));
        for bad in [
            json!(null),
            json!("1800000060"),
            json!([NOW + 60]),
            json!(true),
            json!({}),
        ] {
            assert_eq!(with("exp", bad.clone()), Err(Outcome::Malformed), "{bad}");
        }
        let after = |seconds: i64| with("exp", json!(NOW - LEEWAY + seconds));
        assert!(after(1).is_ok());
        assert_eq!(after(0), Err(Outcome::Expired));
        assert_eq!(with("exp", json!(NOW as f64 - 30.0 + 0.9)), Err(Outcome::Expired));
        for past in [json!(0), json!(-1), json!(i64::MIN), json!(0.5)] {
            assert_eq!(with("exp", past.clone()), Err(Outcome::Expired), "{past}");
        }
        for future in [json!(i64::MAX), json!(NOW as f64 + 0.5)] {
            assert!(with("exp", future.clone()).is_ok(), "{future}");
        }
        for huge in [json!(u64::MAX), json!(1e300), json!(-1e300)] {
            assert_eq!(with("exp", huge.clone()), Err(Outcome::Malformed), "{huge}");
        }
    }

    #[test]
    fn not_before_is_judged_where_it_is_present_and_issued_at_never() {
        assert!(without("nbf").is_ok());
        for bad in [json!(null), json!("0"), json!([])] {
            assert_eq!(with("nbf", bad.clone()), Err(Outcome::Malformed), "{bad}");
        }
        assert!(with("nbf", json!(NOW + LEEWAY)).is_ok());
        assert_eq!(with("nbf", json!(NOW + LEEWAY + 1)), Err(Outcome::NotYet));
        assert_eq!(with("nbf", json!(NOW as f64 + 30.1)), Err(Outcome::NotYet));
        assert!(with("nbf", json!(-1)).is_ok());
        assert_eq!(with("nbf", json!(1e300)), Err(Outcome::Malformed));
        for anything in [json!(NOW + 1_000_000), json!(null), json!("tomorrow"), json!(1e300)] {
            assert!(with("iat", anything.clone()).is_ok(), "{anything}");
        }
    }

    #[test]
    fn a_configured_issuer_is_required_exactly() {
        assert_eq!(without("iss"), Err(Outcome::Issuer));
        for bad in [
            json!(null),
            json!([]),
            json!(7),
            json!("https://issuer.example/"),
            json!(["https://issuer.example"]),
        ] {
            assert_eq!(with("iss", bad.clone()), Err(Outcome::Issuer), "{bad}");
        }
    }

    #[test]
    fn a_configured_audience_is_required_as_a_text_or_in_a_list() {
        assert_eq!(without("aud"), Err(Outcome::Audience));
        for bad in [
            json!(null),
            json!([]),
            json!(7),
            json!(""),
            json!("Cenote"),
            json!(["x"]),
            json!(["cenote", 7]),
            json!({}),
        ] {
            assert_eq!(with("aud", bad.clone()), Err(Outcome::Audience), "{bad}");
        }
        for good in [json!("other"), json!(["cenote"]), json!(["x", "other"])] {
            assert!(with("aud", good.clone()).is_ok(), "{good}");
        }
    }

    #[test]
    fn issuer_and_audience_are_not_judged_unless_they_are_set() {
        let open = ClaimRules {
            issuer: None,
            audiences: Vec::new(),
            ..rules()
        };
        assert!(open.judge(&json!({"exp": 1, "iss": 7, "aud": []})).is_ok());
        assert_eq!(open.judge(&json!([])).err(), Some(Outcome::Malformed));
    }

    #[test]
    fn scopes_come_from_a_text_or_a_list_and_unknown_ones_grant_nothing() {
        let scopes = |claim: &str, value| {
            let mut claims = good();
            claims.as_object_mut().unwrap().remove("scope");
            claims[claim] = value;
            judge(&claims).unwrap().scopes
        };
        let read = Scopes::of(&[Scope::Read]);
        assert_eq!(scopes("scp", json!("openid read")), read);
        assert_eq!(scopes("scp", json!(["read", 7, null, "all"])), read);
        assert_eq!(scopes("scope", json!(["read"])), read);
        for nothing in [json!(null), json!({}), json!(15), json!("READ"), json!([])] {
            assert!(scopes("scope", nothing.clone()).is_empty(), "{nothing}");
        }
    }

    #[test]
    fn a_setting_says_where_the_scopes_are() {
        let of = |setting: &str, claims: Value| {
            let rules = ClaimRules {
                scopes: Some(ClaimRules::pointer(setting)),
                ..rules()
            };
            rules.scopes(&claims).to_string()
        };
        let keycloak = json!({"scope": "write", "resource_access": {"cenote": {"roles": ["read", "x"]}}});
        assert_eq!(of("/resource_access/cenote/roles", keycloak), "read");
        assert_eq!(
            of(
                "https://cenote.example/s~1",
                json!({"https://cenote.example/s~1": "admin"})
            ),
            "admin"
        );
        assert_eq!(of("roles", json!({"scope": "write"})), "");
    }

    proptest! {
        #[test]
        fn no_date_makes_it_panic_and_none_is_valid_after_its_end(
            exp in -1e16..1e16, nbf in -1e16..1e16, now in any::<i64>(), leeway in 0i64..=300,
        ) {
            let claims = json!({"exp": exp, "nbf": nbf});
            if let Ok(lifetime) = Lifetime::of(&claims)
                && lifetime.judge(now, leeway).is_ok()
            {
                prop_assert!((now as f64) <= exp + leeway as f64 + 4.0);
                prop_assert!((now as f64) + leeway as f64 + 4.0 >= nbf);
            }
        }
    }
}
