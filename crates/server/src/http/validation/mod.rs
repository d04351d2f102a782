//! Validates what callers send, and names every wrong field in one 422.
//!
//! Invariant: no message repeats anything of the input but the names of fields, shortened.

mod explain;
mod rules;

pub(super) use explain::{
    MAX_FIELDS, describe, expected_number, explain_json, fields_problem, is_object, not_an_object,
};
pub(super) use rules::broken_rules;
pub use rules::{between, characters, entries, no_nul};
