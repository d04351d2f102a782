//! Replicas: servers that follow another one and can take its place. Invariant: a replica is a server like any other,
//! with a supervisor, a port and data of its own; all it shares with its primary is the password.

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use tokio::{
    sync::Mutex,
    time::{Instant, sleep},
};

use super::{
    PostgresServer,
    builder::{Origin, launch},
    options::Options,
};
use crate::{Error, Result};

const POLL: Duration = Duration::from_millis(5);

/// What a server knows of its replicas.
#[derive(Debug, Default)]
pub(super) struct Replicas {
    /// How many were ever begun, which gives each a name of its own.
    begun: AtomicU32,
    /// The names of those that commits wait for; locked while the setting changes.
    synchronous: Mutex<Vec<String>>,
}

/// How a replica will be started; see [`PostgresServer::replica`].
#[derive(Debug)]
#[must_use = "nothing runs before start()"]
pub struct ReplicaBuilder<'a> {
    primary: &'a PostgresServer,
    options: Options,
    synchronous: bool,
}

impl<'a> ReplicaBuilder<'a> {
    pub(super) fn new(primary: &'a PostgresServer) -> Self {
        let mut options = primary.options.clone();
        // Once promoted it waits for none of its former fellows.
        options.settings.retain(|(name, _)| name != "synchronous_standby_names");
        options.settings.push((
            "wal_retrieve_retry_interval".into(), // how soon it finds a restarted primary; usually 5 s
            "100ms".into(),
        ));
        Self {
            primary,
            options,
            synchronous: false,
        }
    }

    /// From its start on every commit on the primary waits until this replica has it too, and those of other
    /// synchronous ones. It goes on waiting when the replica is dropped:
    /// `ALTER SYSTEM RESET synchronous_standby_names; SELECT pg_reload_conf()` on the primary ends that.
    pub fn synchronous(mut self) -> Self {
        self.synchronous = true;
        self
    }

    /// Adds a server setting, such as `("recovery_min_apply_delay", "2s")`, to those of the primary. A later one of the
    /// same name wins.
    pub fn setting(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.settings.push((name.into(), value.into()));
        self
    }

    /// Copies the primary's data, starts a server on them and returns when it follows the primary and accepts
    /// connections.
    ///
    /// # Errors
    /// - [`Error::Command`]: the primary does not run, or does not let itself be copied (`wal_level`,
    ///   `max_wal_senders`); [`Error::ClientMissing`] without `pg_basebackup` or `psql`.
    /// - [`Error::InvalidSetting`], [`Error::Exited`], [`Error::StartTimeout`] as at any start. The limit is the
    ///   primary's.
    ///
    /// # Cancel safety
    /// Dropping the future stops and removes what was begun, but the primary may already wait for a
    /// [`synchronous`](Self::synchronous) one.
    pub async fn start(self) -> Result<PostgresServer> {
        self.options.check()?;
        let primary = self.primary;
        let number = primary.replicas.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let name = format!("replica{number}");
        let replica = launch(
            primary.account.clone(),
            primary.postgres.clone(),
            Origin::Primary(primary, &name),
            self.options,
            primary.start_timeout,
        )
        .await?;
        primary.until_replica(&name, "state", "streaming", &replica).await?;
        if self.synchronous {
            primary.wait_for_commits_of(&name, &replica).await?;
        }
        Ok(replica)
    }
}

impl PostgresServer {
    /// Adds the replica to those that every commit waits for, all of them, and returns when that holds.
    async fn wait_for_commits_of(&self, name: &str, replica: &Self) -> Result<()> {
        let mut names = self.replicas.synchronous.lock().await;
        names.push(name.to_owned());
        let list = format!("FIRST {} ({})", names.len(), names.join(", "));
        let set = format!("alter system set synchronous_standby_names = '{list}'");
        self.psql(&format!("{set};\nselect pg_reload_conf()")).await?;
        self.until_replica(name, "sync_state", "sync", replica).await?;
        // Commits wait once the checkpointer has read the setting. Before a checkpoint it reads what it was told to.
        self.psql("checkpoint").await.map(drop)
    }

    /// Waits until the primary says this about its replica, but no longer than a start may take.
    async fn until_replica(&self, name: &str, column: &str, expected: &str, replica: &Self) -> Result<()> {
        let query = format!("select {column} from pg_stat_replication where application_name = '{name}'");
        let begun = Instant::now();
        while self.psql(&query).await?.trim() != expected {
            if begun.elapsed() > self.start_timeout {
                return Err(Error::StartTimeout {
                    program: "postgres",
                    waited: self.start_timeout,
                    log: replica.instance.log_end(),
                });
            }
            sleep(POLL).await;
        }
        Ok(())
    }
}
