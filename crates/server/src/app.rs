//! The state behind every route of one core. Invariant: built once, then only read.

use std::sync::Arc;

use cenote_postgres::Pool;
use tokio::time::Instant;

use crate::{
    access::Gate,
    admin::Admin,
    auth::Authenticator,
    health::HealthMonitor,
    http::Tls,
    memory_watch::{MemoryReader, MemoryState, MemoryWatch, Thresholds},
    response_memory::ResponseMemory,
    store::{CacheMode, Queues, Store},
};

/// A handle to the state of one core.
#[derive(Clone)]
pub(crate) struct App(Arc<AppState>);

pub(crate) struct AppState {
    pub(crate) pool: Pool,
    pub(crate) store: Store,
    /// The stores of all cores.
    stores: Arc<[Store]>,
    pub(crate) cache_mode: CacheMode,
    /// Whether the change feed is followed.
    pub(crate) has_feed: bool,
    /// Shared by all cores.
    pub(crate) health: Arc<HealthMonitor>,
    /// Shared by all cores.
    pub(crate) admin: Arc<Admin>,
    pub(crate) started: Instant,
    /// Shared by all cores.
    pub(crate) memory: ResponseMemory,
    /// How short the process's memory is. Shared by all cores.
    pub(crate) memory_state: MemoryState,
    /// Authenticates requests, if anything does. Shared by all cores.
    pub(crate) auth: Option<Arc<Authenticator>>,
    /// TLS to clients. `None`: plain HTTP.
    pub(crate) tls: Option<Tls>,
    /// Decides on requests before they reach a route. Shared by all cores.
    pub(crate) gate: Arc<Gate>,
}

impl App {
    /// Creates one handle for each of the pool's runtimes, over the store of that runtime.
    pub(crate) fn per_runtime(
        pool: &Pool,
        stores: Vec<Store>,
        cache_mode: CacheMode,
        has_feed: bool,
        memory: &ResponseMemory,
        admin: &Arc<Admin>,
        auth: Option<&Arc<Authenticator>>,
        tls: Option<&Tls>,
        gate: &Arc<Gate>,
    ) -> Vec<Self> {
        let health = Arc::new(HealthMonitor::new(pool.clone()));
        let started = Instant::now();
        let memory_state = MemoryState::default();
        let stores: Arc<[Store]> = stores.into();
        let app = |(pool, store): (Pool, &Store)| {
            Self(Arc::new(AppState {
                pool,
                store: store.clone(),
                stores: stores.clone(),
                cache_mode,
                has_feed,
                health: health.clone(),
                admin: admin.clone(),
                started,
                memory: memory.clone(),
                memory_state: memory_state.clone(),
                auth: auth.cloned(),
                tls: tls.cloned(),
                gate: gate.clone(),
            }))
        };
        pool.per_runtime().zip(&*stores).map(app).collect()
    }
}

impl AppState {
    /// Returns the watch over the process's memory, for all cores.
    pub(crate) fn memory_watch(
        &self,
        reader: Box<dyn MemoryReader>,
        thresholds: Thresholds,
        near_bytes: u64,
    ) -> MemoryWatch {
        MemoryWatch {
            reader,
            thresholds,
            near_bytes,
            stores: self.stores.clone(),
            responses: self.memory.clone(),
            state: self.memory_state.clone(),
        }
    }

    /// Returns the statistics of the queues of all cores, added up.
    pub(crate) fn queues(&self) -> Queues {
        let queues = self.stores.iter().map(Store::queues);
        queues.fold(Queues::default(), |all, core| all + core)
    }
}

impl std::ops::Deref for App {
    type Target = AppState;
    fn deref(&self) -> &AppState {
        &self.0
    }
}
