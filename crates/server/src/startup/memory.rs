//! Starts the memory watch. Invariant: the log says once what is watched, or that nothing is.

use tokio::sync::watch;

use crate::{
    app::App,
    memory_watch::{MemoryReader, MemoryWatch, Thresholds, too_large_for},
    settings::Settings,
    store::CacheMode,
};

/// Returns the watch over what `reader` reads; `None` if there is nothing to watch. Warns if the settings allow the service to
/// keep too much. The thresholds may change later; without any, nothing is logged.
pub(super) fn watch(
    app: &App,
    settings: &Settings,
    reader: Option<Box<dyn MemoryReader>>,
    thresholds: watch::Receiver<Thresholds>,
) -> Option<MemoryWatch> {
    let is_on = !settings.memory.is_off();
    let reading = reader.and_then(|mut reader| {
        let reading = reader.read();
        Some((reader, reading.ok()?))
    });
    let Some((reader, reading)) = reading else {
        if is_on {
            tracing::info!("memory is not watched: neither a limit of a cgroup nor the machine's memory can be read");
        }
        return None;
    };
    let near_bytes = match settings.cache_mode {
        CacheMode::Off | CacheMode::Ttl | CacheMode::Strong => 0,
        CacheMode::Local | CacheMode::Bounded => settings.cache.near_bytes,
    };
    let warning = too_large_for(reading.limit, near_bytes, settings.queue_bytes as u64);
    if let Some(warning) = warning.filter(|_| is_on) {
        tracing::warn!("{warning}");
    }
    tracing::debug!(
        limit = reading.limit,
        used = reading.used,
        "watching {}",
        reader.source()
    );
    Some(app.memory_watch(reader, thresholds, near_bytes))
}
