//! The accept loop, from the listening socket to the drained end.
//!
//! Invariant: the loop never waits for a connection, only for the next one, and for the shutdown.

use std::pin::pin;
use std::sync::Arc;

use axum::Router;
use tokio::net::TcpListener;

use super::config::HttpConfig;
use super::connection::{Protocol, run};
use super::fleet::{Drained, Fleet};
use super::listener::accept;
use super::refuse::Refusals;

/// Serves `router` on `listener` until `shutdown` resolves, then drains: no connection is accepted any more,
/// idle ones are closed, requests in flight are answered, and after
/// [`drain_timeout`](HttpConfig::drain_timeout) the rest is cut.
///
/// Connections run as tasks of the current runtime. Not cancel safe: dropped, it stops accepting, and leaves
/// the connections to their own limits.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    config: HttpConfig,
    shutdown: impl Future<Output = ()>,
) -> Drained {
    let fleet = Fleet::new();
    let refusals = Refusals::new();
    let (most, bound) = (config.max_connections, config.drain_timeout);
    let protocol = Arc::new(Protocol::new(router, config));
    let mut shutdown = pin!(shutdown);
    loop {
        let stream = tokio::select! {
            biased;
            () = &mut shutdown => break,
            stream = accept(&listener) => stream,
        };
        match fleet.join(most) {
            Some(member) => drop(tokio::spawn(run(stream, member, Arc::clone(&protocol)))),
            None => refusals.refuse(stream),
        }
    }
    drop(listener);
    fleet.drain(bound).await
}
