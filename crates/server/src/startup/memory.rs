//! Starts the memory watch. Invariant: the log says once what is watched, or that nothing is.

use crate::{
    app::App,
    memory_watch::{MemoryReader, MemoryWatch, too_large_for},
    settings::Settings,
    store::CacheMode,
};

/// Returns the watch over what `reader` reads; `None` if there is nothing to watch or nothing to watch for. Warns if the
/// settings allow the service to keep too much.
pub(super) fn watch(app: &App, settings: &Settings, reader: Option<Box<dyn MemoryReader>>) -> Option<MemoryWatch> {
    let thresholds = settings.memory;
    if thresholds.is_off() {
        return None;
    }
    let reading = reader.and_then(|mut reader| {
        let reading = reader.read();
        Some((reader, reading.ok()?))
    });
    let Some((reader, reading)) = reading else {
        tracing::info!("memory is not watched: neither a limit of a cgroup nor the machine's memory can be read");
        return None;
    };
    let near_bytes = match settings.cache_mode {
        CacheMode::Off | CacheMode::Ttl | CacheMode::Strong => 0,
        CacheMode::Local | CacheMode::Bounded => settings.cache.near_bytes,
    };
    if let Some(warning) = too_large_for(reading.limit, near_bytes, settings.queue_bytes as u64) {
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
