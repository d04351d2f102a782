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
    pub(crate) health: Monitor,
    pub(crate) started: Instant,
}

impl App {
    pub(crate) fn new(pool: Pool, store: Store, cache_mode: CacheMode) -> Self {
        Self(Arc::new(Shared {
            health: Monitor::new(pool.clone()),
            store,
            cache_mode,
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
