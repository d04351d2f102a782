//! The tables of the service in the database, and their migration.
//!
//! Invariant: everything that is missing is added once, or nothing is, however many instances start at once and wherever one
//! is killed. If nothing is missing, only the catalog is read, without locks or further privileges.
//!
//! There is no history of migrations: `catalog` reads what exists, `plan` compares it with what the service needs, `migrate`
//! adds the difference. So a database that another program filled, or a partial restore, needs no bookkeeping, and no table
//! of versions can be mistaken for another program's.

mod catalog;
mod migrate;
mod mode;
mod plan;

pub(crate) use migrate::{MigrateError, Migration, Waiting};
pub use mode::Migrate;
pub(crate) use plan::Extras;
