//! What the routes of one core share. Invariant: built once, then only read.

use std::sync::Arc;

use cenote_postgres::Pool;
use tokio::time::Instant;

use crate::{
    health::Monitor,
    memory::Memory,
    settings::CacheMode,
    store::{Queues, Store},
};

/// The state behind every route on a core.
#[derive(Clone)]
pub(crate) struct App(Arc<Shared>);

pub(crate) struct Shared {
    pub(crate) pool: Pool,
    pub(crate) store: Store,
    /// Those of all cores.
    stores: Arc<[Store]>,
    pub(crate) cache_mode: CacheMode,
    /// Whether what bypasses the service is followed.
    pub(crate) has_feed: bool,
    /// One for all.
    pub(crate) health: Arc<Monitor>,
    pub(crate) started: Instant,
    /// What answers may take, on all cores.
    pub(crate) memory: Memory,
}

impl App {
    /// One for each of the pool's homes, over the store of that home: the cores share the pool, and what is asked seldom.
    pub(crate) fn per_home(
        pool: &Pool,
        stores: Vec<Store>,
        cache_mode: CacheMode,
        has_feed: bool,
        memory: &Memory,
    ) -> Vec<Self> {
        let health = Arc::new(Monitor::new(pool.clone()));
        let started = Instant::now();
        let stores: Arc<[Store]> = stores.into();
        let app = |(pool, store): (Pool, &Store)| {
            Self(Arc::new(Shared {
                pool,
                store: store.clone(),
                stores: stores.clone(),
                cache_mode,
                has_feed,
                health: health.clone(),
                started,
                memory: memory.clone(),
            }))
        };
        pool.homes().zip(&*stores).map(app).collect()
    }
}

impl Shared {
    /// What the queues of all cores have done and are doing.
    pub(crate) fn queues(&self) -> Queues {
        let queues = self.stores.iter().map(Store::queues);
        queues.fold(Queues::default(), |all, core| all + core)
    }
}

impl std::ops::Deref for App {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.0
    }
}
