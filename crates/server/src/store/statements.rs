//! The statements that one caller sends by itself, with the schema filled in. Invariant: they are made once.

use super::{large::LARGE, users};
use crate::settings::SchemaName;

const FORGET_KEY: &str = "DELETE FROM {schema}.kv WHERE key = $1";

/// Statements that are not shared among callers.
pub(super) struct Statements {
    pub(super) list: String,
    pub(super) adding: String,
    pub(super) add: String,
    pub(super) large: String,
    pub(super) forget: String,
}

impl Statements {
    pub(super) fn of(schema: &SchemaName) -> Self {
        Self {
            list: schema.fill(users::LIST),
            adding: schema.fill(users::ADDING),
            add: schema.fill(users::ADD),
            large: schema.fill(LARGE),
            forget: schema.fill(FORGET_KEY),
        }
    }
}
