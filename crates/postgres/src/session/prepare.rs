//! Statements from the cache, prepared first if need be, and prepared anew when what they depend on has changed.
//!
//! Invariant: a statement is run a second time only if the first time certainly had no effect.

use std::sync::atomic::Ordering::Relaxed;

use tokio_postgres::{Statement, types::Type};

use super::{
    connection::{Connection, Inner},
    execution::Failure,
    side_effects::SideEffects,
    staleness::Staleness,
    statement_cache::Prepared,
    tap::TransactionStatus,
};

/// A statement to be run now.
pub(super) struct Ready {
    pub(super) prepared: Prepared,
    /// It was prepared for an earlier command, so that what it depends on may have changed since.
    pub(super) is_cached: bool,
}

impl Connection {
    /// A statement ready to run: from the cache, or prepared and kept there.
    pub(super) async fn prepare(&self, sql: &str) -> std::result::Result<Ready, Failure> {
        let Inner { link, statements, .. } = &*self.inner;
        if link.take_stale() {
            statements.clear();
        }
        if let Some(prepared) = statements.get(sql) {
            return Ok(Ready {
                prepared,
                is_cached: true,
            });
        }
        let prepared = Prepared {
            statement: self.prepare_anew(sql).await?,
            effects: SideEffects::of(sql),
        };
        statements.insert(sql, prepared.clone());
        Ok(Ready {
            prepared,
            is_cached: false,
        })
    }

    async fn prepare_anew(&self, sql: &str) -> std::result::Result<Statement, Failure> {
        let Inner {
            client,
            types_looked_up,
            types_lost,
            preparing,
            ..
        } = &*self.inner;
        preparing.fetch_add(1, Relaxed);
        let prepared = client.prepare(sql).await;
        preparing.fetch_sub(1, Relaxed);
        // One that failed may have failed half-way through a look-up.
        if prepared.as_ref().map_or(true, has_looked_up_types) {
            types_looked_up.store(true, Relaxed);
        }
        prepared.map_err(|error| match Staleness::of(&error) {
            // The driver asks by name for statements of its own with which it looks types up, and cannot be told that
            // the server has forgotten them.
            Staleness::Forgotten => {
                types_lost.store(true, Relaxed);
                Failure::Stale(error)
            }
            _ => Failure::Unexecuted(error),
        })
    }

    /// A statement prepared anew, to be run once more, if the other has failed because what it depends on has changed:
    /// a table's columns, or a type that was dropped and made again. Otherwise the failure.
    pub(super) async fn renew(
        &self,
        sql: &str,
        stale: &Ready,
        failure: Failure,
    ) -> std::result::Result<Ready, Failure> {
        let (failure, staleness) = self.forget_if_stale(sql, stale, failure);
        match (staleness, self.status_if_stale(staleness).await) {
            (Staleness::None, _) => return Err(failure),
            (_, Some(TransactionStatus::Idle)) => {}
            // It was not sent, and so has not failed the transaction.
            (Staleness::Parameters, Some(TransactionStatus::Open)) => {}
            // The transaction is lost.
            _ => return Err(failure.stale()),
        }
        let renewed = self.prepare(sql).await?;
        let parameters = |ready: &Ready| ready.prepared.statement.params().to_vec();
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

    /// Has a statement prepared anew the next time if its failure says so.
    pub(super) fn forget_if_stale(&self, sql: &str, stale: &Ready, failure: Failure) -> (Failure, Staleness) {
        let staleness = match &failure {
            // It may be something within it, after a part of it was committed.
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
            // Others that depend on the same would fail too, one by one.
            Staleness::Certain => {
                statements.clear();
                client.clear_type_cache();
            }
        }
        (failure, staleness)
    }
}

/// Whether the driver had to ask the server about the types in a statement.
fn has_looked_up_types(statement: &Statement) -> bool {
    let columns = statement.columns().iter().map(|column| column.type_());
    let mut types = statement.params().iter().chain(columns);
    types.any(|kind| Type::from_oid(kind.oid()).is_none())
}
