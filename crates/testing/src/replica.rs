//! Replicas of a private PostgreSQL server, which follow it and can take its place. Invariant: a replica is a server
//! like any other, with its own supervisor, port and data; it shares only the password with its primary.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use cenote_local::{Error, PostgresBuilder, PostgresServer, Result};
use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

const POLL: Duration = Duration::from_millis(5);

/// The number of replicas that this process has begun to start: gives each its own name.
static STARTED: AtomicU32 = AtomicU32::new(0);

/// Held from reading a primary's list of synchronous replicas until the longer list has taken effect. Without it, two
/// starts at the same time would each read the old list, and one would remove the other's name.
static SYNCHRONOUS: Mutex<()> = Mutex::const_new(());

/// Replicas of a private PostgreSQL server.
pub trait Replication {
    /// A server that follows this one and refuses writes; see [`PostgresServer::standby`].
    fn replica(&self) -> ReplicaBuilder<'_>;

    /// Makes a replica a primary that follows no server, and returns when it accepts writes. Its former primary is not
    /// touched: a test of a failover [kills](PostgresServer::kill) it first.
    ///
    /// # Errors
    /// [`Error::Command`] if the server is not a replica, does not answer or is not promoted within 60 s;
    /// [`Error::ClientMissing`] without `psql`.
    ///
    /// # Cancel safety
    /// If the future is dropped, the server may be a replica or a primary.
    fn promote(&self) -> impl Future<Output = Result<()>> + Send;
}

impl Replication for PostgresServer {
    fn replica(&self) -> ReplicaBuilder<'_> {
        let number = STARTED.fetch_add(1, Ordering::Relaxed) + 1;
        let name = format!("replica{number}");
        ReplicaBuilder {
            primary: self,
            standby: self.standby(&name),
            name,
            synchronous: false,
        }
    }

    async fn promote(&self) -> Result<()> {
        match self.query("select pg_promote()").await?.trim() {
            "t" => Ok(()),
            _ => Err(Error::Command {
                program: "pg_promote".into(),
                reason: "the server is still a replica".into(),
            }),
        }
    }
}

/// How a replica will be started; see [`Replication::replica`].
#[derive(Debug)]
#[must_use = "nothing runs before start()"]
pub struct ReplicaBuilder<'a> {
    primary: &'a PostgresServer,
    standby: PostgresBuilder,
    name: String,
    synchronous: bool,
}

impl ReplicaBuilder<'_> {
    /// Makes every commit on the primary wait until this replica has it too, and every other synchronous one. Commits
    /// still wait when the replica is dropped, until
    /// `ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()` on the primary.
    pub fn synchronous(mut self) -> Self {
        self.synchronous = true;
        self
    }

    /// Adds a server setting, such as `("recovery_min_apply_delay", "2s")`, to those of the primary. Of two with the
    /// same name the later one counts.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.standby = self.standby.setting(name, value);
        self
    }

    /// Copies the primary's data, starts the replica and returns when it follows the primary.
    ///
    /// # Errors
    /// Those of [`PostgresBuilder::start`]; [`Error::Command`] if the primary cannot be copied;
    /// [`Error::ClientMissing`] without `psql` or `pg_basebackup`.
    ///
    /// # Cancel safety
    /// If the future is dropped, the replica is stopped and removed. Commits on the primary may already wait for a
    /// [synchronous](Self::synchronous) one.
    pub async fn start(self) -> Result<PostgresServer> {
        let replica = self.standby.start().await?;
        until(self.primary, &self.name, "state", "streaming", &replica).await?;
        if self.synchronous {
            wait_for_commits(self.primary, &self.name, &replica).await?;
        }
        Ok(replica)
    }
}

/// Adds the replica to those that every commit waits for, and returns when commits do wait for it.
async fn wait_for_commits(primary: &PostgresServer, name: &str, replica: &PostgresServer) -> Result<()> {
    let _adding = SYNCHRONOUS.lock().await;
    // `FIRST 2 (replica1, replica2)`, or empty.
    let list = primary.query("show synchronous_standby_names").await?;
    let mut names: Vec<_> = list
        .trim()
        .split_once('(')
        .map(|(_, names)| names.trim_end_matches(')').split(", ").collect())
        .unwrap_or_default();
    names.push(name);
    let list = format!("FIRST {} ({})", names.len(), names.join(", "));
    let set = format!("alter system set synchronous_standby_names = '{list}'");
    primary.query(&format!("{set};\nselect pg_reload_conf()")).await?;
    until(primary, name, "sync_state", "sync", replica).await?;
    // Commits wait once the checkpointer has read the setting, which it does before a checkpoint.
    primary.query("checkpoint").await.map(drop)
}

/// Waits until `pg_stat_replication` of the primary has this value in this column, at most as long as a start may take.
async fn until(
    primary: &PostgresServer,
    name: &str,
    column: &str,
    expected: &str,
    replica: &PostgresServer,
) -> Result<()> {
    let query = format!("select {column} from pg_stat_replication where application_name = '{name}'");
    let begun = Instant::now();
    while primary.query(&query).await?.trim() != expected {
        if begun.elapsed() > primary.start_timeout() {
            return Err(Error::StartTimeout {
                program: "postgres",
                waited: primary.start_timeout(),
                log: replica.log_end(),
            });
        }
        sleep(POLL).await;
    }
    Ok(())
}
