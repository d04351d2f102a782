//! The change feed: drops keys from the cache that were changed outside the service.
//!
//! Invariant: for every change that is committed while the triggers exist, either its key is dropped, or the whole cache.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use cenote_cache::{Cache, Coherence};
use cenote_postgres::{Event, Listener, ListenerOptions, Pool};
use tokio::time::{Instant, sleep, timeout};

use super::keys::Values;

/// The connection option that marks the service's own sessions. The triggers ignore their changes.
pub(crate) const OWN_SESSION: &str = "-c cenote.writer=on";

/// The channel on which the triggers notify.
const CHANNEL: &str = "cenote_feed";
/// The payload that stands for all keys.
const EVERYTHING: &str = "*";
/// The first word of a notification that an instance sends to itself, to measure the feed's delay.
const PROBE: &str = "probe ";
const NOTIFY: &str = "SELECT pg_notify($1, $2)";

/// A session that ended unnoticed is detected after at most the sum of the two times.
const OPTIONS: ListenerOptions = ListenerOptions {
    buffer: 4096,
    check_every: Duration::from_secs(1),
    check_timeout: Duration::from_secs(1),
};
const PROBE_INTERVAL: Duration = Duration::from_secs(5);
/// The pause between attempts, and how often the listener's state is checked.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// The state of the feed. Its fields are statistics and guard no memory, so relaxed ordering is enough.
#[derive(Default)]
pub(crate) struct ChangeFeed {
    listening: AtomicBool,
    /// Keys dropped.
    keys: AtomicU64,
    /// How often the whole cache was dropped.
    everything: AtomicU64,
    /// The delay of the last probe that came back, in microseconds.
    lag: AtomicU64,
}

/// Statistics of the feed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FeedStats {
    pub(crate) listening: bool,
    pub(crate) keys: u64,
    pub(crate) everything: u64,
    pub(crate) lag: Duration,
}

impl ChangeFeed {
    pub(crate) fn stats(&self) -> FeedStats {
        FeedStats {
            listening: self.listening.load(Relaxed),
            keys: self.keys.load(Relaxed),
            everything: self.everything.load(Relaxed),
            lag: Duration::from_micros(self.lag.load(Relaxed)),
        }
    }

    /// Follows the feed. Never returns.
    pub(super) async fn follow(self: Arc<Self>, pool: Pool, cache: Cache<Values>) {
        let probes = Probes::new(pool.clone());
        tokio::join!(self.listen(&pool, &cache, &probes), probes.send());
    }

    async fn listen(&self, pool: &Pool, cache: &Cache<Values>, probes: &Probes) {
        let mut listener = connect(pool).await;
        self.listening.store(true, Relaxed);
        // Earlier changes were not heard.
        self.drop_everything(cache).await;
        loop {
            let event = timeout(RETRY_INTERVAL, listener.recv()).await;
            self.listening.store(listener.is_connected(), Relaxed);
            let payload = match event {
                Ok(Event::Notification { payload, .. }) => payload,
                // The connection was lost and opened again; notifications in between are lost.
                Ok(Event::Gap) => EVERYTHING.to_owned(),
                Err(_) => continue,
            };
            if let Some(probe) = payload.strip_prefix(PROBE) {
                if let Some(lag) = probes.returned(probe) {
                    let micros = u64::try_from(lag.as_micros()).unwrap_or(u64::MAX);
                    self.lag.store(micros, Relaxed);
                }
                continue;
            }
            match serde_json::from_str::<Vec<String>>(&payload) {
                Ok(keys) => self.drop_keys(cache, &keys).await,
                Err(_) => self.drop_everything(cache).await,
            }
        }
    }

    async fn drop_keys(&self, cache: &Cache<Values>, keys: &[String]) {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        while cache.invalidate(&keys).await == Coherence::Pending {
            sleep(RETRY_INTERVAL).await;
        }
        self.keys.fetch_add(keys.len() as u64, Relaxed);
    }

    async fn drop_everything(&self, cache: &Cache<Values>) {
        while let Err(error) = cache.distrust().await {
            tracing::debug!(%error, "cannot drop the cache yet, although changes may have been missed");
            sleep(RETRY_INTERVAL).await;
        }
        self.everything.fetch_add(1, Relaxed);
    }
}

/// Opens a session that listens; retries until it succeeds.
async fn connect(pool: &Pool) -> Listener {
    let mut config = pool.config().clone();
    let name = config.server.get_application_name().unwrap_or("cenote");
    let name = format!("{name} feed");
    config.server.application_name(name);
    loop {
        match Listener::connect_with(&config, OPTIONS).await {
            Ok(listener) => match listener.listen(CHANNEL).await {
                Ok(()) => return listener,
                Err(error) => tracing::debug!(%error, "cannot listen to the change feed yet"),
            },
            Err(error) => tracing::debug!(%error, "cannot connect for the change feed yet"),
        }
        sleep(RETRY_INTERVAL).await;
    }
}

/// Notifications that an instance sends to itself. PostgreSQL delivers notifications in the order of commits, so a probe
/// comes back after every change that was committed before it.
struct Probes {
    pool: Pool,
    instance: u64,
    started: Instant,
    /// When the newest probe was sent, in microseconds since `started`. It is also the probe's name.
    newest: AtomicU64,
}

impl Probes {
    fn new(pool: Pool) -> Self {
        Self {
            pool,
            instance: fastrand::u64(..),
            started: Instant::now(),
            newest: AtomicU64::new(0),
        }
    }

    async fn send(&self) {
        loop {
            let at = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.newest.store(at, Relaxed);
            let payload = format!("{PROBE}{:x} {at}", self.instance);
            let sent = async {
                let connection = self.pool.get().await?;
                connection.query(NOTIFY, &[&CHANNEL, &payload]).await
            };
            if let Err(error) = sent.await {
                tracing::debug!(%error, "cannot probe the change feed");
            }
            sleep(PROBE_INTERVAL).await;
        }
    }

    /// Returns the delay of a probe, if it is this instance's newest one.
    fn returned(&self, probe: &str) -> Option<Duration> {
        let (instance, at) = probe.split_once(' ')?;
        let instance = u64::from_str_radix(instance, 16).ok()?;
        let at: u64 = at.parse().ok()?;
        if instance != self.instance || at != self.newest.load(Relaxed) {
            return None;
        }
        Some(self.started.elapsed().saturating_sub(Duration::from_micros(at)))
    }
}
