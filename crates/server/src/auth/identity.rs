//! Who a request comes from. Invariant: an identity exists only for a key, token or certificate that was found valid.

use ring::digest::{Context, SHA256};

use super::{outcome::Method, scopes::Scopes};
use crate::limits::Overrides;

/// Longest name in characters; longer ones are cut for the audit, not for [`Identity::id`].
const NAME: usize = 256;

/// A caller with a valid key, token or certificate.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Identity {
    /// What the caller showed.
    pub(crate) method: Method,
    /// The same for every request of one caller, also on other instances and after a restart. Keys that replaced each
    /// other share it.
    pub(crate) id: u64,
    /// Who this is, for the audit: `api_key:17 (shop)`, `jwt:https://id.example.org#ada`, `certificate:CN=ops`. Without
    /// control characters.
    pub(crate) name: Box<str>,
    /// What the caller may do.
    pub(crate) scopes: Scopes,
    /// Rate limits of this caller instead of the general ones.
    pub(crate) limits: Option<Overrides>,
}

impl Identity {
    /// The owner of a key.
    pub(crate) fn of_key(owner: i64, name: &str, scopes: Scopes, limits: Option<Overrides>) -> Self {
        Self {
            method: Method::ApiKey,
            id: stable_hash(&[b"key", &owner.to_be_bytes()]),
            name: printable(Method::ApiKey, &format!("{owner} ({name})")),
            scopes,
            limits,
        }
    }

    /// The subject of a token. Subjects of different issuers are different callers.
    pub(crate) fn of_subject(issuer: &str, subject: &str, scopes: Scopes) -> Self {
        Self {
            method: Method::Token,
            id: stable_hash(&[b"token", issuer.as_bytes(), subject.as_bytes()]),
            name: printable(Method::Token, &format!("{issuer}#{subject}")),
            scopes,
            limits: None,
        }
    }

    /// The owner of a client's certificate.
    pub(crate) fn of_certificate(subject: &str, scopes: Scopes) -> Self {
        Self {
            method: Method::Certificate,
            id: stable_hash(&[b"certificate", subject.as_bytes()]),
            name: printable(Method::Certificate, subject),
            scopes,
            limits: None,
        }
    }
}

/// A hash that does not change with the version of the program.
fn stable_hash(parts: &[&[u8]]) -> u64 {
    let mut hash = Context::new(&SHA256);
    for part in parts {
        // The length before each part keeps ("ab", "c") and ("a", "bc") apart.
        hash.update(&(part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finish();
    let first = digest.as_ref().first_chunk().copied();
    u64::from_be_bytes(first.unwrap_or_default())
}

fn printable(method: Method, name: &str) -> Box<str> {
    let name = name.chars().take(NAME);
    let name = name.map(|it| if it.is_control() { '\u{fffd}' } else { it });
    let method = method.name().chars().chain([':']);
    method.chain(name).collect::<String>().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_of_different_issuers_are_different_callers() {
        let id = |issuer, subject| Identity::of_subject(issuer, subject, Scopes::default()).id;
        assert_eq!(id("a", "b"), id("a", "b"));
        assert_ne!(id("a", "b"), id("ab", ""));
        assert_ne!(id("a", "b"), id("c", "b"));
        assert_ne!(Identity::of_key(1, "b", Scopes::default(), None).id, id("", "b"));
        assert_ne!(Identity::of_certificate("b", Scopes::default()).id, id("", "b"));
    }

    #[test]
    fn a_subject_cannot_forge_lines_of_the_log() {
        let subject = format!("eve\n2026 INFO bob logged in{}", "x".repeat(1_000));
        let name = Identity::of_subject("", &subject, Scopes::default()).name;
        assert!(!name.contains('\n'), "{name:?}");
        assert_eq!(name.chars().count(), "jwt:".len() + NAME);
    }
}
