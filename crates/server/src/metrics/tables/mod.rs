//! The metrics of the service itself. Invariant: no label has text of a request, a key or an address.

mod access;
mod http;
mod service;
