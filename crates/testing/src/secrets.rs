//! Checks that nothing printed contains a secret.
//!
//! Invariant: a secret is looked for as text and as a list of its bytes, as a derived `Debug` prints them.

use std::{error::Error, fmt::Debug};

/// Checks that the debug form of a value does not contain the secret.
///
/// # Panics
///
/// The debug form contains the secret.
pub fn hides(what: &dyn Debug, secret: &str) {
    let bytes: Vec<_> = secret.bytes().map(|byte| byte.to_string()).collect();
    let listed = bytes.join(", ");
    for shown in [format!("{what:?}"), format!("{what:#?}")] {
        assert!(!shown.contains(secret) && !shown.contains(&listed), "{shown}");
    }
}

/// Checks that an error and its sources do not contain the secret, in their texts and in their debug forms.
///
/// # Panics
///
/// One of them contains the secret.
pub fn hides_with_sources(error: &dyn Error, secret: &str) {
    let mut error = Some(error);
    while let Some(it) = error {
        hides(&it, secret);
        assert!(!it.to_string().contains(secret), "{it}");
        error = it.source();
    }
}
