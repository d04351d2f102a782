//! Makes the changes of many callers with one statement, which is one commit.
//!
//! Invariant: every caller gets the version of its own change, as if the changes had been made one after the other in the
//! order in which they were submitted.
//!
//! The [`Combiner`] gives a batch as rows: one row for each key, with all changes of the key that were folded together.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cenote_postgres::{
    BatchLimits, Combine, Combiner, Connection, Error, Pool, Rows,
    tokio_postgres::{Row, types::ToSql},
};

use super::{
    change::{Change, WriteError},
    condition::Condition,
    fenced_commit::{FencedCommit, FencedStatement, Release},
    sql::ChangeSql,
};
use crate::store::SchemaName;

/// What a statement did with a change.
pub(super) enum RowOutcome {
    /// The change is durable; `release` tells when every read sees it.
    Committed { version: i64, release: Release },
    /// A delete of a key that has no value.
    NothingToDelete,
    /// The condition does not hold for `version`.
    ConditionFailed { version: i64 },
    /// A row of the key appeared after the key was judged to have none. Nothing was done; submit the change again.
    RowAppeared,
}

/// Makes batches of changes.
pub(super) struct KeyChanges {
    commit: FencedCommit,
    sql: ChangeSql,
}

/// Returns a combiner of changes for each of the pool's runtimes.
pub(super) fn combiners(
    commit: &FencedCommit,
    pool: &Pool,
    limits: &BatchLimits,
    schema: &SchemaName,
) -> Vec<Combiner<KeyChanges>> {
    let sql = ChangeSql::new(schema);
    let changes = || KeyChanges {
        commit: commit.clone(),
        sql: sql.clone(),
    };
    Combiner::per_runtime(pool, limits, changes)
}

impl Combine for KeyChanges {
    type Key = str;
    /// Shared with the caller, which may have to submit the change again.
    type Write = Arc<Change>;
    type Outcome = RowOutcome;
    type Error = WriteError;

    fn key<'a>(&self, change: &'a Arc<Change>) -> &'a str {
        &change.key
    }

    fn bytes(&self, change: &Arc<Change>) -> usize {
        let condition = change.condition.as_ref().map_or(0, Condition::bytes);
        change.key.len() + change.value.as_ref().map_or(0, String::len) + condition
    }

    fn database_error(error: &WriteError) -> Option<&Error> {
        match error {
            WriteError::Database(error) => Some(error),
            WriteError::NotFenced(_) | WriteError::Standby => None,
        }
    }

    fn folds(&self, row: &[&Arc<Change>], next: &Arc<Change>) -> bool {
        folds(row, next)
    }

    async fn commit(
        &self,
        connection: &Connection,
        rows: &Rows<'_, Arc<Change>>,
        lock_timeout: Duration,
    ) -> Result<Vec<RowOutcome>, WriteError> {
        let keys: Vec<&str> = rows.iter().map(|row| &*row[0].key).collect();
        let values: Vec<Option<&str>> = rows.iter().map(newest).collect();
        let versions: Vec<i64> = rows.iter().map(versions).collect();
        let lock_timeout = lock_timeout.as_millis().to_string();
        let conditions = conditions(rows);
        let one: [&(dyn ToSql + Sync); 4];
        let (sql, parameters): (&str, &[&(dyn ToSql + Sync)]) = match (&*keys, &*values, &*versions, &conditions) {
            (.., Some([among, unlike])) => (
                &self.sql.conditional,
                &[&keys, &values, &versions, among, unlike, &lock_timeout],
            ),
            ([key], [Some(value)], [versions], None) => {
                one = [key, value, versions, &lock_timeout];
                (&self.sql.write, &one)
            }
            _ => (&self.sql.change, &[&keys, &values, &versions, &lock_timeout]),
        };
        let statement = FencedStatement {
            keys: &keys,
            sql,
            parameters,
        };
        let (changed, release) = self.commit.run(connection, &statement).await?;
        // Only the conditional statement returns changes that it did not make.
        let is_made = |row: &Row| conditions.is_none() || row.get(2);
        let last: HashMap<&str, (i64, bool)> = changed
            .iter()
            .map(|row| (row.get(0), (row.get(1), is_made(row))))
            .collect();
        let mut outcomes = Vec::with_capacity(versions.len());
        for row in rows.iter() {
            match last.get(&*row[0].key) {
                Some((last, true)) => {
                    let before = last - steps(row).flatten().last().unwrap_or_default();
                    outcomes.extend(steps(row).map(|step| match step {
                        Some(step) => RowOutcome::Committed {
                            version: before + step,
                            release: release.clone(),
                        },
                        None => RowOutcome::NothingToDelete,
                    }));
                }
                Some((version, false)) => {
                    let version = *version;
                    outcomes.extend(row.iter().map(|_| RowOutcome::ConditionFailed { version }));
                }
                None if row[0].value.is_none() => {
                    outcomes.extend(row.iter().map(|_| RowOutcome::NothingToDelete));
                }
                None if conditions.is_some() => {
                    outcomes.extend(row.iter().map(|_| RowOutcome::RowAppeared));
                }
                // A row that was not returned was not written: a trigger that is not ours can cause that.
                None => return Err(Error::RowCount(changed.len()).into()),
            }
        }
        Ok(outcomes)
    }
}

/// Returns the versions that each key must have, and those that it must not have; `None` if no change has a condition.
fn conditions(rows: &Rows<'_, Arc<Change>>) -> Option<[Vec<Option<String>>; 2]> {
    let condition = |row: &[&Arc<Change>]| row[0].condition.clone();
    if rows.iter().all(|row| row[0].condition.is_none()) {
        return None;
    }
    let arrays = |row| condition(row).map_or([None, None], |condition| condition.arrays());
    let (among, unlike) = rows.iter().map(arrays).map(|[one, other]| (one, other)).unzip();
    Some([among, unlike])
}

/// Whether a change can be folded into the row of the changes before it.
///
/// A write after a leading delete cannot: it is unknown whether the delete finds a value, and so which version the write
/// makes. A change with a condition cannot: the condition is judged by the version in the table, before the row's changes.
fn folds(row: &[&Arc<Change>], next: &Arc<Change>) -> bool {
    let is_free = row[0].condition.is_none() && next.condition.is_none();
    is_free && (row[0].value.is_some() || next.value.is_none())
}

/// Returns the value after all changes of a key.
fn newest<'a>(row: &[&'a Arc<Change>]) -> Option<&'a str> {
    row.last()?.value.as_deref()
}

/// Returns the number of versions that the changes of a key make; 0 if they begin with a delete, for which the statement
/// finds out.
fn versions(row: &[&Arc<Change>]) -> i64 {
    match &row[0].value {
        Some(_) => steps(row).flatten().last().unwrap_or_default(),
        None => 0,
    }
}

/// Returns for each change of a key which of the row's versions it makes, counted from 1, assuming that the first makes one.
/// A delete after a delete makes none.
fn steps(row: &[&Arc<Change>]) -> impl Iterator<Item = Option<i64>> {
    let (mut last, mut has_value) = (0, true);
    row.iter().map(move |change| {
        let had_value = std::mem::replace(&mut has_value, change.value.is_some());
        let makes_one = has_value || had_value;
        last += i64::from(makes_one);
        makes_one.then_some(last)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(values: &[Option<&str>]) -> Vec<Arc<Change>> {
        let change = |value: &Option<&str>| {
            let (key, value) = ("key".to_owned(), value.map(str::to_owned));
            let condition = None;
            Arc::new(Change { key, value, condition })
        };
        values.iter().map(change).collect()
    }

    #[test]
    fn changes_of_one_key_are_folded_to_the_last_and_each_keeps_its_version() {
        let changes = changes(&[Some("a"), Some("b"), None, None, Some("c")]);
        let row: Vec<&Arc<Change>> = changes.iter().collect();
        assert_eq!(newest(&row), Some("c"));
        assert_eq!(versions(&row), 4);
        let steps: Vec<_> = steps(&row).collect();
        assert_eq!(steps, [Some(1), Some(2), Some(3), None, Some(4)]);
    }

    #[test]
    fn after_a_delete_only_deletes_are_folded() {
        let changes = changes(&[None, None, Some("a")]);
        let row: Vec<&Arc<Change>> = changes.iter().collect();
        assert!(folds(&row[..1], row[1]));
        assert!(!folds(&row[..2], row[2]));
        assert_eq!((newest(&row[..2]), versions(&row[..2])), (None, 0));
        let steps: Vec<_> = steps(&row[..2]).collect();
        assert_eq!(steps, [Some(1), None]);
    }

    #[test]
    fn a_change_with_a_condition_shares_a_row_with_no_other() {
        let free = changes(&[Some("a"), Some("b")]);
        let bound = Change::write("key".to_owned(), "c".to_owned());
        let bound = Arc::new(bound.only_if(Some(Condition::Among(vec![1]))));
        assert!(folds(&[&free[0]], &free[1]));
        assert!(!folds(&[&free[0]], &bound));
        assert!(!folds(&[&bound], &free[0]));
    }
}
