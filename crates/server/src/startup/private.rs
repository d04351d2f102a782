//! The private PostgreSQL of a service whose settings name no database.
//!
//! Invariant: the server ends when the process that started it ends, even if that is killed.

use std::{sync::Arc, time::Duration};

use cenote_local::{Error, PostgresServer};
use tokio::{task::JoinSet, time::sleep};

use crate::settings::Settings;

/// Interval between checks of the server. It doubles with each failed restart.
const CHECK_INTERVAL: Duration = Duration::from_millis(500);
/// The longest interval.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A private server, and the task that restarts it when it has ended: no operator watches it.
pub(crate) struct Private {
    server: Arc<PostgresServer>,
    /// Aborted when it is dropped; that ends the server too.
    restarts: JoinSet<()>,
}

impl Private {
    pub(super) async fn start(settings: &Settings) -> Result<Self, Error> {
        let directory = match &settings.data_dir {
            Some(directory) => directory.clone(),
            None => cenote_local::default_data_dir()?.join("postgres"),
        };
        let server = PostgresServer::persistent(directory).start().await?;
        // The command is in the message, because a field would be quoted and escaped.
        tracing::info!(
            data = %server.data_dir().display(),
            "no database is set; started a private PostgreSQL. Look into it with: {}",
            server.psql_line()
        );
        let server = Arc::new(server);
        let mut restarts = JoinSet::new();
        restarts.spawn(restart_when_ended(server.clone()));
        Ok(Self { server, restarts })
    }

    pub(super) fn url(&self) -> String {
        self.server.url()
    }

    pub(super) async fn stop(mut self) {
        // First, so that the task does not restart the server.
        self.restarts.shutdown().await;
        if let Err(error) = self.server.stop().await {
            tracing::warn!(%error, "the private PostgreSQL did not stop");
        }
    }
}

/// Restarts the server whenever it has ended.
async fn restart_when_ended(server: Arc<PostgresServer>) {
    let mut pause = CHECK_INTERVAL;
    loop {
        sleep(pause).await;
        if server.pid().is_some() {
            continue;
        }
        tracing::warn!("the private PostgreSQL has ended; starting it again");
        match server.restart().await {
            Ok(()) => {
                pause = CHECK_INTERVAL;
                tracing::info!("the private PostgreSQL runs again");
            }
            Err(error) => {
                pause = (pause * 2).min(LONGEST_PAUSE);
                tracing::warn!(%error, "the private PostgreSQL did not start");
            }
        }
    }
}
