//! Services beside each other, each a process of its own, over real HTTP, PostgreSQL and Redis on this machine.
//!
//! Invariant: every number is of answers that were right: services are checked before they are measured, and an answer
//! other than 200 is an error that is shown.

mod arrivals;
mod clients;
mod connection;
mod contract;
mod machine;
mod measure;
mod options;
mod outcome;
mod process;
mod report;
mod runs;
mod services;
mod setup;
mod tally;
mod workload;

use self::setup::Setup;
pub use self::{options::Options, outcome::Outcome, report::Report};

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
    let setup = Setup::start().await?;
    let results = runs::run(&setup, &options).await?;
    let circumstances = format!(
        "{}, PostgreSQL {}; {}; {}.",
        machine::describe(),
        setup.postgres_version(),
        machine::cenote(),
        setup.date().await?,
    );
    setup.stop().await?;
    Ok(Report::new(&results, &options, &circumstances, command))
}
