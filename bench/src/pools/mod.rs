//! One module for each pool: how it is told about [`Trivial`](crate::Trivial) connections and how
//! one is taken. Invariant: nothing here is slower or faster than the pool's own documentation
//! shows.

mod bb8;
mod cenote;
mod deadpool;
mod mobc;
mod qorb;
mod sqlx;
mod sqlx_database;

pub use self::{bb8::Bb8, cenote::Cenote, deadpool::Deadpool, mobc::Mobc, qorb::Qorb, sqlx::Sqlx};
