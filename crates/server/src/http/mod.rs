//! The HTTP transport: sockets, connections, timeouts, request bodies and error responses. It serves any [`Service`],
//! an [`axum::Router`] among others, and knows nothing about the routes.
//!
//! Invariant: whatever a peer sends or fails to send, it holds no connection, task or memory without a bound.
//!
//! | To find | Look in |
//! |---|---|
//! | who accepts, and what happens at the limit of connections | `accept_loop`, `listener`, `refusals` |
//! | which connections are open, on which core, and the drain | `connections` |
//! | one connection's lifetime, and who is at its other end | `connection`, `socket`, `stream`, `timeouts`, `peer` |
//! | what precedes HTTP on a connection | `opening`, `proxy_protocol`, `tls` |
//! | settings that change while the server runs | `live_config` |
//! | the client behind proxies | `client_address` |
//! | what happens to a request before and after its handler; security headers, compression | `request_layer` |
//! | which pages of other origins may read responses | `cors` |
//! | where the time of a request went, and which requests are traced | `server_timing`, `sampling` |
//! | what is counted of connections and requests, and which failed | `traffic`, `failures` |
//! | which requests a browser sends for a page | `cross_site` |
//! | bodies of requests and responses | `body` |
//! | JSON, path and query parameters, and their validation | `extract`, `validation` |
//! | error responses | `problem` |
//! | the trait a handler implements, and axum behind it | `service`, `router` |
//!
//! One task accepts for all cores, so that each core gets the same number of connections. A listening socket for each
//! core would leave that to chance, and would let a second service take the same port unnoticed.

mod accept_loop;
mod body;
mod client_address;
mod config;
mod connection;
mod connections;
mod cors;
mod cross_site;
mod extract;
mod failures;
mod listener;
mod live_config;
mod opening;
mod peer;
mod problem;
mod proxy_protocol;
mod refusals;
mod request_layer;
mod router;
mod sampling;
mod server_timing;
mod service;
mod socket;
mod stream;
mod timeouts;
mod tls;
mod traffic;
mod validation;

pub use accept_loop::{Core, serve};
pub use body::{BodyError, FullResponse, RequestBody, ResponseBody};
pub(crate) use client_address::X_FORWARDED_FOR;
pub use client_address::{ClientAddresses, InvalidNetwork, ProxyHeader, TrustedProxies, client_address};
pub use config::HttpConfig;
pub use connections::Drained;
pub(crate) use cors::check_origin;
pub use cors::{Cors, CorsError};
pub(crate) use cross_site::{SEC_FETCH_SITE, is_cross_site, is_of_page};
pub use extract::{Json, Key, Number, Path, Query, decode_key, number};
pub use failures::FailedRequest;
pub use listener::{TcpListeners, bind};
pub use live_config::LiveConfig;
pub use peer::Peer;
pub use problem::{Cause, Member, Problem};
pub use proxy_protocol::{NoHeader, Source, header_length, parse_header};
pub use request_layer::Compressible;
#[cfg(fuzzing)]
pub use request_layer::accepts_gzip;
pub(crate) use request_layer::{panic_text, prefers_gzip};
pub use router::with_fallbacks;
pub use sampling::Sampling;
pub use server_timing::{Stage, Stopwatch, Timings};
pub use service::Service;
pub(crate) use tls::host_name_in;
pub use tls::{ClientCertificates, PreparedTls, Tls, TlsConfig, TlsError, TlsStats, TlsVersion};
pub use traffic::{RouteNames, RouteStats, Traffic, TrafficStats};
pub use validation::{between, characters, entries, no_nul};
