//! The response to a head that hyper cannot parse.
//!
//! hyper answers such a request by itself, with a status and no body, and then closes the connection; it has no hook for
//! it. So the socket recognizes these few bytes and sends a problem in their place, with the headers that every response
//! has.
//!
//! Invariant: only hyper's own responses are replaced. The service sends no 4xx with an empty body, and JSON has no bare line
//! breaks, so the rest of a body that begins a write never looks like one.

use std::fmt::Write;

use cenote_trace::RequestId;
use tokio::time::Instant;

use super::date;
use super::head::LONGEST_TARGET;
use super::request_id::X_REQUEST_ID;
use super::security_headers::SECURITY_HEADERS;
use crate::http::problem::Problem;

/// How each of hyper's responses begins, up to the status.
const BEGINNING: &[u8] = b"HTTP/1.1 4";
/// What follows the status line in each of them.
const EMPTY: &[u8] = b"\r\nconnection: close\r\ncontent-length: 0\r\n";
/// They have a date beside that, and are shorter than this.
const LONGEST: usize = 160;

/// Returns what to send in place of `written`, if that is hyper's response to a head that it cannot parse.
pub(in crate::http) fn replacement(written: &[u8]) -> Option<Vec<u8>> {
    if !written.starts_with(BEGINNING) || written.len() > LONGEST {
        return None;
    }
    let line = written.windows(2).position(|two| two == b"\r\n")?;
    if !written[line..].starts_with(EMPTY) {
        return None;
    }
    let problem = match &written[9..12] {
        b"414" => Problem::uri_too_long(LONGEST_TARGET),
        b"431" => Problem::head_too_large("the head of the request is too long or has too many headers"),
        b"400" => Problem::bad_request("the head of the request cannot be parsed"),
        _ => return None,
    };
    Some(render(written.get(9..line)?, &problem))
}

fn render(status: &[u8], problem: &Problem) -> Vec<u8> {
    // Cannot fail: all keys are texts.
    let body = serde_json::to_vec(problem).unwrap_or_default();
    let mut head = String::with_capacity(512);
    // Cannot fail: memory accepts every write.
    let _never = write!(
        head,
        "HTTP/1.1 {}\r\ncontent-type: application/problem+json\r\ncontent-length: {}\r\nconnection: close\r\n\
         cache-control: no-cache\r\n",
        String::from_utf8_lossy(status),
        body.len(),
    );
    let id = RequestId::random();
    tracing::debug!(
        status = &*String::from_utf8_lossy(status),
        request_id = %id,
        "the head of a request cannot be parsed"
    );
    let _never = write!(head, "{}: {id}\r\n", X_REQUEST_ID.as_str());
    if let Some(date) = date::at(Instant::now()) {
        let _never = write!(head, "date: {}\r\n", date.to_str().unwrap_or_default());
    }
    for (name, value) in SECURITY_HEADERS {
        let _never = write!(head, "{name}: {value}\r\n");
    }
    head.push_str("\r\n");
    let mut all = head.into_bytes();
    all.extend_from_slice(&body);
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_an_empty_4xx_that_closes_is_replaced() {
        let of =
            |status: &str| format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: 0\r\ndate: now\r\n\r\n");
        for status in [
            "400 Bad Request",
            "414 URI Too Long",
            "431 Request Header Fields Too Large",
        ] {
            let sent = String::from_utf8(replacement(of(status).as_bytes()).unwrap()).unwrap();
            let (head, body) = sent.split_once("\r\n\r\n").unwrap();
            assert!(head.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{head}");
            assert!(head.contains(&format!("content-length: {}\r\n", body.len())), "{head}");
            assert!(head.contains("x-content-type-options: nosniff"), "{head}");
            let problem: serde_json::Value = serde_json::from_str(body).unwrap();
            assert_eq!(problem["status"].to_string(), status[..3]);
        }
        for written in [
            of("200 OK"),
            of("404 Not Found"),
            of("400 Bad Request").replace("length: 0", "length: 9"),
            of("400 Bad Request").replace("close", "keep-alive"),
            "HTTP/1.1 4".to_owned(),
            String::new(),
        ] {
            assert_eq!(replacement(written.as_bytes()), None, "{written}");
        }
    }
}
