//! One connection beside the service's pool. Invariant: neither an exhausted pool nor its statements stop what uses it.

use std::time::Duration;

use cenote_postgres::{InvalidConfig, Pool};

/// Opens a pool of one connection with the configuration of `pool`, for work that is bounded by `timeout`: once for the
/// connection, and once for the result of a statement. `purpose` is appended to its application name.
pub(super) fn beside(pool: &Pool, purpose: &str, timeout: Duration) -> Result<Pool, InvalidConfig> {
    let mut config = pool.config().clone();
    let name = config.server.get_application_name().unwrap_or("cenote");
    let name = format!("{name} {purpose}");
    config.server.application_name(name);
    config.pool.min_size = Some(1);
    config.pool.max_size = 1;
    config.pool.max_overflow = 0;
    config.pool.acquire_timeout = timeout;
    config.command_timeout = Some(timeout);
    // Polls would fill the log.
    config.echo = false;
    Pool::new(config)
}
