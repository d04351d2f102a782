//! One connection beside a pool. Invariant: neither an exhausted pool nor its statements stop what uses it.

use std::time::Duration;

use crate::{InvalidConfig, Pool};

impl Pool {
    /// Opens another pool, of one connection, with the configuration of this one: for work that must go on when this pool is
    /// exhausted, such as a lease that is renewed. `timeout` bounds it twice: the wait for the connection, and the result of a
    /// command. `purpose` is appended to its application name. Statements are not [echoed](crate::Config::echo).
    ///
    /// # Errors
    ///
    /// Those of [`new`](Self::new).
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn beside(&self, purpose: &str, timeout: Duration) -> Result<Self, InvalidConfig> {
        let mut config = self.config().clone();
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
        Self::new(config)
    }
}
