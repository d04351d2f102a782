//! What the routes share. Invariant: built once, then only read.

use std::sync::Arc;

use cenote_postgres::Pool;
use tokio::time::Instant;

use crate::{health::Monitor, settings::CacheMode, store::Store};

/// The state behind every route.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) pool: Pool,
    pub(crate) store: Store,
    pub(crate) cache_mode: CacheMode,
    /// Whether what bypasses the service is followed.
    pub(crate) has_feed: bool,
    pub(crate) health: Monitor,
    pub(crate) started: Instant,
}

impl App {
    pub(crate) fn new(pool: Pool, store: Store, cache_mode: CacheMode, has_feed: bool) -> Self {
        Self(Arc::new(Shared {
            health: Monitor::new(pool.clone()),
            store,
            cache_mode,
            has_feed,
            started: Instant::now(),
            pool,
        }))
    }
}

impl std::ops::Deref for App {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}
