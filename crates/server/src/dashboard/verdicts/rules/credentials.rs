//! Verdicts about certificates and keys. Invariant: no text names a file, a source or a key: a viewer may not know them.

use std::time::Duration;

use super::{Rule, rule};
use crate::dashboard::verdicts::{
    Level::{Critical, Warning},
    words::time,
};

const DAY: Duration = Duration::from_secs(86_400);

pub(super) static RULES: &[Rule] = &[
    rule("certificate-expires-soon", Critical, "docs/tls.md#reload", |signs| {
        let left = signs.certificate.as_ref()?.left;
        (left < 3 * DAY).then(|| {
            format!(
                "The certificate expires in {}. Replace TLS_CERT and TLS_KEY.",
                time(left)
            )
        })
    }),
    rule("certificate-expires", Warning, "docs/tls.md#reload", |signs| {
        let left = signs.certificate.as_ref()?.left;
        let is_near = left < 14 * DAY && left >= 3 * DAY;
        is_near.then(|| {
            format!(
                "The certificate expires in {}. Replace TLS_CERT and TLS_KEY.",
                time(left)
            )
        })
    }),
    rule("certificate-not-loaded", Warning, "docs/tls.md#reload", |signs| {
        let text = "The changed TLS files cannot be used; the old certificate is still in force. The log names the file \
                    and the reason.";
        signs.certificate.as_ref()?.has_failed_reload.then(|| text.to_owned())
    }),
    rule("token-keys-old", Warning, "docs/auth.md#tokens", |signs| {
        let problem = signs.token_keys_problem.as_ref()?;
        Some(format!("Tokens: {problem}."))
    }),
    rule("api-keys-not-confirmed", Warning, "docs/auth.md#api-keys", |signs| {
        let problem = signs.api_keys_problem.as_ref()?;
        Some(format!("API keys: {problem}."))
    }),
];
