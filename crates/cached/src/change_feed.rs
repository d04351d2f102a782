//! The change feed: drops rows from the cache that were changed without telling it.
//!
//! Invariant: for every change that is committed while the triggers exist, either its key is dropped, or the whole cache.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use cenote_cache::{Cache, Coherence, Origin};
use cenote_postgres::{Error, Event, Listener, ListenerOptions, Pool};
use tokio::time::{sleep, timeout};

use crate::origin::{AnyTable, NoTable};

/// The channel on which the triggers notify.
const CHANNEL: &str = "cenote_cached";

/// A session that ended unnoticed is detected after at most the sum of the two times.
const OPTIONS: ListenerOptions = ListenerOptions {
    buffer: 4096,
    check_every: Duration::from_secs(1),
    check_timeout: Duration::from_secs(1),
};
/// The pause between attempts, and how often the listener's state is checked.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);

/// The state of the feed. Its fields are statistics and guard no memory, so relaxed ordering is enough.
#[derive(Default)]
pub(crate) struct ChangeFeed {
    is_followed: AtomicBool,
    is_listening: AtomicBool,
    /// Keys dropped.
    keys: AtomicU64,
    /// How often the whole cache was dropped.
    everything: AtomicU64,
}

/// What a change feed has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct FeedStats {
    /// Whether changes are heard now.
    pub is_listening: bool,
    /// Keys dropped.
    pub keys: u64,
    /// How often everything was dropped, because changes may have been missed.
    pub everything: u64,
}

type Tables = BTreeMap<String, Arc<dyn AnyTable<Error>>>;

/// What a notification says.
#[derive(Debug, PartialEq, Eq)]
enum Changed {
    /// These texts of keys in the cache.
    Keys(Vec<String>),
    /// Anything.
    Everything,
}

impl Changed {
    /// Parses `table ["key",…]` or `table *`.
    fn parse(payload: &str, tables: &Tables) -> Self {
        let Some((name, keys)) = payload.split_once(' ') else {
            return Self::Everything;
        };
        let Some(keys) = serde_json::from_str::<Vec<String>>(keys).ok() else {
            return Self::Everything;
        };
        let text = |key: String| match tables.get(name) {
            Some(table) => table.text_of(&key),
            // A table of another program with the same Redis.
            None => Some(format!("{name}:{key}")),
        };
        keys.into_iter()
            .map(text)
            .collect::<Option<_>>()
            .map_or(Self::Everything, Self::Keys)
    }
}

impl ChangeFeed {
    pub(crate) fn stats(&self) -> FeedStats {
        FeedStats {
            is_listening: self.is_listening.load(Relaxed),
            keys: self.keys.load(Relaxed),
            everything: self.everything.load(Relaxed),
        }
    }

    /// Whether changes are heard, if they are followed at all.
    pub(crate) fn is_complete(&self) -> bool {
        !self.is_followed.load(Relaxed) || self.is_listening.load(Relaxed) && self.everything.load(Relaxed) > 0
    }

    /// Follows the feed. Never returns.
    pub(crate) async fn follow(
        &self,
        pool: &Pool,
        cache: &Cache<NoTable<Error>>,
        tables: &(dyn Fn() -> Tables + Send + Sync),
    ) {
        self.is_followed.store(true, Relaxed);
        let mut listener = connect(pool).await;
        self.is_listening.store(true, Relaxed);
        // Earlier changes were not heard.
        self.drop_everything(cache).await;
        loop {
            let event = timeout(RETRY_INTERVAL, listener.recv()).await;
            self.is_listening.store(listener.is_connected(), Relaxed);
            let changed = match event {
                Ok(Event::Notification { payload, .. }) => Changed::parse(&payload, &tables()),
                // The connection was lost and opened again; notifications in between are lost.
                Ok(Event::Gap) => Changed::Everything,
                Err(_) => continue,
            };
            match changed {
                Changed::Keys(keys) => self.drop_keys(cache, &keys).await,
                Changed::Everything => self.drop_everything(cache).await,
            }
        }
    }

    async fn drop_keys<O: Origin>(&self, cache: &Cache<O>, keys: &[String]) {
        let keys: Vec<&str> = keys.iter().map(String::as_str).collect();
        while cache.invalidate(&keys).await == Coherence::Pending {
            sleep(RETRY_INTERVAL).await;
        }
        self.keys.fetch_add(keys.len() as u64, Relaxed);
    }

    async fn drop_everything<O: Origin>(&self, cache: &Cache<O>) {
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
