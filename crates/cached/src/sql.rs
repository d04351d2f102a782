//! A table that a statement reads. Invariant: concurrent look-ups share one statement.

use std::{fmt, sync::Arc};

use cenote_postgres::{
    Loader, Pool,
    tokio_postgres::{self, Row, types::ToSql},
};

use crate::{
    key::Key,
    load::{Load, Versioned},
};

type ReadRow<V> = Box<dyn Fn(&Row) -> Result<V, tokio_postgres::Error> + Send + Sync>;

/// Finds rows by a statement in the form of a [`Loader`]: its parameter is an array of keys, and its first column is
/// `position`, counted from 1, which says which key a row belongs to.
///
/// A condition that always holds, such as `position BETWEEN 1 AND 1000000`, makes PostgreSQL plan the statement once: see
/// [`Loader`].
pub struct Sql<K: Key + ToSql, V> {
    pool: Pool,
    sql: Arc<str>,
    loader: Loader<K, Arc<Row>>,
    read: ReadRow<V>,
    version: Option<&'static str>,
}

impl<K: Key + ToSql, V> Sql<K, V> {
    /// Creates it for this statement. `read` makes the value of a row; if it fails, the readers of the key get
    /// [`Error::Decode`](cenote_postgres::Error::Decode).
    pub fn new(
        pool: &Pool,
        sql: impl Into<Arc<str>>,
        read: impl Fn(&Row) -> Result<V, tokio_postgres::Error> + Send + Sync + 'static,
    ) -> Self {
        let sql = sql.into();
        Self {
            pool: pool.clone(),
            loader: Loader::new(pool.clone(), sql.clone(), |row| Ok(Arc::new(row))),
            sql,
            read: Box::new(read),
            version: None,
        }
    }

    /// Takes the versions of rows from this column of the statement, a `bigint`. The crate's documentation says [what
    /// versions promise](crate#versions).
    #[must_use]
    pub fn version(self, column: &'static str) -> Self {
        Self {
            version: Some(column),
            ..self
        }
    }

    fn row(&self, row: &Row) -> Result<Versioned<V>, tokio_postgres::Error> {
        let version = match self.version {
            Some(column) => row.try_get(column)?,
            None => 0,
        };
        let value = (self.read)(row)?;
        Ok(Versioned { version, value })
    }
}

impl<K: Key + ToSql, V: Send + Sync + 'static> Load<K, V> for Sql<K, V> {
    type Error = cenote_postgres::Error;

    async fn load(&self, mut keys: Vec<K>) -> cenote_postgres::Result<Vec<Option<Versioned<V>>>> {
        let found = match (keys.pop(), keys.is_empty()) {
            (None, _) => return Ok(Vec::new()),
            (Some(key), true) => vec![self.loader.load(key).await?],
            (Some(key), false) => {
                keys.push(key);
                self.loader.load_many(keys).await?
            }
        };
        let rows = found
            .into_iter()
            .map(|row| row.map(|row| self.row(&row)).transpose().map_err(Into::into));
        rows.collect()
    }

    /// Runs the statement for no key.
    async fn check(&self) -> cenote_postgres::Result<()> {
        let nobody: Vec<K> = Vec::new();
        self.pool.query(&self.sql, &[&nobody]).await?;
        Ok(())
    }
}

impl<K: Key + ToSql, V> fmt::Debug for Sql<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sql")
            .field("sql", &self.sql)
            .field("version", &self.version)
            .finish_non_exhaustive()
    }
}
