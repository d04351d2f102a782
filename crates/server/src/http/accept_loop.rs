//! The accept loop: it accepts connections for all cores and hands each to one.
//!
//! Invariant: the loop waits for nothing but the next connection and the shutdown, so no peer can hold it up.

use std::pin::pin;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use super::client_address::ClientAddresses;
use super::connection::{Protocol, run};
use super::connections::Drained;
use super::listener::{Accepted, TcpListeners};
use super::live_config::LiveConfig;
use super::refusals::Refusals;
use super::request_layer::{Compressor, RequestLayer, RequestLog};
use super::service::Service;
use super::traffic::Traffic;

/// One core: where its connections are served, and by what.
#[derive(Debug)]
pub struct Core<S> {
    /// Runs the tasks of the connections.
    pub runtime: Handle,
    /// Answers the requests of this core's connections.
    pub service: S,
}

/// Serves the sockets until `shutdown` resolves, then drains.
///
/// Each connection stays on the core that had the fewest connections when it was accepted. The limits in `config` hold
/// for all cores together.
///
/// Connections and requests are counted in `traffic`, which must be for as many cores.
///
/// Once `leaving` has resolved, every response closes its connection. Clients that reconnect then reach another
/// instance, so the drain closes few connections while a request is on its way.
///
/// The drain accepts no further connection, closes idle ones, lets requests in flight finish, and closes what is left
/// after [`drain_timeout`](super::HttpConfig::drain_timeout).
///
/// # Cancel safety
///
/// Not cancel safe: when dropped, it stops accepting, and open connections run until they end or reach a timeout.
pub async fn serve<S: Service>(
    listeners: impl Into<TcpListeners>,
    cores: Vec<Core<S>>,
    config: impl Into<LiveConfig>,
    traffic: Arc<Traffic>,
    leaving: impl Future<Output = ()>,
    shutdown: impl Future<Output = ()>,
) -> Drained {
    let mut listeners = listeners.into();
    let connections = Arc::clone(&traffic.connections);
    let opening = Arc::new(listeners.opening());
    let refusals = Refusals::new(opening.tls.is_some());
    // Its tasks end with it.
    let mut background = JoinSet::new();
    if let Some(tls) = opening.tls.clone() {
        background.spawn(async move { tls.follow_files().await });
    }
    let live = config.into();
    let config = live.load_full();
    let log = Arc::new(RequestLog::new(config.slow_request));
    let protocol = Arc::new(Protocol::new(&config));
    let clients = Arc::new(ClientAddresses::new(
        config.trusted_proxies.clone(),
        config.proxy_header,
    ));
    let compressor = Compressor::new();
    let layer = |(number, core): (usize, Core<S>)| {
        let layer = RequestLayer {
            service: core.service,
            config: live.clone(),
            log: Arc::clone(&log),
            connections: Arc::clone(&connections),
            traffic: Arc::clone(&traffic),
            core: number,
            clients: Arc::clone(&clients),
            compressor: compressor.clone(),
            sampling: config.sampling,
        };
        (core.runtime, Arc::new(layer))
    };
    let cores: Vec<_> = cores.into_iter().enumerate().map(layer).collect();
    let (mut leaving, mut shutdown) = (pin!(leaving.fuse()), pin!(shutdown));
    loop {
        let (stream, peer) = tokio::select! {
            biased;
            () = &mut shutdown => break,
            () = &mut leaving => {
                connections.leave();
                continue;
            }
            accepted = listeners.accept() => match accepted {
                Accepted::Normal(stream, peer) => (stream, peer),
                Accepted::OutOfDescriptors(stream) => {
                    traffic.refuse_without_descriptor();
                    refusals.refuse_at_once(&stream);
                    continue;
                }
            },
        };
        match connections.admit(config.max_connections) {
            Some(permit) => {
                traffic.accept();
                let (runtime, layer) = &cores[permit.core()];
                // Deregistered from this runtime, so that the serving core's reactor watches the socket.
                // If that fails, the peer has gone.
                if let Ok(stream) = stream.into_std() {
                    let serving = run(
                        stream,
                        peer,
                        permit,
                        Arc::clone(&opening),
                        Arc::clone(&protocol),
                        Arc::clone(layer),
                    );
                    runtime.spawn(serving);
                }
            }
            None => {
                traffic.refuse_at_limit();
                refusals.refuse(stream);
            }
        }
    }
    drop(listeners);
    let drain_timeout = live.load().drain_timeout;
    connections.drain(drain_timeout).await
}
