//! The record of each host and address: what answered, failed or was evicted.
//!
//! Lock: one mutex, held for a few instructions and never across an await. Invariant: an attempt ends as answered, as
//! failed, or as neutral; one that is dropped before its end has failed.

#![allow(
    clippy::significant_drop_tightening,
    reason = "each method is one short critical section, to its end"
)]

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    connect::hosts::{Candidate, HostRecord, order},
    connect::socket::Endpoint,
    server_role::{ServerRole, TargetSession},
};

/// An address must be missing from this many look-ups in a row: some resolvers return only a part of the addresses.
const MISSES: u32 = 2;

/// Counts the evictions of the connections to one address. A connection remembers the count at its start. `Relaxed`:
/// only the number matters, no other memory is published with it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Generation(Arc<AtomicU64>);

impl Generation {
    pub(crate) fn advance(&self) {
        self.0.fetch_add(1, Relaxed);
    }

    pub(crate) fn is_in_use(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    pub(crate) fn current(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// The records of all hosts, in the order of the configuration.
#[derive(Debug)]
pub(crate) struct HostRegistry {
    hosts: Mutex<Vec<Host>>,
    started: Instant,
    wanted: TargetSession,
    /// Equally ranked hosts are tried in random order.
    random: bool,
}

#[derive(Debug, Default)]
struct Host {
    record: HostRecord,
    /// No connection is opened to it.
    drained: bool,
    /// The addresses of the last look-up, and older ones that are still in use.
    addresses: Vec<KnownAddress>,
}

#[derive(Debug)]
struct KnownAddress {
    endpoint: Endpoint,
    generation: Generation,
    record: HostRecord,
    /// The number of look-ups in a row without this address.
    misses: u32,
}

/// An address to try.
pub(crate) struct Address {
    pub(crate) endpoint: Endpoint,
    pub(crate) generation: Generation,
    /// It failed recently, so it is tried last.
    pub(crate) in_backoff: bool,
}

impl HostRegistry {
    pub(crate) fn new(count: usize, wanted: TargetSession, random: bool) -> Self {
        Self {
            hosts: Mutex::new((0..count).map(|_| Host::default()).collect()),
            started: Instant::now(),
            wanted,
            random,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Host>> {
        self.hosts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn shuffle(&self) -> Option<impl FnMut(&mut [Candidate])> {
        self.random
            .then_some(|candidates: &mut [Candidate]| fastrand::shuffle(candidates))
    }

    /// Returns all hosts that are not drained, in the order in which to try them.
    pub(crate) fn hosts(&self) -> Vec<Candidate> {
        let mut hosts = self.lock();
        let records = hosts.iter_mut().map(|host| &mut host.record);
        let mut candidates = order(records, self.wanted, self.now(), self.shuffle());
        candidates.retain(|candidate| !hosts[candidate.index].drained);
        candidates
    }

    /// Whether a host is drained.
    pub(crate) fn is_drained(&self, host: usize) -> bool {
        self.lock().get(host).is_some_and(|host| host.drained)
    }

    /// Drains a host, which evicts its connections, or ends that.
    pub(crate) fn set_drained(&self, host: usize, drained: bool) {
        let mut hosts = self.lock();
        let Some(host) = hosts.get_mut(host) else {
            return;
        };
        host.drained = drained;
        if drained {
            host.addresses.iter().for_each(|known| known.generation.advance());
        }
    }

    /// Returns the addresses of a host in the order in which to try them.
    pub(crate) fn addresses(&self, host: usize, endpoints: &[Endpoint]) -> Vec<Address> {
        let now = self.now();
        let mut hosts = self.lock();
        let Some(host) = hosts.get_mut(host) else {
            return Vec::new();
        };
        host.addresses
            .retain(|known| known.generation.is_in_use() || endpoints.contains(&known.endpoint));
        for endpoint in endpoints {
            if host.known(endpoint).is_none() {
                host.addresses.push(KnownAddress::new(endpoint));
            }
        }
        let listed = |known: &&mut KnownAddress| endpoints.contains(&known.endpoint);
        let mut addresses: Vec<_> = host.addresses.iter_mut().filter(listed).collect();
        // In the order of the resolver.
        addresses.sort_by_key(|known| endpoints.iter().position(|other| *other == known.endpoint));
        let records = addresses.iter_mut().map(|known| &mut known.record);
        order(records, self.wanted, now, self.shuffle())
            .into_iter()
            .filter_map(|Candidate { index, in_backoff }| {
                let known = addresses.get(index)?;
                Some(Address {
                    endpoint: known.endpoint.clone(),
                    generation: known.generation.clone(),
                    in_backoff,
                })
            })
            .collect()
    }

    /// Begins an attempt at a host, or at one of its addresses.
    pub(crate) fn attempt<'a>(&'a self, host: usize, endpoint: Option<&'a Endpoint>) -> Attempt<'a> {
        Attempt {
            registry: self,
            host,
            endpoint,
            settled: false,
        }
    }

    fn settle(&self, host: usize, endpoint: Option<&Endpoint>, role: Option<ServerRole>) {
        let now = self.now();
        let mut hosts = self.lock();
        let Some(host) = hosts.get_mut(host) else {
            return;
        };
        let record = match endpoint {
            None => &mut host.record,
            Some(endpoint) => match host.known(endpoint) {
                Some(known) => &mut known.record,
                None => return,
            },
        };
        match role {
            Some(role) => record.answered(role),
            None => record.failed(now),
        }
    }

    /// Evicts the connections to a host. Returns false if that was done a moment ago.
    pub(crate) fn evict(&self, host: usize) -> bool {
        let now = self.now();
        let mut hosts = self.lock();
        let Some(host) = hosts.get_mut(host) else {
            return false;
        };
        let evicted = host.record.evict(now);
        if evicted {
            host.addresses.iter().for_each(|known| known.generation.advance());
        }
        evicted
    }

    /// Notes the addresses of a look-up. Evicts connections to addresses that the name no longer has; returns true if
    /// there were any.
    pub(crate) fn resolved(&self, host: usize, endpoints: &[Endpoint]) -> bool {
        let mut hosts = self.lock();
        let Some(host) = hosts.get_mut(host) else {
            return false;
        };
        let mut evicted = false;
        for known in &mut host.addresses {
            known.misses = match endpoints.contains(&known.endpoint) {
                true => 0,
                false => known.misses + 1,
            };
            if known.misses == MISSES && known.generation.is_in_use() {
                known.generation.advance();
                evicted = true;
            }
        }
        host.addresses
            .retain(|known| known.misses < MISSES || known.generation.is_in_use());
        evicted
    }
}

impl Host {
    fn known(&mut self, endpoint: &Endpoint) -> Option<&mut KnownAddress> {
        self.addresses.iter_mut().find(|known| known.endpoint == *endpoint)
    }
}

impl KnownAddress {
    fn new(endpoint: &Endpoint) -> Self {
        Self {
            endpoint: endpoint.clone(),
            generation: Generation::default(),
            record: HostRecord::default(),
            misses: 0,
        }
    }
}

/// An attempt at a host, or at one of its addresses. If dropped before its end, it has failed.
pub(crate) struct Attempt<'a> {
    registry: &'a HostRegistry,
    host: usize,
    endpoint: Option<&'a Endpoint>,
    settled: bool,
}

impl Attempt<'_> {
    /// The host answered and has this role.
    pub(crate) fn answered(mut self, role: ServerRole) {
        self.settled = true;
        self.registry.settle(self.host, self.endpoint, Some(role));
    }

    /// The result says nothing about the host.
    pub(crate) fn forgive(mut self) {
        self.settled = true;
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.registry.settle(self.host, self.endpoint, None);
        }
    }
}
