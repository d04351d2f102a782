//! Takes statements from the cache, prepares them, and prepares them again when something they depend on has changed.
//!
//! Invariant: a statement runs a second time only if the first time certainly had no effect.

use std::sync::atomic::Ordering::Relaxed;

use tokio::time::Instant;
use tokio_postgres::{Statement, types::Type};

use super::{
    connection::{Connection, Inner},
    execution::{Failed, Failure},
    side_effects::SideEffects,
    staleness::Staleness,
    statement_cache::{self, Prepared},
};
use crate::{Result, tap::TransactionStatus};

/// A prepared statement, and whether it comes from the cache.
pub(super) struct Runnable {
    pub(super) prepared: Prepared,
    /// It was prepared for an earlier command, so something it depends on may have changed.
    pub(super) is_cached: bool,
}

impl Connection {
    /// Prepares a statement and keeps it, for commands with the same text. Returns it with the types of its parameters and columns.
    ///
    /// Every command does so by itself; call this to have a statement ready, or to look at its types. The statement belongs to
    /// this connection: run it by passing its text, or the driver's statement to [`client`](Self::client).
    ///
    /// # Errors
    ///
    /// See [`Error`](crate::Error).
    pub async fn prepare(&self, sql: &str) -> Result<Statement> {
        self.make_ready().await?;
        let prepared = self.bounded(self.statement(sql)).await?;
        Ok(prepared.prepared.statement)
    }

    /// Returns a statement from the cache, or prepares and keeps it.
    pub(super) async fn statement(&self, sql: &str) -> std::result::Result<Runnable, Failure> {
        if let Some(prepared) = self.kept(sql) {
            return Ok(Runnable {
                prepared,
                is_cached: true,
            });
        }
        Ok(Runnable {
            prepared: self.prepare_and_keep(sql, sql, &[]).await?,
            is_cached: false,
        })
    }

    /// Like [`statement`](Self::statement), with types for the first parameters, as a command of its own.
    pub(super) async fn prepare_typed(&self, sql: &str, types: &[Type]) -> std::result::Result<Prepared, Failed> {
        let key = statement_cache::key(sql, types);
        if let Some(prepared) = self.kept(&key) {
            return Ok(prepared);
        }
        self.make_ready().await?;
        self.bounded_from(Instant::now(), self.prepare_and_keep(&key, sql, types))
            .await
    }

    /// Returns a statement from the cache.
    fn kept(&self, key: &str) -> Option<Prepared> {
        let Inner { link, statements, .. } = &*self.inner;
        if link.take_stale() {
            statements.clear();
        }
        statements.get(key)
    }

    /// Prepares a statement and keeps it.
    async fn prepare_and_keep(&self, key: &str, sql: &str, types: &[Type]) -> std::result::Result<Prepared, Failure> {
        let prepared = Prepared {
            statement: self.prepare_on_the_server(sql, types).await?,
            effects: SideEffects::of(sql),
            key: key.into(),
        };
        self.inner.statements.insert(prepared.clone());
        Ok(prepared)
    }

    pub(super) async fn prepare_on_the_server(
        &self,
        sql: &str,
        types: &[Type],
    ) -> std::result::Result<Statement, Failure> {
        let Inner {
            client,
            types_looked_up,
            types_lost,
            preparing,
            ..
        } = &*self.inner;
        preparing.fetch_add(1, Relaxed);
        let prepared = client.prepare_typed(sql, types).await;
        preparing.fetch_sub(1, Relaxed);
        // A failed preparation may have failed during a look-up of types.
        if prepared.as_ref().map_or(true, has_looked_up_types) {
            types_looked_up.store(true, Relaxed);
        }
        prepared.map_err(|error| match Staleness::of(&error) {
            // The driver looks types up with its own named statements, and cannot be told that the server has forgotten
            // them.
            Staleness::Forgotten => {
                types_lost.store(true, Relaxed);
                Failure::Stale(error)
            }
            _ => Failure::Unexecuted(error),
        })
    }

    /// Prepares a statement again, if it failed because something it depends on has changed, such as a column or a
    /// recreated type. Otherwise returns the failure.
    pub(super) async fn renew(
        &self,
        sql: &str,
        stale: &Runnable,
        failure: Failure,
    ) -> std::result::Result<Runnable, Failure> {
        let (failure, staleness) = self.forget_if_stale(sql, stale, failure);
        match (staleness, self.status_if_stale(staleness).await) {
            (Staleness::None, _) => return Err(failure),
            (_, Some(TransactionStatus::Idle)) => {}
            // It was not sent, so the transaction has not failed.
            (Staleness::Parameters, Some(TransactionStatus::Open)) => {}
            // The transaction has failed.
            _ => return Err(failure.stale()),
        }
        let renewed = self.statement(sql).await?;
        let parameters = |runnable: &Runnable| runnable.prepared.statement.params().to_vec();
        match staleness == Staleness::Parameters && parameters(stale) == parameters(&renewed) {
            true => Err(failure),
            false => Ok(renewed),
        }
    }

    async fn status_if_stale(&self, staleness: Staleness) -> Option<TransactionStatus> {
        match staleness {
            Staleness::None => None,
            _ => self.transaction_status().await,
        }
    }

    /// Removes a statement from the cache if its failure shows that it is stale.
    pub(super) fn forget_if_stale(&self, sql: &str, stale: &Runnable, failure: Failure) -> (Failure, Staleness) {
        let staleness = match &failure {
            // The failure may come from inside it, after a part was committed.
            _ if stale.prepared.effects.commits => Staleness::None,
            Failure::Unexecuted(error) | Failure::Executed(error) => Staleness::of(error),
            Failure::Stale(_) => Staleness::None,
        };
        let Inner { client, statements, .. } = &*self.inner;
        match staleness {
            Staleness::Parameters | Staleness::Possible if !stale.is_cached => {
                return (failure, Staleness::None);
            }
            Staleness::None => {}
            Staleness::Forgotten => statements.remove(sql),
            Staleness::Parameters | Staleness::Possible => {
                statements.remove(sql);
                client.clear_type_cache();
            }
            // Other statements that depend on the same object would fail one by one.
            Staleness::Certain => {
                statements.clear();
                client.clear_type_cache();
            }
        }
        (failure, staleness)
    }
}

impl Connection {
    /// Removes what the failure of a statement of the driver shows to be stale. `announced` is probably its key.
    pub(super) fn forget_if_stale_call(&self, announced: &str, error: &tokio_postgres::Error) {
        let Inner { client, statements, .. } = &*self.inner;
        match Staleness::of(error) {
            Staleness::None => return,
            Staleness::Parameters | Staleness::Possible => statements.remove(announced),
            // Any of them may have been meant.
            Staleness::Forgotten | Staleness::Certain => statements.clear(),
        }
        client.clear_type_cache();
    }
}

/// Whether the driver had to ask the server about a type of the statement.
fn has_looked_up_types(statement: &Statement) -> bool {
    let columns = statement.columns().iter().map(|column| column.type_());
    let mut types = statement.params().iter().chain(columns);
    types.any(|kind| Type::from_oid(kind.oid()).is_none())
}
