//! The handle. Invariant: it holds nothing but its share of the pool, so every clone is as good as
//! any other.

use std::{fmt, panic::Location, sync::Arc, time::Duration};

use tokio::runtime::Handle;

use crate::{
    AcquireError, Config, ConnectError, InvalidConfig, Manager, OwnedPooled, Pooled, Stats,
    acquire::{acquire, take},
    guard::Guard,
    lifecycle::Shared,
    tally::Tally,
};

/// A pool of connections. Cloning it gives another handle to the same pool.
///
/// When the last handle and the last guard are gone, idle connections are dropped without waiting;
/// [`close`](Self::close) ends them in good order.
pub struct Pool<M: Manager> {
    shared: Arc<Shared<M>>,
}

impl<M: Manager> Pool<M> {
    /// Builds a pool and starts opening `min_size` connections in the background, on the current
    /// tokio runtime, where all connects and closes of this pool will run.
    ///
    /// # Errors
    ///
    /// The configuration contradicts itself.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, or in one without timers.
    pub fn new(manager: M, config: Config) -> Result<Self, InvalidConfig> {
        config.validate()?;
        let shared = Shared::start(manager, config, Handle::current());
        Ok(Self { shared })
    }

    /// Takes a connection, waiting in line for at most `acquire_timeout`.
    ///
    /// # Errors
    ///
    /// The time ran out, too many callers are waiting, or the pool is closed.
    ///
    /// # Cancel safety
    ///
    /// Dropping the future leaves the line; a connection handed over in that moment goes to the
    /// next in line.
    #[track_caller]
    pub fn get(
        &self,
    ) -> impl Future<Output = Result<Pooled<'_, M>, AcquireError<M::Error>>> + Send {
        self.get_within(self.shared.config.acquire_timeout)
    }

    /// The same with another bound on the wait.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    #[track_caller]
    pub fn get_within(
        &self,
        limit: Duration,
    ) -> impl Future<Output = Result<Pooled<'_, M>, AcquireError<M::Error>>> + Send {
        acquire(&self.shared, limit, Location::caller())
    }

    /// As [`get`](Self::get), with a guard that does not borrow from this handle.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    #[track_caller]
    pub fn get_owned(
        &self,
    ) -> impl Future<Output = Result<OwnedPooled<M>, AcquireError<M::Error>>> + Send + use<M> {
        let limit = self.shared.config.acquire_timeout;
        acquire(self.shared.clone(), limit, Location::caller())
    }

    /// Takes a connection if one is idle, without waiting.
    #[track_caller]
    pub fn try_get(&self) -> Option<Pooled<'_, M>> {
        let (live, _) = take(&self.shared, Location::caller())?;
        Some(Guard::new(&self.shared, live))
    }

    /// What the pool has done and is doing.
    pub fn stats(&self) -> Stats {
        let now = self.shared.now();
        let config = &self.shared.config;
        let mut tally = Tally::default();
        let core = self.shared.core();
        tally.copy_from(core.tally());
        let census = core.census();
        let failures = core.failures();
        let (longest_wait, open) = (core.longest_wait(now), core.is_open());
        drop(core);

        let counts = tally.counts;
        let mut waiting_times = tally.waiting_times;
        waiting_times.record_many(Duration::ZERO, counts.acquired_at_once);
        Stats {
            min_size: config.min_size,
            max_size: config.max_size,
            max_overflow: config.max_overflow,
            idle: census.idle,
            in_use: census.in_use,
            connecting: census.connecting,
            cleaning: census.cleaning,
            closing: census.closing,
            waiting: census.waiting,
            longest_wait,
            open,
            acquired: waiting_times.count() + tally.connecting_times.count(),
            timeouts: counts.timeouts,
            refused: counts.refused,
            connects: tally.connect_times.count(),
            connect_failures: counts.connect_failures,
            connect_failures_in_a_row: failures,
            cleaned: counts.cleaned,
            retired: counts.retired,
            waiting_times,
            connecting_times: tally.connecting_times,
            connect_times: tally.connect_times,
        }
    }

    /// Why the most recent connect failed, if none has succeeded since.
    pub fn last_connect_error(&self) -> Option<Arc<ConnectError<M::Error>>> {
        self.shared.core().last_error()
    }

    /// The pool's manager.
    pub fn manager(&self) -> &M {
        &self.shared.manager
    }

    /// The pool's configuration.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// Refuses newcomers, serves whoever is in line, and completes when every connection has come
    /// back and is closed.
    ///
    /// # Cancel safety
    ///
    /// The drain goes on when the future is dropped; calling again waits for its end.
    pub async fn drain(&self) {
        self.shared.shut(true).await;
    }

    /// As [`drain`](Self::drain), but refuses those in line too.
    ///
    /// # Cancel safety
    ///
    /// As [`drain`](Self::drain).
    pub async fn close(&self) {
        self.shared.shut(false).await;
    }
}

impl<M: Manager> Clone for Pool<M> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<M: Manager> fmt::Debug for Pool<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let census = self.shared.core().census();
        f.debug_tuple("Pool").field(&census).finish()
    }
}
