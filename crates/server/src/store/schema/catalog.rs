//! Reads which tables, columns and indexes exist. Invariant: it queries only the system catalogs, which every role may read.

use std::collections::HashMap;

use tokio_postgres::{Error, GenericClient};

use crate::store::SchemaName;

/// The columns of the tables, with one row for a table without columns. `$1`: the schema, `$2`: the tables' names.
const COLUMNS: &str = "SELECT c.relname::text, c.relkind::text, a.attname::text, \
     format_type(a.atttypid, NULL), co.collname::text, a.attnotnull, a.atthasdef OR a.attidentity <> '' \
     FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped \
     LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation \
     WHERE n.nspname = $1 AND c.relname = ANY($2)";

/// The columns and expressions of each unique index that `ON CONFLICT` can use: valid, immediate and not partial.
const UNIQUE: &str = "SELECT c.relname::text, ARRAY(SELECT pg_catalog.pg_get_indexdef(i.indexrelid, k, true) \
     FROM pg_catalog.generate_series(1, i.indnkeyatts::int) AS k) \
     FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indrelid \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = $1 AND c.relname = ANY($2) \
     AND i.indisunique AND i.indisvalid AND i.indimmediate AND i.indpred IS NULL";

/// Whether the schema exists, whether the server is a standby, and the function and triggers of the change feed.
const SCHEMA_AND_FEED: &str = "SELECT EXISTS (SELECT FROM pg_catalog.pg_namespace WHERE nspname = $1), \
     pg_catalog.pg_is_in_recovery(), \
     (SELECT p.prosrc FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace \
     WHERE n.nspname = $1 AND p.proname = 'cenote_feed' LIMIT 1), \
     (SELECT count(*) FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_class c ON c.oid = t.tgrelid \
     JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
     WHERE n.nspname = $1 AND c.relname = 'kv' AND t.tgname LIKE 'cenote\\_feed\\_%')";

/// What exists in the database.
#[derive(Debug, Default)]
pub(super) struct Catalog {
    pub(super) has_schema: bool,
    pub(super) is_standby: bool,
    pub(super) tables: HashMap<String, Table>,
    /// The body of the change feed's function.
    pub(super) feed: Option<String>,
    pub(super) feed_triggers: i64,
}

/// A relation that has the name of one of the service's tables.
#[derive(Debug, Default)]
pub(super) struct Table {
    /// `pg_class.relkind`.
    pub(super) kind: String,
    pub(super) columns: Vec<Column>,
    /// The columns and expressions of each unique index.
    pub(super) unique: Vec<Vec<String>>,
}

#[derive(Debug)]
pub(super) struct Column {
    pub(super) name: String,
    /// The type without its length.
    pub(super) kind: String,
    pub(super) collation: Option<String>,
    pub(super) not_null: bool,
    pub(super) has_default: bool,
}

impl Catalog {
    /// Reads what exists of the tables with these names.
    pub(super) async fn read(client: &impl GenericClient, schema: &SchemaName, tables: &[&str]) -> Result<Self, Error> {
        let schema = schema.as_str();
        let found = client.query_one(SCHEMA_AND_FEED, &[&schema]).await?;
        let mut catalog = Self {
            has_schema: found.get(0),
            is_standby: found.get(1),
            tables: HashMap::new(),
            feed: found.get(2),
            feed_triggers: found.get(3),
        };
        for row in client.query(COLUMNS, &[&schema, &tables]).await? {
            let table = catalog.tables.entry(row.get(0)).or_default();
            table.kind = row.get(1);
            if let Some(name) = row.get(2) {
                table.columns.push(Column {
                    name,
                    kind: row.get(3),
                    collation: row.get(4),
                    not_null: row.get(5),
                    has_default: row.get(6),
                });
            }
        }
        for row in client.query(UNIQUE, &[&schema, &tables]).await? {
            // Outside a snapshot, a table may have been created after the columns were read.
            if let Some(table) = catalog.tables.get_mut(row.get::<_, &str>(0)) {
                table.unique.push(row.get(1));
            }
        }
        Ok(catalog)
    }
}
