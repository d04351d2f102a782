//! Watches the hosts of a pool while it runs: names that move, servers that stop, roles that change.
//!
//! Invariant: the connections to a host are evicted at most once a second, however often sessions report errors.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{sleep, timeout},
};

use super::{
    dns::Resolver,
    host_registry::HostRegistry,
    hosts::{Target, TargetKind},
    socket::Endpoint,
};
use crate::{
    ConnectionError,
    server_role::{ServerRole, TargetSession},
};

/// The longest wait for a look-up that no connect waits for.
const LOOKUP: Duration = Duration::from_secs(5);

/// A host of the database, and whether it is in use.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HostState {
    /// The name, as the configuration has it: `name:port`, or the path of a socket.
    pub name: String,
    /// Whether it was taken out of use by [`Pool::drain_host`](crate::Pool::drain_host).
    pub is_drained: bool,
}

/// The hosts of a pool, their records, and the alarm that has them checked.
#[derive(Debug)]
pub(crate) struct FailoverWatch {
    pub(super) targets: Vec<Target>,
    pub(super) wanted: TargetSession,
    pub(super) registry: HostRegistry,
    resolver: Resolver,
    /// Wakes the task that waits in [`inspection_due`](Self::inspection_due).
    alarm: Notify,
    /// The next call of `inspection_due` looks names up first. It runs in one task, so `Relaxed` is enough.
    names_due: AtomicBool,
}

impl FailoverWatch {
    /// Creates a watch. `random`: equally suitable hosts are tried in random order.
    pub(super) fn new(targets: Vec<Target>, wanted: TargetSession, resolver: Resolver, random: bool) -> Self {
        Self {
            registry: HostRegistry::new(targets.len(), wanted, random),
            targets,
            wanted,
            resolver,
            alarm: Notify::new(),
            names_due: AtomicBool::new(false),
        }
    }

    /// Returns the name of a host, as the configuration has it.
    pub(crate) fn name(&self, host: usize) -> &str {
        &self.targets[host].shown
    }

    /// Returns the current addresses of a host.
    pub(super) async fn resolve(&self, host: usize) -> Result<Vec<Endpoint>, ConnectionError> {
        let target = &self.targets[host];
        match &target.kind {
            TargetKind::Address(address) => Ok(vec![Endpoint::Tcp(*address)]),
            TargetKind::Socket(path) => Ok(vec![Endpoint::Unix(path.clone())]),
            TargetKind::Name(port) => {
                let resolved = self.resolver.resolve(&target.name, *port).await;
                let resolved = resolved.map_err(|cause| ConnectionError::unreachable(self.name(host), cause))?;
                Ok(resolved.into_iter().map(Endpoint::Tcp).collect())
            }
        }
    }

    /// Returns the hosts, in the order of the configuration.
    pub(crate) fn hosts(&self) -> Vec<HostState> {
        let host = |(index, target): (usize, &Target)| HostState {
            name: target.shown.clone(),
            is_drained: self.registry.is_drained(index),
        };
        self.targets.iter().enumerate().map(host).collect()
    }

    /// Drains the hosts with this name, or ends that. Returns false if there are none.
    pub(crate) fn set_drained(&self, name: &str, drained: bool) -> bool {
        let named = |host: &usize| self.name(*host) == name;
        let hosts: Vec<_> = (0..self.targets.len()).filter(named).collect();
        for &host in &hosts {
            self.registry.set_drained(host, drained);
        }
        self.check_hosts();
        !hosts.is_empty()
    }

    /// Whether the pool depends on the role of a server.
    pub(crate) fn role_matters(&self) -> bool {
        self.wanted != TargetSession::Any
    }

    /// Whether a connection may continue after the role of its server changed from `then` to `now`.
    pub(crate) fn keeps(&self, then: ServerRole, now: ServerRole) -> bool {
        now == then || (self.role_matters() && self.wanted.suits(now))
    }

    /// Evicts the connections to a host, unless that was done a moment ago.
    pub(super) fn evict(&self, host: usize, reason: &str) {
        if self.registry.evict(host) {
            let host = self.name(host);
            tracing::warn!(host, reason, "connections to this host are replaced");
            self.check_hosts();
        }
    }

    /// Wakes the task in [`inspection_due`](Self::inspection_due), so that names and idle connections are checked.
    pub(crate) fn check_hosts(&self) {
        self.alarm.notify_one();
    }

    /// Waits until connections may have been evicted or a name has moved. Looks names up after each `interval` and each
    /// alarm.
    ///
    /// # Cancel safety
    ///
    /// Safe: an interrupted look-up is repeated.
    pub(crate) async fn inspection_due(&self, interval: Option<Duration>) {
        let interval = interval.filter(|_| self.has_names());
        loop {
            if self.names_due.load(Relaxed) {
                let moved = self.look_up_names().await;
                self.names_due.store(false, Relaxed);
                if moved {
                    return;
                }
            }
            let elapsed = async {
                match interval {
                    Some(interval) => sleep(interval).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                // Return at once, so that evicted connections are closed before the look-ups, which may be slow.
                () = self.alarm.notified() => {
                    self.names_due.store(true, Relaxed);
                    return;
                }
                () = elapsed => self.names_due.store(true, Relaxed),
            }
        }
    }

    /// Looks all names up and evicts connections to addresses that they no longer have. Returns true if there were any.
    /// A name that does not resolve changes nothing.
    async fn look_up_names(&self) -> bool {
        let mut moved = false;
        for host in 0..self.targets.len() {
            if !self.targets[host].is_name() {
                continue;
            }
            match timeout(LOOKUP, self.resolve(host)).await {
                Ok(Ok(endpoints)) => {
                    if self.registry.resolved(host, &endpoints) {
                        let host = self.name(host);
                        tracing::info!(host, "the name has moved; its connections move too");
                        moved = true;
                    }
                }
                Ok(Err(error)) => tracing::debug!(%error, "a name does not resolve"),
                Err(_) => tracing::debug!("a name does not resolve in time"),
            }
        }
        moved
    }

    /// Whether any host is a name, whose address may change.
    fn has_names(&self) -> bool {
        self.targets.iter().any(Target::is_name)
    }

    pub(crate) fn unsuitable(&self, host: usize) -> ConnectionError {
        ConnectionError::Unsuitable {
            host: self.name(host).to_owned(),
            wanted: self.wanted.as_str(),
        }
    }
}
