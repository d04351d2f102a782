//! Checks that the database's settings suit the service's statements. A setting may be made in the server's configuration,
//! for the database, for the role, or in the options of `DATABASE_URL`.
//!
//! Invariant: every finding names the setting, where it was made, and the command that corrects it.
//!
//! Settings that are not checked here make no difference. Values travel in binary form, so formats and the rules of string
//! constants do not matter. A write sets its own `lock_timeout`. Any plan gives the same result.

use cenote_postgres::tokio_postgres::{Error, GenericClient, Row};

use crate::store::SchemaName;

/// What is wrong, each with its correction. Empty if all is well.
pub(crate) type Findings = Vec<String>;

/// The settings of the session that matter, each with its source.
const SESSION: &str = "SELECT name, setting, source, current_user::text, current_database()::text \
     FROM pg_catalog.pg_settings WHERE name IN ('server_encoding', 'default_transaction_isolation', 'search_path')";
/// The first schema in the search path, apart from the schema of temporary tables.
const FIRST_SCHEMA: &str = "SELECT schema FROM pg_catalog.unnest(pg_catalog.current_schemas(true)) \
     WITH ORDINALITY AS searched (schema, place) \
     WHERE NOT pg_catalog.starts_with(schema, 'pg_temp') ORDER BY place LIMIT 1";
/// The settings that decide whether a commit survives a crash.
const DURABILITY: &str = "SELECT name, setting, source, current_user::text, current_database()::text \
     FROM pg_catalog.pg_settings WHERE name IN ('fsync', 'full_page_writes', 'synchronous_commit')";
/// Whether commits wait for standbys.
const STANDBYS: &str = "SELECT setting <> '' FROM pg_catalog.pg_settings WHERE name = 'synchronous_standby_names'";
/// Tables that are emptied after a crash.
const UNLOGGED: &str = "SELECT relname::text FROM pg_catalog.pg_class WHERE relpersistence <> 'p' \
     AND oid IN (to_regclass('{schema}.kv'), to_regclass('{schema}.users'), to_regclass('{schema}.cache_epoch'), \
     to_regclass('{schema}.api_keys')) ORDER BY 1";
/// Active rules that rewrite inserts, updates or deletes. PostgreSQL refuses `ON CONFLICT` on a table that has one.
const RULES: &str = "SELECT ev_class::regclass::text, rulename::text FROM pg_catalog.pg_rewrite \
     WHERE ev_type <> '1' AND ev_enabled <> 'D' \
     AND ev_class IN (to_regclass('{schema}.kv'), to_regclass('{schema}.users'), to_regclass('{schema}.cache_epoch'), \
     to_regclass('{schema}.api_keys')) ORDER BY 1, 2";
/// Tables whose row-level security applies to this role.
const HIDDEN_ROWS: &str = "SELECT relname::text, current_user::text FROM pg_catalog.pg_class \
     WHERE oid IN (to_regclass('{schema}.kv'), to_regclass('{schema}.users'), to_regclass('{schema}.cache_epoch'), \
     to_regclass('{schema}.api_keys')) \
     AND row_security_active(oid) ORDER BY 1";

/// A setting with its value and source, and the role and database of the session.
struct Setting<'a> {
    name: &'a str,
    value: &'a str,
    source: &'a str,
    role: &'a str,
    database: &'a str,
}

impl<'a> Setting<'a> {
    fn from_row(row: &'a Row) -> Self {
        let [name, value, source, role, database] = [0, 1, 2, 3, 4].map(|at| row.get(at));
        Self {
            name,
            value,
            source,
            role,
            database,
        }
    }

    /// Returns `name is "value" (source)`.
    fn describe(&self) -> String {
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

    /// Returns the command that sets the setting to `value` for this role and database, which wins over other sources.
    fn correction(&self, value: &str) -> String {
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

/// Finds settings with which responses would be wrong, or writes would stall.
pub(crate) async fn session(client: &impl GenericClient) -> Result<Findings, Error> {
    let mut wrong = Findings::new();
    for row in client.query(SESSION, &[]).await? {
        let setting = Setting::from_row(&row);
        match (setting.name, setting.value) {
            ("server_encoding", "SQL_ASCII") => wrong.push(
                "the database's encoding is SQL_ASCII: it stores any bytes and knows no characters. Create a database \
                 with ENCODING 'UTF8' TEMPLATE template0, and load a dump of this one into it"
                    .to_owned(),
            ),
            ("default_transaction_isolation", value) if !matches!(value, "read committed" | "read uncommitted") => {
                wrong.push(format!(
                    "{}: writes of one key at the same time would fail and wait. {}",
                    setting.describe(),
                    setting.correction("'read committed'")
                ));
            }
            ("search_path", _) => {
                let first = client.query_opt(FIRST_SCHEMA, &[]).await?;
                let first: Option<&str> = first.as_ref().map(|row| row.get(0));
                if first != Some("pg_catalog") {
                    wrong.push(format!(
                        "{}: functions and operators of another schema would take the place of PostgreSQL's own. {}",
                        setting.describe(),
                        setting.correction("a list without pg_catalog, which then comes first")
                    ));
                }
            }
            _ => {}
        }
    }
    Ok(wrong)
}

/// Finds rules and row-level security on the tables.
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

/// Finds reasons why a committed write may be lost when the server or its machine crashes.
pub(crate) async fn durability(client: &impl GenericClient, schema: &SchemaName) -> Result<Findings, Error> {
    let mut lossy = Findings::new();
    for row in client.query(DURABILITY, &[]).await? {
        let setting = Setting::from_row(&row);
        let lost = match (setting.name, setting.value) {
            ("synchronous_commit", "off") => {
                let correction = setting.correction("on");
                format!("writes of the last moments before a crash of the server are lost. {correction}")
            }
            (name @ ("fsync" | "full_page_writes"), "off") => format!(
                "a crash of the machine may damage or lose what was written. \
                 Run: ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()"
            ),
            _ => continue,
        };
        lossy.push(format!("{}: {lost}", setting.describe()));
    }
    for row in client.query(&schema.fill(UNLOGGED), &[]).await? {
        let table: &str = row.get(0);
        lossy.push(format!(
            "the table {table} is unlogged: it is empty after a crash of the server. Run: ALTER TABLE {table} SET LOGGED"
        ));
    }
    Ok(lossy)
}

/// Describes a `synchronous_commit` that may lose commits at a failover; `None` if it does not.
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
