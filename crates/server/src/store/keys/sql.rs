//! The statements about keys. Invariant: each works on any number of keys with one plan, which PostgreSQL makes once.
//!
//! Clauses that all of them share:
//!
//! - `/* key.… */`: the name, which `pg_stat_activity` and the log of slow statements show.
//! - `unnest($1::text[], …)`: one array parameter for each column. So one prepared statement serves batches of every size.
//! - `… BETWEEN 0 AND 1000000000`: always true. It lowers the planner's estimate of the array from ten rows to one. So the
//!   planner looks each key up in the index, and keeps the generic plan instead of planning each execution anew.
//! - `COLLATE "C"`: the collation of `kv.key`. A parameter has the database's default collation, and PostgreSQL uses an
//!   index only for a comparison in the index's collation.
//! - `kv.value IS NOT NULL`: a deleted key keeps its row, without a value, so that its versions continue.
//! - `set_config('lock_timeout', …, true)`: sets the timeout in the statement itself, which saves a round trip. It ends with
//!   the transaction, so the next user of the connection does not get it.

use std::sync::Arc;

use crate::store::SchemaName;

/// Reads many keys. `$1`: the keys. Returns `position, value, version, size`.
///
/// - `WITH ORDINALITY`: the position says which key a row belongs to. The order of rows is not promised, and a key may come
///   twice.
/// - `CASE … 32768`: a value above [`SMALL`](crate::response_memory::SMALL) is left out and only its size returned, so that
///   a small request cannot make the database send large values. See [`size_note`](super::size_note).
pub(super) const READ: &str = "/* key.read */ SELECT wanted.position, CASE WHEN octet_length(kv.value) <= 32768 THEN kv.value END, kv.version, \
     CASE WHEN octet_length(kv.value) > 32768 THEN octet_length(kv.value) END \
     FROM unnest($1::text[]) WITH ORDINALITY AS wanted (key, position) \
     JOIN {schema}.kv ON kv.key = wanted.key COLLATE \"C\" \
     WHERE wanted.position BETWEEN 1 AND 1000000000 AND kv.value IS NOT NULL";

/// Reads large values. `$1`: the keys; `$2`: for each, the number of bytes that there is memory for. Returns `position,
/// value, version, size`. A value that has grown beyond its `$2` is left out, so that no response exceeds its claim.
pub(super) const READ_LARGE: &str = "/* key.read_large */ SELECT wanted.position, CASE WHEN octet_length(kv.value) <= wanted.size THEN kv.value END, \
     kv.version, octet_length(kv.value) \
     FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS wanted (key, size, position) \
     JOIN {schema}.kv ON kv.key = wanted.key COLLATE \"C\" \
     WHERE wanted.position BETWEEN 1 AND 1000000000 AND kv.value IS NOT NULL";

/// Removes a key with its row. For keys that no client has written: after it, versions start again.
pub(super) const FORGET: &str = "/* key.forget */ DELETE FROM {schema}.kv WHERE key = $1";

/// Writes one key without a condition. `$1`: the key; `$2`: its value; `$3`: the number of versions to count; `$4`: the lock
/// timeout. Most batches have one change while there is little load, and PostgreSQL executes 0.6 of the instructions of
/// [`CHANGE`] for it.
const WRITE: &str = "/* key.write */ INSERT INTO {schema}.kv (key, value, version) \
     SELECT $1, $2, $3 FROM (SELECT set_config('lock_timeout', $4, true)) AS patience \
     ON CONFLICT (key) DO UPDATE SET value = excluded.value, \
     version = kv.version + excluded.version, updated_at = now() \
     RETURNING key, version";

/// Writes and deletes many keys. `$1`: the keys; `$2`: their values, null for a delete; `$3`: the number of versions to
/// count for each key, 0 for a delete; `$4`: the lock timeout. Returns the changed keys with their last versions.
///
/// - `versions > 0 OR (SELECT …)`: a delete of a key without a value inserts no row, so keys that never existed leave none.
/// - `WHERE excluded.version > 0 OR kv.value IS NOT NULL`: the same for a key that is deleted between that look and the
///   insertion.
/// - `greatest(excluded.version, 1)`: a delete, which comes with 0, counts one version.
/// - `AS MATERIALIZED`: sets the lock timeout once, and before the first row is locked.
/// - `OFFSET 0` is an optimization fence. Without it the planner merges the bounds with the conditions on the outside, and
///   no longer expects one row.
const CHANGE: &str = "/* key.change */ WITH patience AS MATERIALIZED (SELECT set_config('lock_timeout', $4, true)) \
     INSERT INTO {schema}.kv (key, value, version) \
     SELECT change.key, change.value, change.versions \
     FROM patience, (SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[]) AS change (key, value, versions) \
     WHERE versions BETWEEN 0 AND 1000000000 OFFSET 0) AS change \
     WHERE change.versions > 0 \
     OR (SELECT kv.value IS NOT NULL FROM {schema}.kv WHERE kv.key = change.key COLLATE \"C\") \
     ON CONFLICT (key) DO UPDATE SET value = excluded.value, \
     version = kv.version + greatest(excluded.version, 1), updated_at = now() \
     WHERE excluded.version > 0 OR kv.value IS NOT NULL \
     RETURNING key, version";

/// Like [`CHANGE`], for batches in which at least one change has a condition. `$4` and `$5`: for each key the versions that
/// it must have and must not have, each as the text of an array, or null; `$6`: the lock timeout. Returns `key, version,
/// is_made`: the new version of a changed key, or the current one of a key whose condition failed.
///
/// - `FOR NO KEY UPDATE` locks each row before its version is judged. So the newest version is judged, and it stays the
///   newest until the commit. It is the weakest lock that stops other writers.
/// - `judged AS MATERIALIZED`: each key is locked and judged once. `made` takes its rows from `judged` one by one, so keys
///   are locked in the order of the array. All other statements use the same order, so none wait for each other in a
///   circle.
/// - `LEFT JOIN LATERAL … ON true`: a key without a row is judged too, as version 0.
/// - `patience.is_set IS NOT NULL`, inside the lateral subquery: makes the subquery depend on `patience`, so that the lock
///   timeout is set before the first row is locked.
/// - `CASE WHEN has_row THEN - greatest(versions, 1) …`: a key that has a row is inserted with a negative version. The
///   conflict subtracts it, which adds the versions to the row's.
/// - `WHERE excluded.version < 0`: a row that appeared between the look and the insertion was not judged and comes with a
///   positive version. It is not changed and not returned; the caller submits the change again.
/// - `version > 0` in `WHERE is_met AND …`: a delete of a key without a value inserts no row.
/// - `::bigint[]` of a text: an array of arrays of different lengths cannot be a parameter.
const CONDITIONAL: &str = "/* key.change_if */ WITH patience AS MATERIALIZED (SELECT set_config('lock_timeout', $6, true) AS is_set), \
     judged AS MATERIALIZED ( \
     SELECT change.key, change.value, change.versions, now.has_row, coalesce(now.version, 0) AS version, \
     (change.among IS NULL OR coalesce(now.version, 0) = ANY (change.among::bigint[])) \
     AND (change.unlike IS NULL OR coalesce(now.version, 0) <> ALL (change.unlike::bigint[])) AS is_met \
     FROM patience CROSS JOIN LATERAL (SELECT * \
     FROM unnest($1::text[], $2::text[], $3::bigint[], $4::text[], $5::text[]) \
     AS change (key, value, versions, among, unlike) \
     WHERE versions BETWEEN 0 AND 1000000000 AND patience.is_set IS NOT NULL OFFSET 0) AS change \
     LEFT JOIN LATERAL (SELECT true AS has_row, CASE WHEN kv.value IS NULL THEN 0 ELSE kv.version END AS version \
     FROM {schema}.kv WHERE kv.key = change.key COLLATE \"C\" FOR NO KEY UPDATE) AS now ON true), \
     made AS (INSERT INTO {schema}.kv (key, value, version) \
     SELECT key, value, CASE WHEN has_row THEN - greatest(versions, 1) ELSE versions END \
     FROM judged WHERE is_met AND (versions > 0 OR version > 0) \
     ON CONFLICT (key) DO UPDATE SET value = excluded.value, \
     version = kv.version - excluded.version, updated_at = now() \
     WHERE excluded.version < 0 \
     RETURNING key, version) \
     SELECT key, version, true FROM made \
     UNION ALL SELECT key, version, false FROM judged WHERE NOT is_met";

/// The statements that change keys, with the schema filled in.
#[derive(Clone)]
pub(super) struct ChangeSql {
    pub(super) write: Arc<str>,
    pub(super) change: Arc<str>,
    pub(super) conditional: Arc<str>,
}

impl ChangeSql {
    pub(super) fn new(schema: &SchemaName) -> Self {
        let [write, change, conditional] = [WRITE, CHANGE, CONDITIONAL].map(|sql| schema.fill(sql).into());
        Self {
            write,
            change,
            conditional,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::response_memory::SMALL;

    #[test]
    fn reads_leave_out_values_above_the_bound_of_small_ones() {
        assert_eq!(READ.matches(&format!("= {SMALL} ")).count(), 1);
        assert_eq!(READ.matches(&format!("> {SMALL} ")).count(), 1);
    }
}
