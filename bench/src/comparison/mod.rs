//! Compares services: each is a process on this machine, over real HTTP, PostgreSQL and Redis.
//!
//! Invariant: every figure counts correct answers only. Services are checked before they are measured, and an answer
//! other than 200, or than the refusal that is to be measured, counts as an error.

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
mod target;
mod workload;

use self::setup::Setup;
pub use self::{options::Options, outcome::Outcome, report::Report};

/// Files that this process opens besides the connections of idle clients.
const OTHER_FILES: usize = 1_000;

/// Runs the measurements of the options. `command` is the command line that repeats them, for the report.
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
