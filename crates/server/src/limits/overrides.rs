//! The limits of one key, in place of those of the settings: `read=1000/min burst=50; write=off`.
//!
//! Invariant: a class that is not named keeps the limit of the settings.

use super::classes::is_class_name;
use super::limit::Limit;
use super::policy::InvalidPolicy;

/// The limits of one key. The empty text gives none.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Overrides(Vec<(String, Limit)>);

/// Why a text is no list of limits. `Display` continues a sentence that begins with the text, and quotes nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("has a mistake in limit {at}: {what}")]
pub struct InvalidOverrides {
    /// The position of the limit, from 1.
    pub at: usize,
    /// What is wrong with it.
    pub what: InvalidOverride,
}

/// What is wrong with a limit of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOverride {
    /// It is not of the form `class=limit`.
    #[error("it is not of the form read=100/min")]
    Malformed,
    /// An earlier one is for the same class.
    #[error("its class has a limit already")]
    Twice,
    /// The limit itself.
    #[error("it {0}")]
    Policy(#[from] InvalidPolicy),
}

impl Overrides {
    /// Parses the limits of a key. Classes that no setting defines are accepted: another instance may have them, or the
    /// settings may get them later.
    ///
    /// # Errors
    ///
    /// [`InvalidOverrides`] with the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidOverrides> {
        let mut limits = Vec::new();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let at = limits.len() + 1;
            let limit = limit(part, &limits).map_err(|what| InvalidOverrides { at, what })?;
            limits.push(limit);
        }
        Ok(Self(limits))
    }

    /// Returns the limit of a class, if this key has its own.
    pub(super) fn of(&self, class: &str) -> Option<&Limit> {
        let named = self.0.iter().find(|(name, _)| name == class);
        named.map(|(_, limit)| limit)
    }
}

fn limit(text: &str, earlier: &[(String, Limit)]) -> Result<(String, Limit), InvalidOverride> {
    let (class, policy) = text.split_once('=').ok_or(InvalidOverride::Malformed)?;
    let class = class.trim();
    if !is_class_name(class) {
        return Err(InvalidOverride::Malformed);
    }
    if earlier.iter().any(|(known, _)| known == class) {
        return Err(InvalidOverride::Twice);
    }
    Ok((class.to_owned(), Limit::new(class, policy.parse()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_its_own_limits_for_the_classes_that_it_names() {
        let overrides = Overrides::parse(" read=1000/min burst=50; write = off ;search=5/s,100/h").unwrap();
        let text = |class| overrides.of(class).map(|limit| limit.policy.to_string());
        assert_eq!(text("read").as_deref(), Some("1000/min burst=50"));
        assert_eq!(text("write").as_deref(), Some("off"));
        assert_eq!(text("search").as_deref(), Some("5/s,100/h"));
        assert_eq!(text("admin"), None);
        assert!(Overrides::parse("").unwrap().of("read").is_none());
    }

    #[test]
    fn invalid_limits_of_a_key_are_refused_with_what_is_wrong() {
        use InvalidOverride::{Malformed, Policy, Twice};
        for (text, at, what) in [
            ("100/min", 1, Malformed),
            ("=1/s", 1, Malformed),
            ("re\"d=1/s", 1, Malformed),
            ("read=1/s;read=2/s", 2, Twice),
            ("write=off; read=1/m", 2, Policy(InvalidPolicy::Unit)),
            ("read=", 1, Policy(InvalidPolicy::Malformed)),
        ] {
            assert_eq!(
                Overrides::parse(text).unwrap_err(),
                InvalidOverrides { at, what },
                "{text}"
            );
        }
    }
}
