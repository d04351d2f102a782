//! Recognises the names by which other programs know their database.
//!
//! Invariant: these names are never read, only told of: a user who sets one and finds an empty private database, or the
//! wrong one, has to learn why.

use std::sync::LazyLock;

use regex::RegexSet;

use super::origin::Origin;

/// A variable that names a database to some other program.
#[derive(Clone, Debug)]
pub(super) struct ForeignName {
    pub(super) origin: Origin,
    /// The setting of cenote that does the same.
    pub(super) setting: &'static str,
    is_oracle: bool,
}

/// A setting, and the names that other programs have for it. `{db}_` begins names that are about a PostgreSQL database,
/// or about the one database of a program; the others are libpq's own and those of some frameworks.
const NAMES: [(&str, &str); 6] = [
    (
        "DATABASE_URL",
        "{db}_(URL|URI|DSN|CONNECTION_STRING|CONNECTION_URL)|.*_DATABASE_UR[IL]|PGSERVICE|JDBC_URL|SPRING_DATASOURCE_URL\
         |SQLALCHEMY_URL|POSTGRES_PRISMA_URL|CONNECTION_STRING",
    ),
    ("DB_HOST", "{db}_(HOST|HOSTNAME|SERVER)|PGHOST|PGHOSTADDR"),
    ("DB_PORT", "{db}_PORT|PGPORT"),
    ("DB_USER", "{db}_(USER|USERNAME)|PGUSER"),
    ("DB_PASS", "{db}_(PASSWORD|PASS)|PGPASSWORD"),
    ("DB_NAME", "{db}_(DB|DATABASE|NAME|DB_NAME|DBNAME)|PGDATABASE"),
];

static PATTERNS: LazyLock<RegexSet> = LazyLock::new(|| {
    let whole = |names: &str| {
        format!(
            "^(?:{})$",
            names.replace("{db}", "(DATABASE|DB|PG|POSTGRES|POSTGRESQL|PSQL|RDS)")
        )
    };
    RegexSet::new(NAMES.map(|(_, names)| whole(names))).unwrap_or_default()
});

/// Recognises a variable that is no setting of cenote.
pub(super) fn recognize(name: &str, value: &str, origin: Origin) -> Option<ForeignName> {
    let upper = name.to_ascii_uppercase();
    // Kubernetes describes a Service called `postgres` so.
    if value.is_empty() || value.starts_with("tcp://") {
        return None;
    }
    Some(ForeignName {
        origin,
        setting: meaning(&upper)?,
        is_oracle: upper == "DB_DSN" && !value.contains("postgres"),
    })
}

fn meaning(upper: &str) -> Option<&'static str> {
    // Databases for tests and the like are not the program's own.
    let is_other = |part| matches!(part, "TEST" | "TESTING" | "SHADOW" | "SERVICE" | "DIRECT" | "REPLICAS");
    if upper.split('_').any(is_other) {
        return None;
    }
    PATTERNS.matches(upper).iter().next().map(|at| NAMES[at].0)
}

impl ForeignName {
    /// Whether it leads to a server, where `DB_NAME` and the like leave open which.
    pub(super) fn names_server(&self) -> bool {
        matches!(self.setting, "DATABASE_URL" | "DB_HOST")
    }

    /// What to do about it, as the end of a sentence that starts with the name.
    pub(super) fn advice(&self) -> String {
        if self.is_oracle {
            return "is not read; it looks like the address of an Oracle database, and cenote works with PostgreSQL. \
                    Bring the data over (ora2pg does that), then set DATABASE_URL=postgresql://user:password@host:5432/name"
                .to_owned();
        }
        match self.setting {
            "DATABASE_URL" => "is not read; set DATABASE_URL=postgresql://user:password@host:5432/name".to_owned(),
            setting => format!("is not read; set {setting} or DATABASE_URL"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting(name: &str) -> Option<&'static str> {
        let origin = Origin::Environment(name.into());
        recognize(name, "x", origin).map(|found| found.setting)
    }

    #[test]
    fn names_of_other_programs_are_recognised() {
        for (name, expected) in [
            ("PGHOST", "DB_HOST"),
            ("PGDATABASE", "DB_NAME"),
            ("PGSERVICE", "DATABASE_URL"),
            ("POSTGRES_USER", "DB_USER"),
            ("POSTGRES_DB", "DB_NAME"),
            ("POSTGRES_HOST", "DB_HOST"),
            ("POSTGRES_SERVER", "DB_HOST"),
            ("POSTGRES_URL", "DATABASE_URL"),
            ("POSTGRESQL_URI", "DATABASE_URL"),
            ("DB_DSN", "DATABASE_URL"),
            ("DB_URL", "DATABASE_URL"),
            ("DB_CONNECTION_STRING", "DATABASE_URL"),
            ("DB_DATABASE", "DB_NAME"),
            ("DB_USERNAME", "DB_USER"),
            ("DB_HOSTNAME", "DB_HOST"),
            ("DATABASE_URI", "DATABASE_URL"),
            ("DATABASE_HOST", "DB_HOST"),
            ("SQLALCHEMY_DATABASE_URI", "DATABASE_URL"),
            ("JDBC_DATABASE_URL", "DATABASE_URL"),
            ("APP_DATABASE_URL", "DATABASE_URL"),
            ("RDS_HOSTNAME", "DB_HOST"),
            ("db_host", "DB_HOST"),
            ("database_url", "DATABASE_URL"),
            ("Db_Name", "DB_NAME"),
            ("pghost", "DB_HOST"),
        ] {
            assert_eq!(setting(name), Some(expected), "{name}");
        }
    }

    #[test]
    fn names_of_other_things_are_left_alone() {
        for name in [
            "PATH",
            "HOST",
            "USER",
            "HOSTNAME",
            "PGDATA",
            "PG_MAJOR",
            "PG_VERSION",
            "POSTGRES_VERSION",
            "POSTGRES_INITDB_ARGS",
            "TEST_DATABASE_URL",
            "SHADOW_DATABASE_URL",
            "POSTGRES_SERVICE_HOST",
            "POSTGRES_SERVICE_PORT",
            "DB_POOL_PRE_PING",
            "REDIS_HOST",
            "MYSQL_HOST",
            "PGSSLMODE",
            "DATABASE_DIRECT_URL",
            "",
        ] {
            assert_eq!(setting(name), None, "{name}");
        }
        let origin = Origin::Environment("POSTGRES_PORT".into());
        assert!(recognize("POSTGRES_PORT", "tcp://10.0.0.1:5432", origin).is_none());
    }
}
