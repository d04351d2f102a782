//! What the cache needs in the database. Invariant: installing again changes nothing.

use cenote_postgres::{Pool, Result};

/// The statements that [`install`] runs, for a migration of your own. They create the table `cache_epoch`, the sequence and
/// trigger function `cenote_version`, and the functions `cenote_changed` and `cenote_watch`, in the first schema of the search
/// path. They may be run again.
pub const MIGRATION: &str = include_str!("../sql/install.sql");

/// Keeps instances that start at the same moment from creating the same table at once: "cached" in ASCII.
const LOCK: &str = "SELECT pg_catalog.pg_advisory_xact_lock(109269930763620)";

/// Creates what the cache needs in the database, as [`MIGRATION`] says, in one transaction.
///
/// # Errors
///
/// The database's, for example if this role may not create tables.
///
/// # Cancel safety
///
/// All is done or nothing.
pub async fn install(pool: &Pool) -> Result<()> {
    let mut connection = pool.get().await?;
    let transaction = connection.transaction().await?;
    transaction.batch_execute(LOCK).await?;
    transaction.batch_execute(MIGRATION).await?;
    transaction.commit().await
}
