//! The settings of the limits. Invariant: whatever they are, [`Limits`](super::Limits) can be made of them.

use super::classes::{Base, RouteClasses};
use super::policy::Policy;
use super::verdict::{HeaderStyle, HeadersOn};

/// The settings of the limits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LimitsConfig {
    /// Of requests that change nothing. Initially off.
    pub read: Policy,
    /// Of requests that change keys or users. Initially off.
    pub write: Policy,
    /// Of requests to administer the service. Initially off.
    pub admin: Policy,
    /// Of requests without valid credentials, by address. Initially `20/min`.
    pub auth_failures: Policy,
    /// Further classes. Initially none.
    pub classes: RouteClasses,
    /// The buckets in the table: one for each window of a limit that a caller has used lately. Initially 65,536.
    pub buckets: usize,
    /// How many leading bits of an IPv6 address stand for a caller: at most 128. Initially 64.
    pub ipv6_prefix: u8,
    /// Which responses tell the limits.
    pub headers: HeadersOn,
    /// Whether `X-RateLimit-…` headers are sent as well. Initially off.
    pub legacy_headers: bool,
    /// The number of instances that share the limits through Redis: see [`Limits::share`](super::Limits::share). Initially none.
    pub shared_by: Option<u32>,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            read: Policy::OFF,
            write: Policy::OFF,
            admin: Policy::OFF,
            auth_failures: Policy::auth_failures(),
            classes: RouteClasses::default(),
            buckets: 65_536,
            ipv6_prefix: 64,
            headers: HeadersOn::All,
            legacy_headers: false,
            shared_by: None,
        }
    }
}

impl LimitsConfig {
    /// The name and the limit of each class, in the order of their ids.
    pub(super) fn policies(&self) -> impl Iterator<Item = (&str, &Policy)> {
        let bases = Base::ALL.into_iter().map(|base| {
            let policy = match base {
                Base::Read => &self.read,
                Base::Write => &self.write,
                Base::Admin => &self.admin,
                Base::AuthFailures => &self.auth_failures,
            };
            (base.name(), policy)
        });
        bases.chain(self.classes.iter())
    }

    pub(super) fn style(&self) -> HeaderStyle {
        HeaderStyle {
            on: self.headers,
            legacy: self.legacy_headers,
        }
    }
}
