//! Where spans go, and what is told of this service.
//!
//! Invariant: the headers may hold credentials, so they are never printed; and they go to nobody but the collector.

use std::fmt;
use std::str::FromStr;

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use cenote_secret::Secret;
use percent_encoding::percent_decode_str;

use crate::http_client::HttpUrl;

/// The path of traces below the URL of a collector, by the protocol.
const TRACES: &str = "/v1/traces";

/// The base URL of a collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtlpUrl(HttpUrl);

impl OtlpUrl {
    /// The URL of traces.
    pub(super) fn of_traces(&self) -> HttpUrl {
        self.0.below(TRACES)
    }
}

impl FromStr for OtlpUrl {
    /// The complaint continues a sentence that starts with the URL.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self)
    }
}

impl fmt::Display for OtlpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Headers of each request to the collector, such as one that authenticates.
#[derive(Clone, Debug, Default)]
pub(crate) struct OtlpHeaders(Secret<HeaderMap>);

impl OtlpHeaders {
    /// Parses `name=value,name=value`, where values are percent-encoded (OpenTelemetry, `OTEL_EXPORTER_OTLP_HEADERS`).
    ///
    /// # Errors
    ///
    /// What is wrong, without the text.
    pub(crate) fn parse(text: &str) -> Result<Self, &'static str> {
        let mut headers = HeaderMap::new();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let (name, value) = part.split_once('=').ok_or("holds a part without =")?;
            let name: HeaderName = name
                .trim()
                .parse()
                .map_err(|_| "holds a name that no header can have")?;
            let value = percent_decode_str(value.trim()).collect::<Vec<u8>>();
            let mut value = HeaderValue::from_bytes(&value).map_err(|_| "holds a value that no header can have")?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(Self(Secret::new(headers)))
    }

    pub(super) fn expose(&self) -> &HeaderMap {
        self.0.expose()
    }
}

/// What the export needs.
#[derive(Clone, Debug)]
pub(crate) struct OtlpConfig {
    pub(crate) url: OtlpUrl,
    pub(crate) headers: OtlpHeaders,
    /// The name of this service.
    pub(crate) service: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traces_go_below_the_url_of_the_collector() {
        for (base, expected) in [
            ("http://localhost:4318", "http://localhost:4318/v1/traces"),
            ("https://otlp.example/otlp/", "https://otlp.example/otlp/v1/traces"),
        ] {
            let url: OtlpUrl = base.parse().unwrap();
            assert_eq!(url.of_traces().to_string(), expected);
        }
        assert!("localhost:4318".parse::<OtlpUrl>().is_err());
    }

    #[test]
    fn headers_are_parsed_and_never_shown() {
        let headers = OtlpHeaders::parse("Authorization=Bearer%20s3cret, x-tenant=shop,").unwrap();
        assert_eq!(headers.expose()["authorization"], "Bearer s3cret");
        assert_eq!(headers.expose()["x-tenant"], "shop");
        assert!(!format!("{headers:?}").contains("s3cret"));
        for wrong in ["s3cret", "a b=s3cret", "name=s3%0acret"] {
            let complaint = OtlpHeaders::parse(wrong).unwrap_err();
            assert!(!complaint.contains("s3"), "{complaint}");
        }
    }
}
