//! Runs a server program so that it ends with its owner: the part of a private server that does not depend on which
//! server it is. Other crates use it to start programs that this crate does not know.
//!
//! The one invariant: a program that was started here ends with this process, however this process ends.

mod account;
mod directory;
mod instance;
mod port;
mod process;
mod programs;
mod supervisor;

pub use account::Account;
pub use directory::{default_data_dir, temporary as temporary_directory};
pub(crate) use directory::{persistent as persistent_directory, temporary_parent};
pub use instance::{Instance, Probe};
pub use port::{free as free_port, password as random_password};
pub(crate) use process::{any_serves, serves};
pub use programs::{find_program, is_program, search_path};
pub use supervisor::Job;
