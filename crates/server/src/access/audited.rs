//! An administrative call on its way through the gate.
//!
//! Invariant: each call leaves a line in the audit log. If its caller leaves before the response, or its handler panics, the
//! line says that the result is not known, because the call may have had its effect.

use std::net::IpAddr;

use axum::http::{Method, Response};

use crate::{
    audit::{AuditLog, AuditedCall, CallDetail},
    http::ResponseBody,
};

/// Longest path in a line, in characters. Those of the routes are shorter.
const LONGEST_PATH: usize = 128;

/// An administrative call whose line is not written yet.
pub(super) struct Audited<'a> {
    log: &'a AuditLog,
    /// `None` once it is written.
    call: Option<AuditedCall>,
}

impl<'a> Audited<'a> {
    pub(super) fn begin(log: &'a AuditLog, method: &Method, path: &str, client: IpAddr) -> Self {
        let path: String = path.chars().take(LONGEST_PATH).collect();
        let call = AuditedCall {
            who: None,
            what: format!("{method} {path}"),
            detail: None,
            from: Some(client),
            result: None,
        };
        Self { log, call: Some(call) }
    }

    /// Says who calls.
    pub(super) fn is_by(&mut self, who: &str) {
        if let Some(call) = &mut self.call {
            call.who = Some(who.to_owned());
        }
    }

    /// Writes the line of a call that is answered.
    pub(super) fn end(mut self, response: &Response<ResponseBody>) -> impl Future<Output = ()> + Send + use<'a> {
        let call = self.call.take().map(|call| AuditedCall {
            result: Some(response.status().as_u16()),
            detail: response.extensions().get().map(|CallDetail(detail)| detail.clone()),
            ..call
        });
        let log = self.log;
        async move {
            if let Some(call) = call {
                log.record(call).await;
            }
        }
    }
}

impl Drop for Audited<'_> {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            self.log.record_later(call);
        }
    }
}
