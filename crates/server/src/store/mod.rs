//! What is kept in PostgreSQL. Invariant: all SQL of the service is in here, and each statement has one place.

pub(crate) mod keys;
pub(crate) mod schema;
pub(crate) mod users;
