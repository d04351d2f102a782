//! The name of the service's schema.
//!
//! Invariant: a name that was parsed may stand in a statement, both in double quotes and in a literal.

use std::{fmt, str::FromStr};

/// The longest name that PostgreSQL does not cut off, in bytes (`NAMEDATALEN` - 1).
const LONGEST: usize = 63;

/// The schema of the database that the service's tables are in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SchemaName(String);

impl SchemaName {
    /// A statement in which `{schema}` stands for this schema.
    pub(crate) fn fill(&self, sql: &str) -> String {
        sql.replace("{schema}", &format!("\"{}\"", self.0))
    }

    /// The name as it is in the catalog.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for SchemaName {
    fn default() -> Self {
        Self("public".to_owned())
    }
}

impl fmt::Display for SchemaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SchemaName {
    /// The complaint continues a sentence that starts with the name.
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.trim();
        let plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '$');
        if name.is_empty() || !name.chars().all(plain) {
            return Err("is not a schema's name of letters, digits, `_`, `-` and `$`".into());
        }
        if name.len() > LONGEST {
            return Err(format!("is longer than the {LONGEST} bytes of a name in PostgreSQL"));
        }
        if name.starts_with("pg_") || name == "information_schema" {
            return Err("is a schema of PostgreSQL's own".into());
        }
        Ok(Self(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_needs_quotes_gets_them() {
        for name in ["public", "App", "my-app", "größe", "a$1", "2fast"] {
            let schema = name.parse::<SchemaName>().unwrap();
            let filled = schema.fill("SELECT FROM {schema}.kv");
            assert_eq!(filled, format!("SELECT FROM \"{name}\".kv"));
        }
    }

    #[test]
    fn what_could_leave_its_quotes_or_is_not_ones_own_is_refused() {
        let long = "x".repeat(64);
        for name in [
            "",
            " ",
            "a\"b",
            "a'b",
            "a\\b",
            "a.b",
            "a b",
            "a\0b",
            "pg_catalog",
            "pg_temp",
            "information_schema",
            &long,
        ] {
            assert!(name.parse::<SchemaName>().is_err(), "{name:?}");
        }
    }
}
