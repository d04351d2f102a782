//! Asks the service, and says what its answer means.
//!
//! Invariant: the command ends within its time, and every failure says what to do.

use std::{fmt, time::Duration};

use axum::http::{
    Method, Request, StatusCode,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use bytes::Bytes;
use http_body_util::Full;
use serde::Deserialize;
use tokio::time::timeout;
use tokio_rustls::rustls::{AlertDescription, CertificateError, Error as TlsFailure};

use super::{arguments::Action, target::Target};
use crate::http_client::{Answer, Client, ClientError};

/// Longest response that is read.
const MOST_BYTES: usize = 1 << 20;

/// The beginning of every type of problem.
const PROBLEM: &str = "urn:cenote:problem:";

/// Why the service did not do what it was asked. The text continues a sentence that starts with the URL.
#[derive(Debug, thiserror::Error)]
pub(in crate::commands) enum Failure {
    #[error(
        "nothing answers: {0}; check that the service runs there, or name another URL in the command or in CENOTE_URL"
    )]
    NotReached(std::io::Error),
    #[error("no answer within {0} s. It may have done it nevertheless: `cenote admin state` tells")]
    Timeout(u64),
    #[error("its certificate is not trusted: {0}; {1}")]
    Certificate(TlsFailure, &'static str),
    #[error("it wants a certificate of this client: name it by --cert and --cert-key ({0})")]
    NoCertificate(TlsFailure),
    #[error("it does not speak TLS: {0}; if it is plain HTTP, the URL must begin with http://")]
    NotTls(TlsFailure),
    #[error("TLS: {0}")]
    Tls(TlsFailure),
    #[error("it broke off: {0}. It may have done it nevertheless: `cenote admin state` tells")]
    BrokeOff(ClientError),
    #[error("it cannot be asked: {0}")]
    Client(ClientError),
    #[error("it wants an API key or token: name a file with it by --key-file or CENOTE_KEY_FILE, or set CENOTE_KEY")]
    NoKey,
    #[error("it does not accept the key or token: {0}")]
    WrongKey(Refused),
    #[error("refused: {0}; `cenote key create`, the issuer of tokens, or TLS_CLIENT_SCOPES gives that scope")]
    NoScope(Refused),
    #[error("refused: {0}")]
    Refused(Refused),
    #[error("this is not a cenote, or not its root: the answer is {0} and no JSON of cenote; check the URL")]
    Foreign(StatusCode),
}

/// What the service says about a refusal.
#[derive(Debug, Deserialize)]
pub(in crate::commands) struct Refused {
    #[serde(rename = "type")]
    kind: String,
    detail: String,
    #[serde(default)]
    scope: Option<String>,
    #[serde(default)]
    errors: Vec<WrongField>,
}

#[derive(Debug, Deserialize)]
struct WrongField {
    field: String,
    detail: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.errors.is_empty() {
            return f.write_str(&self.detail);
        }
        for (at, WrongField { field, detail }) in self.errors.iter().enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            match detail.starts_with(field) {
                true => write!(f, "{separator}{detail}")?,
                false => write!(f, "{separator}{field} {detail}")?,
            }
        }
        Ok(())
    }
}

/// Returns the body of the successful answer to an action.
pub(super) async fn ask(
    client: &Client,
    target: &Target,
    action: &Action,
    patience: Duration,
) -> Result<Bytes, Failure> {
    let url = target.url.below(action.path());
    let request = request(target.credentials.as_ref(), action);
    match timeout(patience, client.send(&url, request, MOST_BYTES)).await {
        Ok(Ok(answer)) => judge(answer, target.credentials.is_some()),
        Ok(Err(error)) => Err(unanswered(error)),
        Err(_) => Err(Failure::Timeout(patience.as_secs())),
    }
}

fn request(credentials: Option<&HeaderValue>, action: &Action) -> Request<Full<Bytes>> {
    let body = action.body();
    let mut request = Request::new(Full::from(body.as_ref().map(ToString::to_string).unwrap_or_default()));
    if body.is_some() {
        *request.method_mut() = Method::POST;
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(CONTENT_TYPE, json);
    }
    if let Some(credentials) = credentials {
        request.headers_mut().insert(AUTHORIZATION, credentials.clone());
    }
    request
}

/// Returns the body of a successful answer.
pub(in crate::commands) fn judge(answer: Answer, showed_key: bool) -> Result<Bytes, Failure> {
    let Answer { status, body } = answer;
    if status == StatusCode::OK {
        return match serde_json::from_slice::<serde_json::Value>(&body) {
            Ok(value) if value.is_object() => Ok(body),
            _ => Err(Failure::Foreign(status)),
        };
    }
    let refused = match serde_json::from_slice::<Refused>(&body) {
        Ok(refused) if refused.kind.starts_with(PROBLEM) => refused,
        _ => return Err(Failure::Foreign(status)),
    };
    Err(match status {
        StatusCode::UNAUTHORIZED if !showed_key => Failure::NoKey,
        StatusCode::UNAUTHORIZED => Failure::WrongKey(refused),
        StatusCode::FORBIDDEN if refused.scope.is_some() => Failure::NoScope(refused),
        _ => Failure::Refused(refused),
    })
}

/// Why there is no answer.
pub(in crate::commands) fn unanswered(error: ClientError) -> Failure {
    if let Some(failure) = error.tls_failure().cloned() {
        return of_tls(failure);
    }
    match error {
        ClientError::Connect(error) => Failure::NotReached(error),
        error if error.was_sent() => Failure::BrokeOff(error),
        error => Failure::Client(error),
    }
}

fn of_tls(failure: TlsFailure) -> Failure {
    match &failure {
        TlsFailure::InvalidCertificate(CertificateError::UnknownIssuer) => {
            Failure::Certificate(failure, "name its authority by --ca")
        }
        TlsFailure::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => Failure::Certificate(failure, "use a name of the certificate in the URL"),
        TlsFailure::InvalidCertificate(_) => Failure::Certificate(failure, "renew it"),
        TlsFailure::InvalidMessage(_) => Failure::NotTls(failure),
        TlsFailure::AlertReceived(
            AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateUnknown
            // TLS 1.2 has no better word for a missing certificate.
            | AlertDescription::HandshakeFailure,
        ) => Failure::NoCertificate(failure),
        _ => Failure::Tls(failure),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(status: u16, body: &'static str, showed_key: bool) -> Result<Bytes, String> {
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            body: Bytes::from_static(body.as_bytes()),
        };
        judge(answer, showed_key).map_err(|failure| failure.to_string())
    }

    #[test]
    fn only_json_of_cenote_is_believed() {
        assert_eq!(judged(200, "{}", false).unwrap(), "{}");
        for (status, body) in [
            (200, "<html>"),
            (200, "[]"),
            (302, ""),
            (404, "not here"),
            (404, r#"{"detail": "not here"}"#),
            (404, r#"{"type": "about:blank", "detail": "not here"}"#),
        ] {
            let error = judged(status, body, false).unwrap_err();
            assert!(error.contains("is not a cenote"), "{error}");
        }
    }

    #[test]
    fn each_refusal_says_what_to_do() {
        let unauthorized = r#"{"type": "urn:cenote:problem:unauthorized", "detail": "the key is not valid"}"#;
        let error = judged(401, unauthorized, false).unwrap_err();
        assert!(error.contains("--key-file"), "{error}");
        let error = judged(401, unauthorized, true).unwrap_err();
        assert!(
            error.ends_with("does not accept the key or token: the key is not valid"),
            "{error}"
        );
        let forbidden = r#"{"type": "urn:cenote:problem:forbidden", "detail": "scope missing", "scope": "admin"}"#;
        let error = judged(403, forbidden, true).unwrap_err();
        assert!(error.contains("cenote key create"), "{error}");
        let invalid = r#"{"type": "urn:cenote:problem:validation", "detail": "see errors",
            "errors": [{"field": "max", "detail": "must be more"}, {"field": "min", "detail": "must be less"}]}"#;
        let error = judged(422, invalid, false).unwrap_err();
        assert!(
            error.ends_with("refused: max must be more; min must be less"),
            "{error}"
        );
    }

    #[test]
    fn each_failure_of_tls_says_what_to_do() {
        let said = |failure| of_tls(failure).to_string();
        for (failure, advice) in [
            (TlsFailure::InvalidCertificate(CertificateError::UnknownIssuer), "--ca"),
            (
                TlsFailure::InvalidCertificate(CertificateError::NotValidForName),
                "in the URL",
            ),
            (TlsFailure::InvalidCertificate(CertificateError::Expired), "renew"),
            (
                TlsFailure::AlertReceived(AlertDescription::CertificateRequired),
                "--cert",
            ),
            (
                TlsFailure::InvalidMessage(tokio_rustls::rustls::InvalidMessage::InvalidContentType),
                "http://",
            ),
        ] {
            let said = said(failure);
            assert!(said.contains(advice), "{said}");
        }
    }
}
