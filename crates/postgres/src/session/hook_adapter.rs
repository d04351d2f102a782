//! Gives the generic pool the application's hooks. Invariant: a hook's commands have the command timeout of the configuration,
//! not that of the connection's last holder.

use std::{sync::Arc, time::Duration};

use futures_util::future::BoxFuture;

use super::{
    connection::Connection,
    hooks::{Hooks, Turn},
    manager::Postgres,
};
use crate::{ConnectionError, ConnectionInfo, Decision};

/// Returns these hooks for the generic pool, except `after_connect`, which concerns each reset too: the manager runs it.
pub(crate) fn for_pool(hooks: &Hooks, limit: Option<Duration>) -> cenote_pool::Hooks<Postgres> {
    let mut adapted = cenote_pool::Hooks::new();
    if let Some(turn) = &hooks.before_acquire {
        adapted = adapted.before_acquire(adapt(turn, limit, "before_acquire"));
    }
    if let Some(turn) = &hooks.after_release {
        adapted = adapted.after_release(adapt(turn, limit, "after_release"));
    }
    if let Some(turn) = hooks.on_close.clone() {
        adapted = adapted.on_close(move |connection: &mut Connection, info, reason| {
            connection.lend_to_hook(limit);
            turn(connection, info, reason)
        });
    }
    adapted
}

fn adapt(
    turn: &Arc<Turn>,
    limit: Option<Duration>,
    name: &'static str,
) -> impl for<'c> Fn(&'c mut Connection, ConnectionInfo) -> BoxFuture<'c, Result<Decision, ConnectionError>>
+ Send
+ Sync
+ 'static {
    let turn = turn.clone();
    move |connection, info| {
        connection.lend_to_hook(limit);
        let decided = turn(connection, info);
        Box::pin(async move {
            let decided = decided.await;
            decided.map_err(|error| ConnectionError::Hook(format!("{name}: {error}")))
        })
    }
}
