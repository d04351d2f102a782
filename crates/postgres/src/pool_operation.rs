//! What an operator does to a PostgreSQL pool: resize, replace, pause, warm up, drain a host, end it.
//!
//! Invariant: every change takes effect with the call, and a future only waits for what follows from it.

use std::time::Duration;

use cenote_pool::{ConnectionInfo, Limits};

use crate::{Connection, HostState, InvalidConfig, Pool, Result};

impl Pool {
    /// Returns the current limits of the pool.
    pub fn limits(&self) -> Limits {
        self.inner.limits()
    }

    /// Changes the limits, at once. See [`cenote_pool::Pool::resize`].
    ///
    /// # Errors
    ///
    /// The limits contradict each other. Nothing changes then.
    pub fn resize(&self, limits: Limits) -> std::result::Result<(), InvalidConfig> {
        Ok(self.inner.resize(limits)?)
    }

    /// Stops handing out and opening connections, for example to restart the server. Callers wait until their own
    /// deadlines. The pause begins with the call; the future completes when no connection is in use. See
    /// [`cenote_pool::Pool::pause`].
    ///
    /// # Cancel safety
    ///
    /// The pause stays when the future is dropped.
    pub fn pause(&self) -> impl Future<Output = ()> + Send + '_ {
        self.inner.pause()
    }

    /// Ends a [`pause`](Self::pause).
    pub fn resume(&self) {
        self.inner.resume();
    }

    /// Inspects every idle connection now, and cleans or closes those that are not clean. The pool does so by itself about
    /// every second. See [`cenote_pool::Pool::inspect_idle`].
    pub fn inspect_idle(&self) {
        self.inner.inspect_idle();
    }

    /// Closes the idle connections for which `keep` returns false, and returns how many. Those in use are left alone. See
    /// [`cenote_pool::Pool::retain`].
    ///
    /// ```no_run
    /// # fn example(pool: &cenote_postgres::Pool) {
    /// pool.retain(|connection, info| connection.host() != "db2:5432" && info.uses < 10_000);
    /// # }
    /// ```
    pub fn retain(&self, keep: impl FnMut(&mut Connection, ConnectionInfo) -> bool) -> usize {
        self.inner.retain(keep)
    }

    /// Replaces every connection that exists now, for example after the role or the certificate has changed: idle ones are
    /// closed at once, those in use when they are returned. No caller gets an error by it. See
    /// [`cenote_pool::Pool::replace_all`].
    pub fn replace_all(&self) {
        self.inner.replace_all();
    }

    /// Waits until `min_size` connections are open, for at most `connect_timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`warm_up_within`](Self::warm_up_within).
    ///
    /// # Cancel safety
    ///
    /// Safe: the pool connects in any case.
    pub async fn warm_up(&self) -> Result<()> {
        Ok(self.inner.warm_up().await?)
    }

    /// Waits until the configured minimum of connections is open, for at most this time.
    ///
    /// # Errors
    ///
    /// [`Error::Acquire`](crate::Error::Acquire) if fewer are open by then, and at once if the pool is closed or connects cannot succeed. The pool
    /// goes on connecting.
    ///
    /// # Cancel safety
    ///
    /// Safe: the pool connects in any case.
    pub async fn warm_up_within(&self, limit: Duration) -> Result<()> {
        Ok(self.inner.warm_up_within(limit).await?)
    }

    /// Returns the hosts of the database, in the order of the configuration.
    pub fn hosts(&self) -> Vec<HostState> {
        self.inner.manager().router().watch().hosts()
    }

    /// Takes a host out of use, for example to move or restart it. Returns false if there is no such host.
    ///
    /// Idle connections to it are closed now, others when they are returned. New ones are opened on the other hosts.
    /// `host` is as [`Connection::host`](crate::Connection::host) returns it.
    ///
    /// If no host is left, connecting fails until one is [restored](Self::restore_host).
    pub fn drain_host(&self, host: &str) -> bool {
        self.inner.manager().router().watch().set_drained(host, true)
    }

    /// Ends [`drain_host`](Self::drain_host). Open connections stay where they are.
    pub fn restore_host(&self, host: &str) -> bool {
        self.inner.manager().router().watch().set_drained(host, false)
    }

    /// Refuses new callers, serves those in the queue, and completes when all connections are closed.
    ///
    /// # Cancel safety
    ///
    /// The drain continues when the future is dropped.
    pub async fn drain(&self) {
        self.inner.drain().await;
    }

    /// Like [`drain`](Self::drain), and like [`close`](Self::close) once this time is over. It does not wait for what is in
    /// use then: that is closed when it is released. Returns whether every connection was released and closed in time.
    ///
    /// # Cancel safety
    ///
    /// The drain continues when the future is dropped.
    pub async fn drain_within(&self, limit: Duration) -> bool {
        self.inner.drain_within(limit).await
    }

    /// Like [`drain`](Self::drain), but refuses the callers in the queue too.
    ///
    /// # Cancel safety
    ///
    /// The close continues when the future is dropped.
    pub async fn close(&self) {
        self.inner.close().await;
    }
}
