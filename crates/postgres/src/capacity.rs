//! Checks that the server has room for the connections of all instances.
//!
//! Invariant: connections that the server reserves for administrators are not counted as room.

use crate::{Pool, Result};

/// The connections that are needed, and the limits of the server. See [`Pool::check_capacity`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Connections that all instances together may open.
    pub wanted: u64,
    /// What `max_connections` of the server leaves for ordinary users.
    pub server: u64,
    /// The `CONNECTION LIMIT` of the database, if it applies to this role.
    pub database: Option<u64>,
    /// The `CONNECTION LIMIT` of the role, if it applies.
    pub role: Option<u64>,
}

impl Capacity {
    /// Returns the lowest of the limits.
    pub fn available(&self) -> u64 {
        let limits = [self.database, self.role];
        limits.into_iter().flatten().fold(self.server, u64::min)
    }

    /// Whether all connections fit, provided that no other program uses the server.
    pub fn fits(&self) -> bool {
        self.wanted <= self.available()
    }

    /// Returns the name of the lowest limit.
    pub fn limit(&self) -> &'static str {
        let available = Some(self.available());
        match self {
            _ if self.role == available => "the role's CONNECTION LIMIT",
            _ if self.database == available => "the database's CONNECTION LIMIT",
            _ => "the server's max_connections",
        }
    }
}

/// `reserved_connections` exists since PostgreSQL 16. Superusers are exempt from both limits.
const ASK: &str = "SELECT current_setting('max_connections')::bigint \
                       - current_setting('superuser_reserved_connections')::bigint \
                       - coalesce(current_setting('reserved_connections', true), '0')::bigint, \
                   CASE WHEN datconnlimit >= 0 AND NOT rolsuper THEN datconnlimit::bigint END, \
                   CASE WHEN rolconnlimit >= 0 AND NOT rolsuper THEN rolconnlimit::bigint END \
                   FROM pg_database, pg_roles \
                   WHERE datname = current_database() AND rolname = session_user";

impl Pool {
    /// Asks the server whether it has room for `instances` pools like this one, all of them full.
    ///
    /// Each opens up to `max_size + max_overflow` connections, and `beside` more outside the pool, such as those of a
    /// [`Listener`](crate::Listener).
    ///
    /// # Errors
    ///
    /// See [`Error`](crate::Error).
    ///
    /// # Cancel safety
    ///
    /// Safe.
    pub async fn check_capacity(&self, instances: u32, beside: u32) -> Result<Capacity> {
        let row = self.get().await?.query_one(ASK, &[]).await?;
        let unsigned = |limit: i64| u64::try_from(limit).unwrap_or(0);
        let limits = self.inner.limits();
        let pooled = u64::from(limits.max_size) + u64::from(limits.max_overflow);
        let each = pooled + u64::from(beside);
        Ok(Capacity {
            wanted: u64::from(instances) * each,
            server: unsigned(row.get(0)),
            database: row.get::<_, Option<i64>>(1).map(unsigned),
            role: row.get::<_, Option<i64>>(2).map(unsigned),
        })
    }
}
