//! The source of a password that may change while the cache runs. Invariant: the password is read for each connection, and
//! never printed.

use std::{fmt, io, sync::Arc};

use cenote_secret::Secret;
use futures_util::future::BoxFuture;

type Function = dyn Fn() -> BoxFuture<'static, io::Result<Secret<String>>> + Send + Sync;

/// The source of the password, asked for each new connection in place of the password of the URL. Open connections
/// continue after a rotation.
#[derive(Clone)]
pub struct RedisPassword(Arc<Function>);

impl RedisPassword {
    /// Calls a function for the password. Its time counts towards the timeout of the connect.
    pub fn from_fn<F, Fut>(function: F) -> Self
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output = io::Result<Secret<String>>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(function())))
    }

    pub(crate) async fn get(&self) -> io::Result<Secret<String>> {
        (self.0)().await
    }
}

/// Two sources are equal if they are clones of one.
impl PartialEq for RedisPassword {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for RedisPassword {}

impl fmt::Debug for RedisPassword {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RedisPassword")
    }
}
