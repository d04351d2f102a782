//! The configuration in force, which may be replaced while connections are open.
//!
//! Invariant: a connection keeps the timeouts that were in force when it was accepted; everything about a request is
//! decided by what is in force when the request arrives.

use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use axum::http::HeaderValue;

use super::config::HttpConfig;

/// The configuration in force. Clones share it.
#[derive(Debug, Clone)]
pub struct LiveConfig(Arc<ArcSwap<InForce>>);

/// A configuration, and what follows from it.
#[derive(Debug)]
pub(super) struct InForce {
    config: HttpConfig,
    /// `Strict-Transport-Security`, if it is on.
    pub(super) hsts: Option<HeaderValue>,
}

impl Deref for InForce {
    type Target = HttpConfig;
    fn deref(&self) -> &HttpConfig {
        &self.config
    }
}

impl From<HttpConfig> for InForce {
    fn from(config: HttpConfig) -> Self {
        let hsts = config.hsts.map(hsts);
        Self { config, hsts }
    }
}

impl From<HttpConfig> for LiveConfig {
    fn from(config: HttpConfig) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(config.into())))
    }
}

impl LiveConfig {
    /// Replaces the configuration. What depends on the sockets or on hyper's settings stays as it was at the start:
    /// `max_connections`, `max_streams`, `ping_interval`, `slow_request`, `max_header_bytes`, `sampling`, and the trusted
    /// proxies.
    pub fn replace(&self, new: &HttpConfig) {
        let old = self.0.load();
        let config = HttpConfig {
            max_connections: old.max_connections,
            max_streams: old.max_streams,
            ping_interval: old.ping_interval,
            slow_request: old.slow_request,
            max_header_bytes: old.max_header_bytes,
            trusted_proxies: old.trusted_proxies.clone(),
            proxy_header: old.proxy_header,
            sampling: old.sampling,
            ..new.clone()
        };
        self.0.store(Arc::new(config.into()));
    }

    /// Returns the configuration in force, for a moment: not to be held across an await.
    pub(super) fn load(&self) -> Guard<Arc<InForce>> {
        self.0.load()
    }

    /// Returns the configuration in force, to be kept.
    pub(super) fn load_full(&self) -> Arc<InForce> {
        self.0.load_full()
    }
}

/// Returns the value of `Strict-Transport-Security`: browsers use only TLS for this long after a response. Subdomains are
/// not included, because the service cannot know what else runs there.
fn hsts(max_age: Duration) -> HeaderValue {
    // Cannot fail: digits are valid in a header.
    HeaderValue::try_from(format!("max-age={}", max_age.as_secs()))
        .unwrap_or_else(|_| HeaderValue::from_static("max-age=0"))
}
