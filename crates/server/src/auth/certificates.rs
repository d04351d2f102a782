//! Certificates of clients as credentials: who shows one, and what its owner may do.
//!
//! Invariant: what is not listed is not granted. The transport has verified the certificate before anything here sees its
//! subject.

use std::{fmt, str::FromStr, sync::Arc};

use quick_cache::sync::Cache;

use super::{
    identity::Identity,
    scopes::{Scope, Scopes},
};

/// Most identities that are kept; further ones are made for each request.
const KEPT: usize = 1_000;

/// What the owners of certificates may do: `read,write; CN=ops,O=Acme: read,write,admin`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateScopes {
    /// Of subjects that are not named.
    others: Scopes,
    named: Vec<(Box<str>, Scopes)>,
}

impl Default for CertificateScopes {
    /// Everybody reads and writes; nobody administers.
    fn default() -> Self {
        Self {
            others: Scopes::of(&[Scope::Read, Scope::Write]),
            named: Vec::new(),
        }
    }
}

impl FromStr for CertificateScopes {
    /// The complaint continues a sentence that starts with the text.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut others = None;
        let mut named: Vec<(Box<str>, Scopes)> = Vec::new();
        for entry in entries(text) {
            // A subject may hold colons, a list of scopes holds none.
            let Some((subject, scopes)) = entry.rsplit_once(':') else {
                if others.replace(Scopes::parse(entry)?).is_some() {
                    return Err("has two entries without a subject".to_owned());
                }
                continue;
            };
            let (subject, scopes) = (subject.trim_end(), Scopes::parse(scopes)?);
            if subject.is_empty() {
                return Err("has an entry with an empty subject".to_owned());
            }
            if named.iter().any(|(known, _)| **known == *subject) {
                return Err(format!("names {subject:?} twice"));
            }
            named.push((subject.into(), scopes));
        }
        match (others, named.is_empty()) {
            (None, true) => Err("is empty".to_owned()),
            (others, _) => Ok(Self {
                others: others.unwrap_or_default(),
                named,
            }),
        }
    }
}

/// The parts between semicolons. In a subject a semicolon has a backslash before it (RFC 4514).
fn entries(text: &str) -> impl Iterator<Item = &str> {
    let mut is_escaped = false;
    let parts = text.split(move |character| {
        let ends = character == ';' && !is_escaped;
        is_escaped = character == '\\' && !is_escaped;
        ends
    });
    parts.map(str::trim).filter(|entry| !entry.is_empty())
}

impl fmt::Display for CertificateScopes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others = (!self.others.is_empty()).then(|| self.others.to_string());
        let named = self
            .named
            .iter()
            .map(|(subject, scopes)| format!("{subject}: {scopes}"));
        let entries: Vec<_> = others.into_iter().chain(named).collect();
        f.write_str(&entries.join("; "))
    }
}

impl CertificateScopes {
    fn of(&self, subject: &str) -> Scopes {
        let named = self.named.iter().find(|(known, _)| **known == *subject);
        named.map_or(self.others, |(_, scopes)| *scopes)
    }
}

/// The owners of certificates.
pub(crate) struct Certificates {
    scopes: CertificateScopes,
    /// By subject, so that a request allocates nothing.
    known: Cache<Arc<str>, Arc<Identity>>,
}

impl Certificates {
    pub(crate) fn new(scopes: CertificateScopes) -> Self {
        Self {
            scopes,
            known: Cache::new(KEPT),
        }
    }

    /// The owner of a certificate with this subject.
    pub(crate) fn owner(&self, subject: &Arc<str>) -> Arc<Identity> {
        if let Some(identity) = self.known.get(subject) {
            return identity;
        }
        let identity = Arc::new(Identity::of_certificate(subject, self.scopes.of(subject)));
        self.known.insert(subject.clone(), identity.clone());
        identity
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subject_gets_its_own_scopes_and_others_get_the_general_ones() {
        let scopes: CertificateScopes =
            r"read; CN=ops,O=Acme: read,admin; CN=a\;b: write;URI:spiffe://acme/reports: metrics"
                .parse()
                .unwrap();
        for (subject, expected) in [
            ("CN=ops,O=Acme", "read,admin"),
            (r"CN=a\;b", "write"),
            ("URI:spiffe://acme/reports", "metrics"),
            ("CN=ops", "read"),
            ("CN=ops,O=Acme,C=DE", "read"),
            ("cn=ops,o=acme", "read"),
        ] {
            assert_eq!(scopes.of(subject).to_string(), expected, "{subject}");
        }
        assert_eq!(scopes.to_string().parse(), Ok(scopes));
    }

    #[test]
    fn without_a_general_entry_others_may_do_nothing() {
        let scopes: CertificateScopes = "CN=ops: admin".parse().unwrap();
        assert!(scopes.of("CN=other").is_empty());
        assert!(scopes.of("CN=ops").has(Scope::Admin));
    }

    #[test]
    fn by_default_nobody_administers() {
        let scopes = CertificateScopes::default().of("CN=ops");
        assert_eq!(scopes, Scopes::of(&[Scope::Read, Scope::Write]));
    }

    #[test]
    fn a_mistake_is_refused() {
        for text in [
            "",
            ";",
            "reed",
            "CN=a: reed",
            "CN=a:",
            ": read",
            "read; write",
            "CN=a: read; CN=a: write",
        ] {
            text.parse::<CertificateScopes>().unwrap_err();
        }
    }

    #[test]
    fn an_owner_is_the_same_for_each_request_and_on_each_instance() {
        let owner = |subject: &str| Certificates::new(CertificateScopes::default()).owner(&subject.into());
        assert_eq!(owner("CN=a").id, owner("CN=a").id);
        assert_ne!(owner("CN=a").id, owner("CN=b").id);
        let certificates = Certificates::new(CertificateScopes::default());
        let subject: Arc<str> = "CN=a".into();
        assert!(Arc::ptr_eq(
            &certificates.owner(&subject),
            &certificates.owner(&subject)
        ));
    }
}
