//! The hosts of a configuration, and the order in which to try them.
//!
//! Pure: it opens nothing and reads no clock; time is a `Duration` since some moment. Invariant: every host that is not
//! drained is a candidate at every connect; its record only decides the order.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use tokio_postgres::{Config, config::Host};

use crate::server_role::{ServerRole, TargetSession};

const DEFAULT_PORT: u16 = 5432;

/// The pause after a failure of a host. It doubles with each further failure in a row, up to the longest.
const FIRST_BACKOFF: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(30);

/// The shortest time between two evictions of one host's connections.
const EVICTION_PAUSE: Duration = Duration::from_secs(1);

/// A host of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) kind: TargetKind,
    /// The name that a certificate must be for.
    pub(crate) name: String,
    /// The name with its port, as it is shown to users.
    pub(crate) shown: String,
}

/// How the address of a host is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum TargetKind {
    /// A name, with the port. Resolved at every connect.
    Name(u16),
    Address(SocketAddr),
    Socket(PathBuf),
}

impl Target {
    /// Whether it is resolved at every connect.
    pub(crate) fn is_name(&self) -> bool {
        matches!(self.kind, TargetKind::Name(_))
    }
}

/// Returns the hosts with their ports, paired as in libpq: one port for all, or one for each. A `hostaddr` replaces its
/// host's name, except when a certificate is checked.
pub(crate) fn targets(config: &Config) -> Vec<Target> {
    let (hosts, addresses) = (config.get_hosts(), config.get_hostaddrs());
    let ports = config.get_ports();
    let target = |index| {
        let port = ports.get(index).or_else(|| ports.first());
        let port = port.copied().unwrap_or(DEFAULT_PORT);
        let address = addresses.get(index).map(|&ip| SocketAddr::new(ip, port));
        match hosts.get(index) {
            Some(Host::Tcp(name)) => {
                let is_address = name.parse().map(|ip| SocketAddr::new(ip, port));
                Some(Target {
                    name: name.clone(),
                    shown: match is_address {
                        Ok(address) => address.to_string(),
                        Err(_) => format!("{name}:{port}"),
                    },
                    kind: match address.or(is_address.ok()) {
                        Some(address) => TargetKind::Address(address),
                        None => TargetKind::Name(port),
                    },
                })
            }
            Some(Host::Unix(directory)) if address.is_none() => {
                let path = directory.join(format!(".s.PGSQL.{port}"));
                Some(Target {
                    name: String::new(),
                    shown: path.display().to_string(),
                    kind: TargetKind::Socket(path),
                })
            }
            _ => address.map(|address| Target {
                name: address.ip().to_string(),
                shown: address.to_string(),
                kind: TargetKind::Address(address),
            }),
        }
    };
    (0..hosts.len().max(addresses.len())).filter_map(target).collect()
}

/// What is known about a host, or about one of its addresses.
#[derive(Clone, Debug, Default)]
pub(crate) struct HostRecord {
    /// Failures in a row.
    failures: u32,
    backoff_until: Duration,
    /// The role when it last answered.
    role: Option<ServerRole>,
    evicted: Option<Duration>,
}

/// A host to try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Candidate {
    pub(crate) index: usize,
    /// It failed recently, so it is tried last.
    pub(crate) in_backoff: bool,
}

impl HostRecord {
    pub(crate) fn failed(&mut self, now: Duration) {
        self.failures = self.failures.saturating_add(1);
        self.back_off(now);
        self.role = None;
    }

    pub(crate) fn answered(&mut self, role: ServerRole) {
        self.failures = 0;
        self.role = Some(role);
    }

    /// Allows an eviction of the host's connections, at most one in [`EVICTION_PAUSE`]. So a host that keeps raising
    /// alarms cannot keep its users reconnecting.
    pub(crate) fn evict(&mut self, now: Duration) -> bool {
        let allowed = self.evicted.is_none_or(|last| now >= last + EVICTION_PAUSE);
        if allowed {
            self.evicted = Some(now);
            self.role = None;
        }
        allowed
    }

    fn back_off(&mut self, now: Duration) {
        let doublings = self.failures.saturating_sub(1).min(16);
        self.backoff_until = now + (FIRST_BACKOFF * (1 << doublings)).min(LONGEST_BACKOFF);
    }

    fn is_in_backoff(&self, now: Duration) -> bool {
        self.failures > 0 && now < self.backoff_until
    }

    /// Returns the rank of the host; lower ranks are tried first.
    fn rank(&self, wanted: TargetSession) -> u8 {
        match self.role {
            Some(role) if wanted.suits(role) => 0,
            None if wanted == TargetSession::Any => 0,
            None => 1,
            Some(_) => 2,
        }
    }
}

/// Returns all hosts in the order in which to try them: suitable when last seen, unknown, unsuitable, and last those
/// that failed recently. Equal hosts keep their order, or are shuffled.
///
/// A host whose pause is over is tried early again, but only by one connect at a time; the pause goes on for the
/// others. So a host that never answers delays one connect now and then, not all.
pub(crate) fn order<'a>(
    records: impl Iterator<Item = &'a mut HostRecord>,
    wanted: TargetSession,
    now: Duration,
    shuffle: Option<impl FnMut(&mut [Candidate])>,
) -> Vec<Candidate> {
    let mut ranks = Vec::new();
    let mut candidates = Vec::new();
    for (index, record) in records.enumerate() {
        let in_backoff = record.is_in_backoff(now);
        if record.failures > 0 && !in_backoff {
            record.back_off(now);
        }
        ranks.push(record.rank(wanted));
        candidates.push(Candidate { index, in_backoff });
    }
    if let Some(mut shuffle) = shuffle {
        shuffle(&mut candidates);
    }
    candidates.sort_by_key(|candidate| (candidate.in_backoff, ranks[candidate.index]));
    candidates
}

#[cfg(test)]
#[path = "hosts_tests.rs"]
mod tests;
