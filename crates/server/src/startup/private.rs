//! The private PostgreSQL of a service whose settings name no database.
//!
//! Invariant: the server ends with the process that started it, however that ends.

use std::{sync::Arc, time::Duration};

use cenote_local::{Error, PostgresServer};
use tokio::{task::JoinSet, time::sleep};

use crate::settings::Settings;

/// Pause between looks at the server. It doubles with each failure to start it again.
const LOOK: Duration = Duration::from_millis(500);
/// The longest of these pauses.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// A private server, and the task that starts it again when it has ended by itself: no operator would.
pub(crate) struct Private {
    server: Arc<PostgresServer>,
    /// Ends when this is dropped, so that the server does too.
    keeper: JoinSet<()>,
}

impl Private {
    pub(super) async fn start(settings: &Settings) -> Result<Self, Error> {
        let directory = match &settings.data_dir {
            Some(directory) => directory.clone(),
            None => cenote_local::default_data_dir()?.join("postgres"),
        };
        let server = PostgresServer::persistent(directory).start().await?;
        // In the message: a field would be shown in quotes and with escapes, which no shell takes.
        tracing::info!(
            data = %server.data_dir().display(),
            "no database is set; started a private PostgreSQL. Look into it with: {}",
            server.psql_line()
        );
        let server = Arc::new(server);
        let mut keeper = JoinSet::new();
        keeper.spawn(keep(server.clone()));
        Ok(Self { server, keeper })
    }

    pub(super) fn url(&self) -> String {
        self.server.url()
    }

    pub(super) async fn stop(mut self) {
        // First, so that nothing starts the server again.
        self.keeper.shutdown().await;
        if let Err(error) = self.server.stop().await {
            tracing::warn!(%error, "the private PostgreSQL did not stop");
        }
    }
}

/// Starts a server again whenever it has ended.
async fn keep(server: Arc<PostgresServer>) {
    let mut pause = LOOK;
    loop {
        sleep(pause).await;
        if server.pid().is_some() {
            continue;
        }
        tracing::warn!("the private PostgreSQL has ended; starting it again");
        match server.restart().await {
            Ok(()) => {
                pause = LOOK;
                tracing::info!("the private PostgreSQL runs again");
            }
            Err(error) => {
                pause = (pause * 2).min(LONGEST_PAUSE);
                tracing::warn!(%error, "the private PostgreSQL did not start");
            }
        }
    }
}
