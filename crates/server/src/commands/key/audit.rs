//! The line in `AUDIT_LOG` for a change of API keys.
//!
//! Invariant: keys are named by their numbers. A line that cannot be written is shown, and stops no change: a key can
//! be revoked while the disk of the log is full.

use crate::{
    audit::{AuditLog, AuditedCall},
    settings::Settings,
    store::api_keys::{AdminError, StoredKey},
};

/// Writes the line, if `AUDIT_LOG` is set. Otherwise the terminal shows what the log of a service would hold.
pub(super) async fn record(settings: &Settings, action: &str, changed: Result<&[StoredKey], &AdminError>) {
    let Some(file) = settings.audit_log.clone() else {
        return;
    };
    let (detail, result) = match changed {
        Ok(keys) => (keys.iter().map(numbered).collect::<Vec<_>>().join(", "), 0),
        Err(error) => (error.to_string(), 1),
    };
    let call = AuditedCall {
        who: Some(format!("uid {}", rustix::process::getuid().as_raw())),
        what: format!("cenote key {action}"),
        detail: Some(detail),
        from: None,
        result: Some(result),
    };
    AuditLog::at(Some(file)).record(call).await;
}

fn numbered(key: &StoredKey) -> String {
    format!("key {} ({})", key.id, key.name)
}
