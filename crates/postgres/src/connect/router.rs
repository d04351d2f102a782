//! Finds a suitable host and opens a session on it. Invariant: every host gets its share of the time that is left, so
//! that a silent one does not keep the others from being tried.

use std::sync::Arc;

use tokio::time::{Instant, timeout_at};
use tokio_postgres::{Client, config::LoadBalanceHosts};

use super::{
    credentials::Password,
    dialer::Dialer,
    dns::Resolver,
    failover_watch::FailoverWatch,
    host_binding::{HostBinding, is_outage},
    host_registry::Address,
    hosts::targets,
    tls::Tls,
    url,
};
use crate::{
    ConnectionError, InvalidConfig,
    server_role::{ServerRole, TargetSession},
    tap::{Link, Opened},
    timer::after,
};

/// Opens sessions on suitable hosts.
#[derive(Debug)]
pub(crate) struct Router {
    server: tokio_postgres::Config,
    password: Option<Password>,
    watch: Arc<FailoverWatch>,
    dialer: Arc<Dialer>,
}

/// An open session and its host.
pub(crate) struct OpenSession {
    pub(crate) client: Client,
    pub(crate) link: Link,
    pub(crate) binding: HostBinding,
}

/// The state of one search for a host.
struct Search {
    server: tokio_postgres::Config,
    /// A session on an unsuitable host, used if there is no suitable one (`prefer-standby`).
    spare: Option<OpenSession>,
}

impl Router {
    /// # Errors
    ///
    /// The configuration names no host, or asks for something unsupported; or a certificate or key cannot be used.
    pub(crate) fn new(
        server: &tokio_postgres::Config,
        tls: &Tls,
        wanted: TargetSession,
        password: Option<Password>,
        resolver: Resolver,
    ) -> Result<Self, InvalidConfig> {
        let targets = targets(server);
        if targets.is_empty() {
            return Err(InvalidConfig::NoHost);
        }
        url::check(server)?;
        let unsupported = tls.check(server);
        unsupported.map_err(InvalidConfig::Unsupported)?;
        let random = server.get_load_balance_hosts() == LoadBalanceHosts::Random;
        Ok(Self {
            server: server.clone(),
            password,
            watch: Arc::new(FailoverWatch::new(targets, wanted, resolver, random)),
            dialer: Arc::new(Dialer::new(server, tls)?),
        })
    }

    /// Returns the watch of the hosts.
    pub(crate) fn watch(&self) -> &Arc<FailoverWatch> {
        &self.watch
    }

    /// Opens a session on a suitable host.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future closes the connection that was being opened; its host counts as failed.
    pub(crate) async fn open(&self, deadline: Instant) -> Result<OpenSession, ConnectionError> {
        let mut server = self.server.clone();
        if let Some(password) = &self.password {
            server.password(password.get().await.map_err(ConnectionError::Password)?);
        }
        let mut search = Search { server, spare: None };
        let mut failures = Vec::new();
        let candidates = self.watch.registry.hosts();
        for (index, candidate) in candidates.iter().enumerate() {
            if candidate.in_backoff && search.spare.is_some() {
                break;
            }
            let host = candidate.index;
            let limit = share(deadline, candidates.len() - index);
            let attempt = self.watch.registry.attempt(host, None);
            let found = timeout_at(limit, self.try_host(&mut search, host, limit)).await;
            match found.unwrap_or_else(|_| Err(ConnectionError::timed_out(self.watch.name(host)))) {
                Ok(Some(session)) => {
                    attempt.answered(session.binding.role);
                    return Ok(session);
                }
                Ok(None) => {
                    attempt.forgive();
                    failures.push((self.watch.name(host).to_owned(), self.watch.unsuitable(host)));
                }
                Err(error) => failures.push((self.watch.name(host).to_owned(), error)),
            }
        }
        search.spare.ok_or_else(|| all_failed(failures))
    }

    /// Tries the addresses of one host. Returns `None` if it answers but is not suitable.
    async fn try_host(
        &self,
        search: &mut Search,
        host: usize,
        deadline: Instant,
    ) -> Result<Option<OpenSession>, ConnectionError> {
        let endpoints = self.watch.resolve(host).await?;
        let addresses = self.watch.registry.addresses(host, &endpoints);
        let mut seen = None;
        let mut failure = None;
        for (index, address) in addresses.iter().enumerate() {
            if address.in_backoff && (seen.is_some() || search.spare.is_some()) {
                break;
            }
            let mut limit = share(deadline, addresses.len() - index);
            if let Some(longest) = self.server.get_connect_timeout() {
                limit = limit.min(after(Instant::now(), *longest));
            }
            let attempt = self.watch.registry.attempt(host, Some(&address.endpoint));
            let opened = timeout_at(limit, self.session(search, host, address, limit)).await;
            match opened.unwrap_or_else(|_| Err(ConnectionError::timed_out(self.watch.name(host)))) {
                Ok(session) => {
                    let role = session.binding.role;
                    attempt.answered(role);
                    if self.watch.wanted.suits(role) {
                        return Ok(Some(session));
                    }
                    seen = Some(role);
                    if self.watch.wanted == TargetSession::PreferStandby {
                        search.spare.get_or_insert(session);
                    }
                }
                Err(error) if error.is_permanent() && !error.depends_on_address() => {
                    return Err(error);
                }
                Err(error) => {
                    failure = Some(match failure.take() {
                        Some(before) => ConnectionError::more_useful(before, error),
                        None => error,
                    });
                }
            }
        }
        match (seen, failure) {
            (Some(role), _) => {
                self.watch.registry.attempt(host, None).answered(role);
                Ok(None)
            }
            (None, Some(failure)) => Err(failure),
            (None, None) => Ok(None),
        }
    }

    /// Opens a session at an address, whatever the role of the server.
    async fn session(
        &self,
        search: &Search,
        host: usize,
        address: &Address,
        deadline: Instant,
    ) -> Result<OpenSession, ConnectionError> {
        let opened_in = address.generation.current();
        let target = &self.watch.targets[host];
        let started = self.dialer.start(&search.server, target, &address.endpoint, deadline);
        let (opened, is_encrypted) = started.await.inspect_err(|error| {
            if let ConnectionError::Refused(refusal) = error
                && is_outage(refusal.code().code())
            {
                self.watch.evict(host, refusal.code().code());
            }
        })?;
        let Opened { client, link, role } = opened;
        let role = match role {
            Some(role) => role,
            None => ServerRole::ask(&client).await?,
        };
        let binding = HostBinding {
            watch: self.watch.clone(),
            dialer: self.dialer.clone(),
            host,
            endpoint: address.endpoint.clone(),
            generation: address.generation.clone(),
            opened_in,
            role,
            is_encrypted,
        };
        Ok(OpenSession { client, link, binding })
    }
}

/// Returns the error when all hosts failed.
fn all_failed(mut failures: Vec<(String, ConnectionError)>) -> ConnectionError {
    match failures.len() {
        0 => ConnectionError::Failed("every host is drained".to_owned()),
        1 => failures.remove(0).1,
        _ => ConnectionError::EachHost(failures),
    }
}

/// Returns the deadline of one of `left` attempts: an equal part of the time until `deadline`.
fn share(deadline: Instant, left: usize) -> Instant {
    let now = Instant::now();
    let left = u32::try_from(left).unwrap_or(u32::MAX);
    now + deadline.saturating_duration_since(now) / left
}
