//! Resolves the names of hosts. Invariant: nothing is cached; every call asks again.

use std::{fmt, io, net::SocketAddr, sync::Arc};

use futures_util::future::BoxFuture;
use tokio::net::lookup_host;

type Lookup = dyn Fn(String, u16) -> BoxFuture<'static, io::Result<Vec<SocketAddr>>> + Send + Sync;

/// Resolves the names of hosts. The default is the resolver of the operating system.
#[derive(Clone, Default)]
pub struct Resolver(Option<Arc<Lookup>>);

impl Resolver {
    /// Uses a function. It gets a name and a port, and returns addresses with that port.
    pub fn from_fn<F, Fut>(function: F) -> Self
    where
        F: Fn(String, u16) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<Vec<SocketAddr>>> + Send + 'static,
    {
        Self(Some(Arc::new(move |name, port| Box::pin(function(name, port)))))
    }

    /// Returns the addresses of a name; at least one.
    pub(crate) async fn resolve(&self, name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        let addresses = match &self.0 {
            Some(function) => function(name.to_owned(), port).await?,
            None => lookup_host((name, port)).await?.collect(),
        };
        match addresses.is_empty() {
            true => Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address")),
            false => Ok(addresses),
        }
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Some(_) => "Function",
            None => "System",
        })
    }
}
