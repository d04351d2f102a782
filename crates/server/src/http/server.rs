//! The accept loop, from the listening socket to the drained end.
//!
//! Invariant: the loop never waits for a connection, only for the next one, and for the shutdown.

use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::runtime::Handle;

use super::config::HttpConfig;
use super::connection::{Protocol, run};
use super::edge::Edge;
use super::fleet::{Drained, Fleet};
use super::listener::{Accepted, Listeners};
use super::refuse::Refusals;
use super::request_log::RequestLog;
use super::service::Service;

/// Where connections are served, and what is served there.
#[derive(Debug)]
pub struct Core<S> {
    /// Their tasks run here.
    pub runtime: Handle,
    /// What is served, with whatever of this core's it needs.
    pub service: S,
}

/// Serves on these sockets until `shutdown` resolves, then drains. Once `leaving` has resolved, every answer closes its
/// connection: clients that come back find another instance, and few connections are left for the drain to close
/// under a request that is on its way. The drain: no connection is accepted any more, idle ones are
/// closed, requests in flight are answered, and after [`drain_timeout`](HttpConfig::drain_timeout) the rest is cut.
///
/// Each connection is served on the core that has the fewest, to its end. Limits are for all cores together. Not
/// cancel safe: dropped, it stops accepting, and leaves the connections to their own limits.
pub async fn serve<S: Service>(
    listeners: impl Into<Listeners>,
    cores: Vec<Core<S>>,
    config: HttpConfig,
    leaving: impl Future<Output = ()>,
    shutdown: impl Future<Output = ()>,
) -> Drained {
    let mut listeners = listeners.into();
    let fleet = Fleet::new(cores.len());
    let refusals = Refusals::new();
    let (most, bound) = (config.max_connections, config.drain_timeout);
    let log = Arc::new(RequestLog::new(config.slow_request));
    let config = Arc::new(config);
    let protocol = Arc::new(Protocol::new(&config));
    let edge = |core: Core<S>| {
        let edge = Edge {
            service: core.service,
            config: Arc::clone(&config),
            log: Arc::clone(&log),
            fleet: Arc::clone(&fleet),
        };
        (core.runtime, Arc::new(edge))
    };
    let cores: Vec<_> = cores.into_iter().map(edge).collect();
    let (mut leaving, mut shutdown) = (pin!(leaving.fuse()), pin!(shutdown));
    loop {
        let stream = tokio::select! {
            biased;
            () = &mut shutdown => break,
            () = &mut leaving => {
                fleet.leave();
                continue;
            }
            accepted = listeners.accept() => match accepted {
                Accepted::Served(stream) => stream,
                Accepted::Surplus(stream) => {
                    refusals.refuse_at_once(&stream);
                    continue;
                }
            },
        };
        match fleet.join(most) {
            Some(member) => {
                let (runtime, edge) = &cores[member.core()];
                // Off this runtime, so that its readiness is noticed where it is served. A failure is the peer's.
                if let Ok(stream) = stream.into_std() {
                    let serving = run(stream, member, Arc::clone(&protocol), Arc::clone(edge));
                    runtime.spawn(serving);
                }
            }
            None => refusals.refuse(stream),
        }
    }
    drop(listeners);
    fleet.drain(bound).await
}
