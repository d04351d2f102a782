//! The state behind the routes of one core.
//!
//! Invariant: it is built once and then only read.

use std::{
    sync::{Arc, OnceLock},
    time::SystemTime,
};

use cenote_postgres::Pool;
use tokio::{sync::watch, time::Instant};

use crate::{
    access::Gate,
    admin::Admin,
    auth::Authenticator,
    health::HealthMonitor,
    http::{Tls, Traffic},
    memory_watch::{MemoryReader, MemoryState, MemoryWatch, Thresholds},
    recent::Recent,
    response_memory::ResponseMemory,
    slow_statements::SlowStatement,
    spans::Spans,
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
    shared: Shared,
}

/// What all cores share.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) cache_mode: CacheMode,
    /// Whether the change feed is followed.
    pub(crate) has_feed: bool,
    pub(crate) health: Arc<HealthMonitor>,
    pub(crate) admin: Arc<Admin>,
    pub(crate) started: Instant,
    /// The same moment, for people and metrics.
    pub(crate) started_at: SystemTime,
    /// What is counted of connections and requests.
    pub(crate) traffic: Arc<Traffic>,
    /// The newest slow statements.
    pub(crate) slow_statements: Arc<Recent<SlowStatement>>,
    /// How many connections the database leaves for ordinary users; empty before the start has asked.
    pub(crate) connection_limit: Arc<OnceLock<u64>>,
    /// The spans that are exported.
    pub(crate) spans: Spans,
    pub(crate) memory: ResponseMemory,
    /// How short the process's memory is.
    pub(crate) memory_state: MemoryState,
    /// Authenticates requests, if anything does.
    pub(crate) auth: Option<Arc<Authenticator>>,
    /// TLS to clients. `None`: plain HTTP.
    pub(crate) tls: Option<Tls>,
    /// Decides on requests before they reach a route.
    pub(crate) gate: Arc<Gate>,
}

impl App {
    /// Creates one handle for each of the pool's runtimes, over the store of that runtime.
    pub(crate) fn per_runtime(pool: &Pool, stores: Vec<Store>, shared: &Shared) -> Vec<Self> {
        let stores: Arc<[Store]> = stores.into();
        let app = |(pool, store): (Pool, &Store)| {
            Self(Arc::new(AppState {
                pool,
                store: store.clone(),
                stores: stores.clone(),
                shared: shared.clone(),
            }))
        };
        pool.per_runtime().zip(&*stores).map(app).collect()
    }
}

impl std::ops::Deref for AppState {
    type Target = Shared;
    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl AppState {
    /// Returns the watch over the process's memory, for all cores.
    pub(crate) fn memory_watch(
        &self,
        reader: Box<dyn MemoryReader>,
        thresholds: watch::Receiver<Thresholds>,
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
