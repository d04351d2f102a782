//! The change feed: what bypasses the service is dropped from the cache. Invariant: every change that was committed while
//! the triggers stood is either dropped by its key or covered by dropping everything.

use std::{
    sync::{
        Arc,
        atomic::{
            AtomicBool, AtomicU64,
            Ordering::{Relaxed, SeqCst},
        },
    },
    time::Duration,
};

use cenote_cache::{cache::Cache, fenced::Coherence};
use cenote_postgres::{Event, Listener, ListenerOptions, Pool};
use tokio::time::{Instant, sleep, timeout};

use super::origin::Values;

/// Sessions that are opened with this are not told of: they are the service's own.
pub(crate) const OWN_SESSION: &str = "-c cenote.writer=on";

const CHANNEL: &str = "cenote_feed";
/// Stands for all keys.
const EVERYTHING: &str = "*";
/// Begins what an instance sends to itself, to see how long it takes.
const PROBE: &str = "probe ";
const NOTIFY: &str = "SELECT pg_notify($1, $2)";

/// How soon a session that is gone without a word is missed: the sum of both at the latest.
const OPTIONS: ListenerOptions = ListenerOptions {
    buffer: 4096,
    check_every: Duration::from_secs(1),
    check_timeout: Duration::from_secs(1),
};
const PROBE_EVERY: Duration = Duration::from_secs(5);
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// What the feed has heard, and how far behind it is.
#[derive(Default)]
pub(crate) struct Feed {
    listening: AtomicBool,
    /// Keys that were dropped.
    keys: AtomicU64,
    /// Times that everything was dropped.
    everything: AtomicU64,
    /// Of the last probe that came back, in microseconds.
    lag: AtomicU64,
}

/// A moment in the life of a feed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FeedStats {
    pub(crate) listening: bool,
    pub(crate) keys: u64,
    pub(crate) everything: u64,
    pub(crate) lag: Duration,
}

impl Feed {
    pub(crate) fn stats(&self) -> FeedStats {
        FeedStats {
            listening: self.listening.load(Relaxed),
            keys: self.keys.load(Relaxed),
            everything: self.everything.load(Relaxed),
            lag: Duration::from_micros(self.lag.load(Relaxed)),
        }
    }

    /// Follows the feed for ever.
    pub(super) async fn follow(self: Arc<Self>, pool: Pool, cache: Cache<Values>) {
        let probes = Probes::new(pool.clone());
        tokio::join!(self.hear(&pool, &cache, &probes), probes.send());
    }

    async fn hear(&self, pool: &Pool, cache: &Cache<Values>, probes: &Probes) {
        let mut listener = listen(pool).await;
        self.listening.store(true, Relaxed);
        // Nobody listened to what came before.
        self.drop_everything(cache).await;
        loop {
            let heard = timeout(TRY_AGAIN, listener.recv()).await;
            self.listening.store(listener.is_connected(), Relaxed);
            let payload = match heard {
                Ok(Event::Notification { payload, .. }) => payload,
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
            sleep(TRY_AGAIN).await;
        }
        self.keys.fetch_add(keys.len() as u64, Relaxed);
    }

    async fn drop_everything(&self, cache: &Cache<Values>) {
        while let Err(error) = cache.distrust().await {
            tracing::debug!(%error, "the cache cannot be told yet that changes may have been missed");
            sleep(TRY_AGAIN).await;
        }
        self.everything.fetch_add(1, Relaxed);
    }
}

/// Listens, as soon as that is possible.
async fn listen(pool: &Pool) -> Listener {
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
        sleep(TRY_AGAIN).await;
    }
}

/// What an instance sends to itself now and then: it comes back behind everything that was committed before.
struct Probes {
    pool: Pool,
    instance: u64,
    begun: Instant,
    /// When the newest was sent, in microseconds since `begun`, which is its name too.
    newest: AtomicU64,
}

impl Probes {
    fn new(pool: Pool) -> Self {
        Self {
            pool,
            instance: fastrand::u64(..),
            begun: Instant::now(),
            newest: AtomicU64::new(0),
        }
    }

    async fn send(&self) {
        loop {
            let at = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX);
            self.newest.store(at, SeqCst);
            let payload = format!("{PROBE}{:x} {at}", self.instance);
            let sent = async {
                let connection = self.pool.get().await?;
                connection.query(NOTIFY, &[&CHANNEL, &payload]).await
            };
            if let Err(error) = sent.await {
                tracing::debug!(%error, "cannot probe the change feed");
            }
            sleep(PROBE_EVERY).await;
        }
    }

    /// How long the newest probe took, if this is it.
    fn returned(&self, probe: &str) -> Option<Duration> {
        let (instance, at) = probe.split_once(' ')?;
        let instance = u64::from_str_radix(instance, 16).ok()?;
        let at: u64 = at.parse().ok()?;
        if instance != self.instance || at != self.newest.load(SeqCst) {
            return None;
        }
        Some(self.begun.elapsed().saturating_sub(Duration::from_micros(at)))
    }
}
