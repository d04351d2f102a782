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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http_body_util::{Either, Full};
    use serde_json::{Value, json};

    use super::*;

    const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn a_call_that_is_dropped_before_its_response_has_an_unknown_result() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.log");
        let log = AuditLog::open(Some(path.clone())).unwrap();
        let response = Response::new(Either::Left(Full::default()));
        let mut answered = Audited::begin(&log, &Method::POST, "/admin/resume", CLIENT);
        answered.is_by("local");
        answered.end(&response).await;
        let mut dropped = Audited::begin(&log, &Method::POST, "/admin/pause", CLIENT);
        dropped.is_by("api_key:1 (ops)");
        drop(dropped);
        let lines = async {
            loop {
                let text = std::fs::read_to_string(&path).unwrap();
                let lines: Vec<Value> = text
                    .lines()
                    .filter_map(|line| serde_json::from_str(line).ok())
                    .collect();
                if lines.len() == 2 {
                    break lines;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        let lines = tokio::time::timeout(Duration::from_secs(10), lines).await.unwrap();
        assert_eq!((&lines[0]["who"], &lines[0]["result"]), (&json!("local"), &json!(200)));
        assert_eq!(lines[1]["what"], "POST /admin/pause");
        assert_eq!(
            (&lines[1]["who"], &lines[1]["result"]),
            (&json!("api_key:1 (ops)"), &json!(null))
        );
    }

    #[tokio::test]
    async fn a_path_of_a_stranger_is_cut() {
        let log = AuditLog::open(None).unwrap();
        let audited = Audited::begin(&log, &Method::GET, &format!("/admin/{}", "x".repeat(10_000)), CLIENT);
        let length = audited.call.as_ref().unwrap().what.len();
        assert_eq!(length, "GET ".len() + LONGEST_PATH);
    }
}
