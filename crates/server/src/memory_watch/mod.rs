//! The memory watch: it notices that memory gets short, gives back what the service can do without, and refuses what would
//! need much, so that the kernel neither slows the process down nor ends it.
//!
//! Invariant: reads, health, metrics and administration are never refused, and whatever was taken away comes back when the
//! shortage is over.
//!
//! | To find | Look in |
//! |---|---|
//! | which limit applies and how much is used | `reader` (the trait), `cgroup`, `host`, `parse`, `kernel_file` |
//! | when memory is short | `level` |
//! | what is done about it | `control`, `relief`; which of it is logged: `notices` |

mod cgroup;
mod control;
mod host;
mod kernel_file;
mod level;
mod notices;
mod parse;
mod reader;
mod relief;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use arc_swap::ArcSwapOption;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval},
};

pub(crate) use self::control::Accounted;
use self::{
    control::{Controller, InWords, Orders},
    kernel_file::{Buffer, KernelFile},
};
pub use self::{
    level::{Level, Thresholds},
    reader::{MemoryReader, Reading},
};
use crate::{response_memory::ResponseMemory, store::Store};

/// Time between two readings.
const INTERVAL: Duration = Duration::from_millis(250);

/// Finds what limits this process's memory: its cgroup, otherwise the machine. `None` if neither can be read.
pub(crate) fn system_reader() -> Option<Box<dyn MemoryReader>> {
    let proc = Path::new("/proc");
    cgroup::find(proc).or_else(|| host::find(proc))
}

/// What the watch knows, for requests, health and metrics. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct MemoryState(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Longer bodies are refused.
    longest_body: AtomicU64,
    last: ArcSwapOption<MemoryReport>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            longest_body: AtomicU64::new(u64::MAX),
            last: ArcSwapOption::empty(),
        }
    }
}

/// The state at the last reading.
#[derive(Debug, Clone)]
pub(crate) struct MemoryReport {
    pub(crate) level: Level,
    pub(crate) reading: Reading,
    /// While memory is short: its use in words, with the parts that the service knows of.
    pub(crate) problem: Option<String>,
}

impl MemoryState {
    /// Whether memory is so short that a request with a body of up to this many bytes is refused.
    pub(crate) fn refuses(&self, body: u64) -> bool {
        body > self.0.longest_body.load(Relaxed)
    }

    /// Returns the state at the last reading; `None` if memory is not watched.
    pub(crate) fn report(&self) -> Option<Arc<MemoryReport>> {
        self.0.last.load_full()
    }
}

/// What the watch reads and acts on.
pub(crate) struct MemoryWatch {
    pub(crate) reader: Box<dyn MemoryReader>,
    /// They may change at any time.
    pub(crate) thresholds: watch::Receiver<Thresholds>,
    /// `CACHE_NEAR_BYTES`.
    pub(crate) near_bytes: u64,
    /// The stores of all cores.
    pub(crate) stores: Arc<[Store]>,
    pub(crate) responses: ResponseMemory,
    pub(crate) state: MemoryState,
}

impl MemoryWatch {
    /// Watches the memory. Never returns.
    ///
    /// # Cancel safety
    ///
    /// Cancel safe; what was taken away does not come back then.
    pub(crate) async fn run(mut self) {
        let Some(store) = self.stores.first().cloned() else {
            return std::future::pending().await;
        };
        // Nothing is read as long as there is nothing to watch for.
        if self.thresholds.wait_for(|it| !it.is_off()).await.is_err() {
            return std::future::pending().await;
        }
        let thresholds = *self.thresholds.borrow_and_update();
        let mut controller = Controller::new(thresholds, self.near_bytes, store.queue_bytes());
        let mut buffer = Buffer::new();
        let resident = KernelFile::open(Path::new("/proc/self/statm")).ok();
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut has_failed = false;
        loop {
            ticks.tick().await;
            if self.thresholds.has_changed().unwrap_or(false) {
                controller.set_thresholds(*self.thresholds.borrow_and_update());
            }
            let reading = match self.reader.read() {
                Ok(reading) => reading,
                Err(error) => {
                    if !std::mem::replace(&mut has_failed, true) {
                        tracing::warn!(%error, "cannot read {}; trying again", self.reader.source());
                    }
                    continue;
                }
            };
            has_failed = false;
            let (orders, accounted) = controller.step(&reading, || self.accounted(), Instant::now());
            let problem = accounted.map(|accounted| {
                let resident = resident.as_ref();
                let words = InWords {
                    source: self.reader.source(),
                    reading: &reading,
                    accounted: &accounted,
                    resident: resident.and_then(|file| file.read(&mut buffer, resident_bytes).ok()),
                };
                words.to_string()
            });
            self.carry_out(&store, &orders, problem.as_deref());
            self.state.0.last.store(Some(Arc::new(MemoryReport {
                level: orders.level,
                reading,
                problem,
            })));
        }
    }

    fn accounted(&self) -> Accounted {
        let bytes = |store: &Store| store.queues().all().waiting_bytes as u64;
        let near = self.stores.first().and_then(Store::cache_stats);
        Accounted {
            near: near.map_or(0, |stats| stats.bytes),
            queues: self.stores.iter().map(bytes).sum(),
            responses: self.responses.claimed() as u64,
        }
    }

    fn carry_out(&self, store: &Store, orders: &Orders, problem: Option<&str>) {
        self.state.0.longest_body.store(orders.longest_body, Relaxed);
        store.set_queue_bytes(orders.queue_bytes);
        if let Some(bytes) = orders.near_bound {
            store.set_near_bytes(bytes);
        }
        if let Some(changes) = orders.notice {
            log(orders.level, changes, problem.unwrap_or_default());
        }
    }
}

fn log(level: Level, changes: u32, problem: &str) {
    match level {
        Level::Normal => tracing::info!(changes, "there is enough memory again"),
        Level::Warning => tracing::warn!(changes, "memory gets short: {problem}"),
        Level::Critical => tracing::error!(
            changes,
            "memory is short: {problem}. The near cache is shrunk, queues take less, and long bodies may be refused"
        ),
    }
}

/// The resident memory in `/proc/self/statm`, in bytes.
fn resident_bytes(text: &str) -> Option<u64> {
    let pages: u64 = text.split(' ').nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Returns a warning if what the settings allow the service to keep is more than half of the limit.
pub(crate) fn too_large_for(limit: u64, near_bytes: u64, queue_bytes: u64) -> Option<String> {
    /// Reads, changes and users have a queue each.
    const QUEUES: u64 = 3;
    let all = near_bytes.saturating_add(queue_bytes.saturating_mul(QUEUES));
    let mib = |bytes: u64| bytes.div_ceil(1 << 20);
    (all > limit / 2).then(|| {
        format!(
            "CACHE_NEAR_BYTES ({} MiB) + {QUEUES} × DB_QUEUE_MAX_BYTES ({} MiB) = {} MiB is more than half of the memory \
             limit of {} MiB: lower them, or raise the limit",
            mib(near_bytes),
            mib(queue_bytes),
            mib(all),
            mib(limit)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_beyond_half_of_the_limit_are_a_warning_with_the_arithmetic() {
        const MIB: u64 = 1 << 20;
        assert_eq!(too_large_for(512 * MIB, 64 * MIB, 64 * MIB), None);
        let warning = too_large_for(511 * MIB, 64 * MIB, 64 * MIB).unwrap();
        assert!(
            warning.contains("(64 MiB) + 3 × DB_QUEUE_MAX_BYTES (64 MiB) = 256 MiB"),
            "{warning}"
        );
        assert!(too_large_for(MIB, u64::MAX, u64::MAX).is_some());
    }

    #[test]
    fn the_resident_memory_is_the_second_number() {
        let page = rustix::param::page_size() as u64;
        assert_eq!(resident_bytes("100 20 3 4 0 5 0\n"), Some(20 * page));
    }

    #[test]
    fn the_memory_of_this_machine_can_be_read() {
        let mut reader = system_reader().unwrap();
        let reading = reader.read().unwrap();
        assert!((1..1000).contains(&reading.share()), "{reading:?}");
    }
}
