//! What the service's statements rely on of a database, and anybody with the right to may have set otherwise: in the
//! server's configuration, for the database, for the role, or in the options of `DATABASE_URL`.
//!
//! Whatever is not named here makes no difference to them. Values travel in binary form, so formats and the rules of
//! string constants do not matter; a write sets its own `lock_timeout`; plans may be any.
//!
//! Invariant: what is wrong is named, with where it was set and what cures it.

use cenote_postgres::tokio_postgres::{Error, GenericClient, Row};

use crate::settings::SchemaName;

/// Whether something is wrong, and how it is cured.
pub(crate) type Findings = Vec<String>;

/// The session's settings with their origin, and what it would find where.
const SESSION: &str = "SELECT name, setting, source, current_user::text, current_database()::text \
     FROM pg_catalog.pg_settings WHERE name IN ('server_encoding', 'default_transaction_isolation', 'search_path')";
/// The schema that is searched first, if not that of temporary tables.
const FIRST_SCHEMA: &str = "SELECT schema FROM pg_catalog.unnest(pg_catalog.current_schemas(true)) \
     WITH ORDINALITY AS searched (schema, place) \
     WHERE NOT pg_catalog.starts_with(schema, 'pg_temp') ORDER BY place LIMIT 1";
const DURABILITY: &str = "SELECT name, setting, source, current_user::text, current_database()::text \
     FROM pg_catalog.pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit')";
const STANDBYS: &str = "SELECT setting <> '' FROM pg_catalog.pg_settings WHERE name = 'synchronous_standby_names'";
const UNLOGGED: &str = "SELECT relname::text FROM pg_catalog.pg_class WHERE relpersistence <> 'p' \
     AND oid IN (to_regclass('{schema}.kv'), to_regclass('{schema}.users'), to_regclass('{schema}.cache_epoch')) ORDER BY 1";
const RULES: &str = "SELECT ev_class::regclass::text, rulename::text FROM pg_catalog.pg_rewrite \
     WHERE ev_type <> '1' AND ev_enabled <> 'D' \
     AND ev_class IN (to_regclass('{schema}.kv'), to_regclass('{schema}.users'), to_regclass('{schema}.cache_epoch')) ORDER BY 1, 2";
const HIDDEN_ROWS: &str = "SELECT relname::text, current_user::text FROM pg_catalog.pg_class \
     WHERE oid IN (to_regclass('{schema}.kv'), to_regclass('{schema}.users'), to_regclass('{schema}.cache_epoch')) \
     AND row_security_active(oid) ORDER BY 1";

/// A setting, its value, where it comes from, and who runs in which database.
struct Setting<'a> {
    name: &'a str,
    value: &'a str,
    source: &'a str,
    role: &'a str,
    database: &'a str,
}

impl<'a> Setting<'a> {
    fn of(row: &'a Row) -> Self {
        let [name, value, source, role, database] = [0, 1, 2, 3, 4].map(|at| row.get(at));
        Self {
            name,
            value,
            source,
            role,
            database,
        }
    }

    /// `name is "value" (where it was set)`.
    fn described(&self) -> String {
        let Self { name, value, .. } = self;
        let source = match self.source {
            "default" => "its default",
            "configuration file" => "set in the server's configuration",
            "command line" => "set on the server's command line",
            "global" => "set for all databases",
            "database" => "set for the database",
            "user" | "database user" => "set for the role",
            "client" => "set by the options of DATABASE_URL",
            other => other,
        };
        format!("{name} is \"{value}\" ({source})")
    }

    /// What makes it `value` for this role, whoever else sets it.
    fn cure(&self, value: &str) -> String {
        let Self { name, role, .. } = self;
        match self.source {
            "client" => format!("Leave {name} out of the options of DATABASE_URL"),
            _ => format!(
                "Run: ALTER ROLE {} IN DATABASE {} SET {name} = {value}",
                quoted(role),
                quoted(self.database)
            ),
        }
    }
}

/// What makes the service's answers wrong, or stalls it, in this session.
pub(crate) async fn session(client: &impl GenericClient) -> Result<Findings, Error> {
    let mut wrong = Findings::new();
    for row in client.query(SESSION, &[]).await? {
        let setting = Setting::of(&row);
        match (setting.name, setting.value) {
            ("server_encoding", "SQL_ASCII") => wrong.push(
                "the database's encoding is SQL_ASCII: it keeps whatever bytes it is given, and knows no characters. \
                 Create one with ENCODING 'UTF8' TEMPLATE template0, and load a dump of this one into it"
                    .to_owned(),
            ),
            ("default_transaction_isolation", value) if !matches!(value, "read committed" | "read uncommitted") => {
                wrong.push(format!(
                    "{}: writes of one key at the same time would fail and wait. {}",
                    setting.described(),
                    setting.cure("'read committed'")
                ));
            }
            ("search_path", _) => {
                let first = client.query_opt(FIRST_SCHEMA, &[]).await?;
                let first: Option<&str> = first.as_ref().map(|row| row.get(0));
                if first != Some("pg_catalog") {
                    wrong.push(format!(
                        "{}: functions and operators of another schema would take the place of PostgreSQL's own. {}",
                        setting.described(),
                        setting.cure("a list without pg_catalog, which comes first then")
                    ));
                }
            }
            _ => {}
        }
    }
    Ok(wrong)
}

/// What hides rows of the tables, or keeps them from being written as they are.
pub(crate) async fn tables(client: &impl GenericClient, schema: &SchemaName) -> Result<Findings, Error> {
    let mut wrong = Findings::new();
    for row in client.query(&schema.fill(HIDDEN_ROWS), &[]).await? {
        let (table, role): (&str, &str) = (row.get(0), row.get(1));
        wrong.push(format!(
            "row-level security hides rows of the table {table} from the role {role}: they would be answered as missing. \
             Run: ALTER TABLE {table} DISABLE ROW LEVEL SECURITY, or ALTER ROLE {} BYPASSRLS",
            quoted(role)
        ));
    }
    for row in client.query(&schema.fill(RULES), &[]).await? {
        let (table, rule): (&str, &str) = (row.get(0), row.get(1));
        wrong.push(format!(
            "the rule {rule} changes what is written to the table {table}: PostgreSQL refuses the service's writes then. \
             Run: DROP RULE {} ON {table}",
            quoted(rule)
        ));
    }
    Ok(wrong)
}

/// Why a write that was answered may be lost when the server, or its machine, crashes.
pub(crate) async fn durability(client: &impl GenericClient, schema: &SchemaName) -> Result<Findings, Error> {
    let mut lossy = Findings::new();
    for row in client.query(DURABILITY, &[]).await? {
        let setting = Setting::of(&row);
        let lost = match (setting.name, setting.value) {
            ("synchronous_commit", "off") => {
                let cure = setting.cure("on");
                format!("writes of the last moments before a crash of the server are lost. {cure}")
            }
            (name @ ("fsync" | "full_page_writes"), "off") => format!(
                "a crash of the machine may damage or lose what was written. \
                 Run: ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()"
            ),
            _ => continue,
        };
        lossy.push(format!("{}: {lost}", setting.described()));
    }
    for row in client.query(&schema.fill(UNLOGGED), &[]).await? {
        let table: &str = row.get(0);
        lossy.push(format!(
            "the table {table} is unlogged: it is empty after a crash of the server. Run: ALTER TABLE {table} SET LOGGED"
        ));
    }
    Ok(lossy)
}

/// What a commit waits for, in words, where it is worth saying.
pub(crate) async fn replication(client: &impl GenericClient) -> Result<Option<&'static str>, Error> {
    let has_standbys: bool = client.query_one(STANDBYS, &[]).await?.get(0);
    let row = client
        .query_one("SELECT current_setting('synchronous_commit')", &[])
        .await?;
    Ok(match row.get(0) {
        "local" if has_standbys => Some(
            "synchronous_commit is \"local\": a commit does not wait for the standbys in synchronous_standby_names, and \
             may be lost at a failover",
        ),
        "remote_write" if has_standbys => Some(
            "synchronous_commit is \"remote_write\": a commit may be lost at a failover if the standby's machine crashes too",
        ),
        _ => None,
    })
}

fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
