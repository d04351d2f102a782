//! The limits of one key, in place of those of the settings: `read=1000/min burst=50; write=off`.
//!
//! Invariant: a class that is not named keeps the limit of the settings.

use super::limit::Limit;
use super::policy::InvalidPolicy;

/// The limits of one key. The empty text gives none.
#[derive(Debug, Default)]
pub struct Overrides(Vec<(String, Limit)>);

/// Why a text is no list of limits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOverrides {
    /// A part is not of the form `class=limit`.
    #[error("`{0}` is not a limit of a class such as read=100/min")]
    Malformed(String),
    /// Two limits of one class.
    #[error("the class `{0}` has two limits")]
    Twice(String),
    /// The limit of a class.
    #[error("class {class}: {error}")]
    Policy {
        /// Its name.
        class: String,
        /// What is wrong with its limit.
        error: InvalidPolicy,
    },
}

impl Overrides {
    /// Parses the limits of a key. Classes that no setting defines are accepted: another instance may have them, or the
    /// settings may get them later.
    ///
    /// # Errors
    ///
    /// [`InvalidOverrides`] with the part that is wrong.
    pub fn parse(text: &str) -> Result<Self, InvalidOverrides> {
        let mut limits = Vec::<(String, Limit)>::new();
        for part in text.split(';').map(str::trim).filter(|part| !part.is_empty()) {
            let malformed = || InvalidOverrides::Malformed(part.to_owned());
            let (class, policy) = part.split_once('=').ok_or_else(malformed)?;
            let class = class.trim();
            let is_plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if class.is_empty() || !class.bytes().all(is_plain) {
                return Err(malformed());
            }
            if limits.iter().any(|(known, _)| known == class) {
                return Err(InvalidOverrides::Twice(class.to_owned()));
            }
            let policy = policy.parse().map_err(|error| {
                let class = class.to_owned();
                InvalidOverrides::Policy { class, error }
            })?;
            limits.push((class.to_owned(), Limit::new(class, policy)));
        }
        Ok(Self(limits))
    }

    /// Returns the limit of a class, if this key has its own.
    pub(super) fn of(&self, class: &str) -> Option<&Limit> {
        let named = self.0.iter().find(|(name, _)| name == class);
        named.map(|(_, limit)| limit)
    }
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
    fn invalid_limits_of_a_key_are_refused_with_the_part_that_is_wrong() {
        for (text, named) in [
            ("100/min", "`100/min` is not a limit of a class"),
            ("=1/s", "`=1/s` is not a limit of a class"),
            ("re\"d=1/s", "is not a limit of a class"),
            ("read=1/s;read=2/s", "`read` has two limits"),
            ("read=1/m", "class read: `m` is not a unit"),
            ("read=", "class read: `` is not a limit"),
        ] {
            let error = Overrides::parse(text).unwrap_err().to_string();
            assert!(error.contains(named), "{text}: {error}");
        }
    }
}
