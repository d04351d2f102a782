//! Services beside each other, each a process of its own, over real HTTP, PostgreSQL and Redis on this machine.
//!
//! Invariant: every number is of answers that were right: services are checked before they are measured, and an answer
//! other than 200 is an error that is shown.

mod arrivals;
mod clients;
mod connection;
mod contestants;
mod contract;
mod machine;
mod measure;
mod options;
mod process;
mod report;
mod stage;
mod tally;
mod trials;
mod workload;

use std::error::Error;

use self::stage::Stage;
pub use self::{options::Options, report::Report};

/// What may fail here ends the run.
pub type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

/// Files this process has open besides idle clients: busy ones, and its own.
const OTHER_FILES: usize = 1_000;

/// Measures what the options say; `command` is what repeats it.
///
/// # Errors
///
/// A program is missing, or a server or a service does not start or ends early.
///
/// # Cancel safety
///
/// Dropping the future ends everything that was started.
pub async fn compare(mut options: Options, command: &str) -> Outcome<Report> {
    let room = machine::open_files().saturating_sub(OTHER_FILES);
    options.idle_clients = options.idle_clients.min(room);
    let stage = Stage::set().await?;
    let results = trials::run(&stage, &options).await?;
    let circumstances = format!(
        "{}, PostgreSQL {}; {}; {}.",
        machine::describe(),
        stage.postgres_version(),
        machine::cenote(),
        stage.date().await?,
    );
    stage.clear().await?;
    Ok(Report::new(&results, &options, &circumstances, command))
}
