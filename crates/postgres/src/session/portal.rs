//! Portals: the rows of a query in portions, as their reader asks for them.
//!
//! The driver offers portals only for transactions that it began itself. These are cursors of SQL, which the server implements as
//! portals. Invariant: a portal ends with its transaction at the latest, so it costs no reset.

use std::sync::atomic::Ordering::Relaxed;

use tokio_postgres::Row;

use super::{commands::Parameter, connection::Connection, side_effects::SideEffects, transaction::Transaction};
use crate::{Result, session::prepare::Runnable, session::statement_cache::Prepared};

/// A query that the server has begun, and whose rows are fetched in portions. See [`Transaction::bind`].
///
/// It ends with its transaction, or earlier by [`close`](Self::close).
#[derive(Debug)]
pub struct Portal<'t> {
    connection: &'t Connection,
    number: u32,
}

impl Transaction<'_> {
    /// Begins a query, and returns a portal from which [`query_portal`](Self::query_portal) fetches its rows. Other commands may
    /// run in between, unlike with [`query_stream`](Connection::query_stream), and several portals may be open.
    ///
    /// `sql` is a query: `SELECT`, `VALUES`, `TABLE`, or `WITH` without changes of data.
    ///
    /// ```no_run
    /// # async fn example(pool: &cenote_postgres::Pool) -> cenote_postgres::Result<()> {
    /// let transaction = pool.begin().await?;
    /// let goods = transaction.bind("SELECT id, price FROM goods WHERE price > $1", &[&100_i64]).await?;
    /// loop {
    ///     let portion = transaction.query_portal(&goods, 500).await?;
    ///     if portion.is_empty() {
    ///         break;
    ///     }
    ///     // Work on the portion, also in this transaction.
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// See [`Error`](crate::Error).
    pub async fn bind(&self, sql: &str, parameters: &[Parameter<'_>]) -> Result<Portal<'_>> {
        let connection: &Connection = self;
        let portal = Portal {
            connection,
            number: connection.inner.portals.fetch_add(1, Relaxed),
        };
        let declare = format!("DECLARE {} NO SCROLL CURSOR FOR {sql}", portal.name());
        let run = async {
            // Not from the cache: it would keep a statement for each portal. This one is closed when it is dropped.
            let runnable = Runnable {
                prepared: Prepared {
                    statement: connection.prepare_on_the_server(&declare, &[]).await?,
                    key: declare.as_str().into(),
                    effects: SideEffects::of(&declare),
                },
                is_cached: false,
            };
            connection.collect(&runnable, parameters).await
        };
        connection.command(sql, run, |_| None).await?;
        Ok(portal)
    }

    /// Fetches at most this number of the portal's next rows; 0: all. No rows: the query has ended.
    ///
    /// # Errors
    ///
    /// See [`Error`](crate::Error).
    ///
    /// # Cancel safety
    ///
    /// If the future is dropped, the portal may have advanced.
    pub async fn query_portal(&self, portal: &Portal<'_>, most: u32) -> Result<Vec<Row>> {
        let name = portal.name();
        let fetch = match most {
            0 => format!("FETCH FORWARD ALL FROM {name}"),
            most => format!("FETCH FORWARD {most} FROM {name}"),
        };
        self.query_typed(&fetch, &[]).await
    }
}

impl Portal<'_> {
    fn name(&self) -> String {
        format!("cenote_portal_{}", self.number)
    }

    /// Ends the query on the server now, instead of with its transaction.
    ///
    /// # Errors
    ///
    /// See [`Error`](crate::Error).
    pub async fn close(self) -> Result<()> {
        self.connection.control(&format!("CLOSE {}", self.name())).await
    }
}
