//! Keys and their values. Invariant: a key's version grows by one with every write and every delete, whoever
//! makes it, and never starts again: a deleted key keeps its row.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cenote_cache::{
    fenced::{Coherence, NotFenced},
    origin::Value,
    read::{Read, Source},
};
use cenote_postgres::{
    Combine, Combiner, Connection, Error, Limits, Pool, Rows,
    tokio_postgres::{Row, error::SqlState, types::ToSql},
};
use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::{
    Store,
    commit::{Committer, Release, Statement, WriteError},
    condition::Condition,
};
use crate::settings::SchemaName;

/// Many changes at once, each key with how many versions pass; 0 is a delete, which is one if there is something to
/// delete and otherwise changes nothing, so that absent keys leave no rows. About the bounds see the query that reads.
const CHANGE: &str = "WITH patience AS MATERIALIZED (SELECT set_config('lock_timeout', $4, true)) \
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

/// One write, as most batches are while there is little to do; PostgreSQL needs 0.6 of the instructions
/// that [`CHANGE`] would take it.
const WRITE: &str = "INSERT INTO {schema}.kv (key, value, version) \
     SELECT $1, $2, $3 FROM (SELECT set_config('lock_timeout', $4, true)) AS patience \
     ON CONFLICT (key) DO UPDATE SET value = excluded.value, \
     version = kv.version + excluded.version, updated_at = now() \
     RETURNING key, version";

/// As [`CHANGE`], where at least one of the changes has a condition: its key is locked, and then judged by its version. So
/// it is judged by the newest one, and stays what it was judged by until the commit.
///
/// A key that has a row is inserted with a version below zero, which the conflict then makes one above the row's. A row
/// that appears between the look and the insertion was not judged; nothing is done then, and the change has to be
/// submitted again. Keys are locked and changed one by one, in the order of all other statements: the insertion takes its
/// rows from `judged` one at a time, and is done before what it left is read.
const CONDITIONAL: &str = "WITH patience AS MATERIALIZED (SELECT set_config('lock_timeout', $6, true) AS is_set), \
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

/// A write that is durable.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Written {
    pub(crate) version: i64,
    /// Whether every read sees it from now on.
    pub(crate) coherence: Coherence,
}

impl Store {
    /// The value of a key.
    pub(crate) async fn read(&self, key: &str) -> Result<Read, Error> {
        let read = match &self.cache {
            Some(cache) => cache.read(key).await,
            None => self.values.one(key).await.map(uncached),
        };
        match read {
            // Nothing can be there.
            Err(error) if is_unrepresentable(&error) => Ok(uncached(None)),
            read => read,
        }
    }

    /// The values of keys, in their order.
    pub(crate) async fn read_many(&self, keys: &[&str]) -> Result<Vec<Read>, Error> {
        let read = match &self.cache {
            Some(cache) => cache.read_many(keys).await,
            None => {
                let values = self.values.many(keys).await;
                values.map(|values| values.into_iter().map(uncached).collect())
            }
        };
        match read {
            // One by one, so that the others are found.
            Err(error) if is_unrepresentable(&error) => try_join_all(keys.iter().map(|key| self.read(key))).await,
            read => read,
        }
    }

    /// Writes a value, durably once this returns.
    pub(crate) async fn write(&self, key: String, value: String) -> Result<Written, WriteError> {
        match self.change(Change::write(key, value)).await? {
            Changed::Made(written) => Ok(written),
            // Every write without a condition has a version.
            Changed::Nothing | Changed::Unmet { .. } => Err(Error::RowCount(0).into()),
        }
    }

    /// Deletes a key, durably once this returns; `None` if it had no value.
    pub(crate) async fn delete(&self, key: &str) -> Result<Option<Written>, WriteError> {
        match self.change(Change::delete(key.to_owned())).await? {
            Changed::Made(written) => Ok(Some(written)),
            Changed::Nothing | Changed::Unmet { .. } => Ok(None),
        }
    }

    /// Removes a key's row, so that its versions are forgotten too: for what was never anybody's.
    pub(crate) async fn forget(&self, key: &str) -> Result<(), Error> {
        let connection = self.pool.get().await?;
        connection.execute(&self.statements.forget, &[&key]).await?;
        Ok(())
    }

    /// Makes a change if its condition is met, as soon as its key can be fenced; it is durable once this returns. Nobody
    /// holds a connection who waits for that.
    pub(crate) async fn change(&self, change: Change) -> Result<Changed, WriteError> {
        if self.values.is_standby() {
            return Err(WriteError::Standby);
        }
        let change = Arc::new(change);
        let start = Instant::now();
        let deadline = start + self.write_patience;
        loop {
            if let Some(cache) = &self.cache {
                cache.unobstructed(deadline).await?;
            }
            match self.changes.submit(change.clone()).await? {
                Ok(Outcome::Nothing) => return Ok(Changed::Nothing),
                Ok(Outcome::Unmet { version }) => return Ok(Changed::Unmet { version }),
                Ok(Outcome::Made(Made { version, release })) => {
                    let coherence = release.coherence().await;
                    return Ok(Changed::Made(Written { version, coherence }));
                }
                Ok(Outcome::Overtaken) if Instant::now() >= deadline => {
                    return Err(Error::RowCount(0).into());
                }
                // There is a row now that can be judged.
                Ok(Outcome::Overtaken) => {}
                Err(error) if Instant::now() >= deadline => {
                    let waited = start.elapsed();
                    return Err(NotFenced { waited, ..error }.into());
                }
                // Redis was lost meanwhile, and nothing was written.
                Err(_) => {}
            }
        }
    }
}

/// Whether a value has characters that the database's encoding does not have.
pub(crate) fn is_unrepresentable(error: &Error) -> bool {
    error.code() == Some(&SqlState::UNTRANSLATABLE_CHARACTER)
}

/// What the database answered just now.
pub(super) fn uncached(value: Option<Value>) -> Read {
    Read {
        value,
        source: Source::Database,
        age: Some(Duration::ZERO),
        stale: false,
    }
}

/// A value on its way to its key, or the key's end.
#[derive(Debug)]
pub(crate) struct Change {
    key: String,
    value: Option<String>,
    condition: Option<Condition>,
}

impl Change {
    pub(crate) fn write(key: String, value: String) -> Self {
        Self {
            key,
            value: Some(value),
            condition: None,
        }
    }

    pub(crate) fn delete(key: String) -> Self {
        Self {
            key,
            value: None,
            condition: None,
        }
    }

    /// Made only if this holds.
    pub(crate) fn only_if(self, condition: Option<Condition>) -> Self {
        Self { condition, ..self }
    }
}

/// What became of a change.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Changed {
    Made(Written),
    /// It was to delete what is not there.
    Nothing,
    /// The condition does not hold of the current version, which is [`ABSENT`](super::ABSENT) if the key has no value.
    Unmet {
        version: i64,
    },
}

/// What a statement did with a change.
pub(super) enum Outcome {
    Made(Made),
    Nothing,
    Unmet {
        version: i64,
    },
    /// The row appeared after the key had been looked for, so nothing was done.
    Overtaken,
}

/// A change that is durable, with its keys on their way to be released.
pub(super) struct Made {
    version: i64,
    release: Release,
}

/// Makes the changes of many callers with one statement, which is one commit.
pub(super) struct Changes {
    committer: Committer,
    change: Arc<str>,
    write: Arc<str>,
    conditional: Arc<str>,
}

/// Makes changes, many callers' at a time.
pub(super) fn changes(
    committer: &Committer,
    pool: &Pool,
    limits: &Limits,
    schema: &SchemaName,
) -> Vec<Combiner<Changes>> {
    let [change, write, conditional] = [CHANGE, WRITE, CONDITIONAL].map(|sql| Arc::<str>::from(schema.fill(sql)));
    let changes = || Changes {
        committer: committer.clone(),
        change: change.clone(),
        write: write.clone(),
        conditional: conditional.clone(),
    };
    Combiner::per_home(pool, limits, changes)
}

impl Combine for Changes {
    type Key = str;
    /// Shared with the caller, who may have to submit it again.
    type Write = Arc<Change>;
    type Outcome = Result<Outcome, NotFenced>;

    fn key<'a>(&self, change: &'a Arc<Change>) -> &'a str {
        &change.key
    }

    fn bytes(&self, change: &Arc<Change>) -> usize {
        let condition = change.condition.as_ref().map_or(0, Condition::bytes);
        change.key.len() + change.value.as_ref().map_or(0, String::len) + condition
    }

    fn folds(&self, row: &[&Arc<Change>], next: &Arc<Change>) -> bool {
        folds(row, next)
    }

    async fn commit(
        &self,
        connection: &Connection,
        rows: &Rows<'_, Arc<Change>>,
        lock_timeout: Duration,
    ) -> Result<Vec<Self::Outcome>, Error> {
        let keys: Vec<&str> = rows.iter().map(|row| &*row[0].key).collect();
        let values: Vec<Option<&str>> = rows.iter().map(newest).collect();
        let versions: Vec<i64> = rows.iter().map(versions).collect();
        let lock_timeout = lock_timeout.as_millis().to_string();
        let conditions = conditions(rows);
        let one: [&(dyn ToSql + Sync); 4];
        let (sql, parameters): (&str, &[&(dyn ToSql + Sync)]) = match (&*keys, &*values, &*versions, &conditions) {
            (.., Some([among, unlike])) => (
                &self.conditional,
                &[&keys, &values, &versions, among, unlike, &lock_timeout],
            ),
            ([key], [Some(value)], [versions], None) => {
                one = [key, value, versions, &lock_timeout];
                (&self.write, &one)
            }
            _ => (&self.change, &[&keys, &values, &versions, &lock_timeout]),
        };
        let statement = Statement {
            keys: &keys,
            sql,
            parameters,
        };
        let (changed, release) = match self.committer.commit(connection, &statement).await {
            Ok(changed) => changed,
            Err(WriteError::Database(error)) => return Err(error),
            Err(WriteError::Standby) => unreachable!("the store asks before it submits a change"),
            Err(WriteError::NotFenced(error)) => {
                return Ok(rows.iter().flatten().map(|_| Err(error.clone())).collect());
            }
        };
        // The other two statements return only what they made.
        let is_met = |row: &Row| conditions.is_none() || row.get(2);
        let last: HashMap<&str, (i64, bool)> = changed
            .iter()
            .map(|row| (row.get(0), (row.get(1), is_met(row))))
            .collect();
        let mut outcomes = Vec::with_capacity(versions.len());
        for row in rows.iter() {
            match last.get(&*row[0].key) {
                Some((last, true)) => {
                    let before = last - steps(row).flatten().last().unwrap_or_default();
                    outcomes.extend(steps(row).map(|step| match step {
                        Some(step) => Outcome::Made(Made {
                            version: before + step,
                            release: release.clone(),
                        }),
                        None => Outcome::Nothing,
                    }));
                }
                Some((version, false)) => {
                    let version = *version;
                    outcomes.extend(row.iter().map(|_| Outcome::Unmet { version }));
                }
                None if row[0].value.is_none() => {
                    outcomes.extend(row.iter().map(|_| Outcome::Nothing));
                }
                None if conditions.is_some() => {
                    outcomes.extend(row.iter().map(|_| Outcome::Overtaken));
                }
                // What did not come back was not written: a trigger of someone else's may see to that.
                None => return Err(Error::RowCount(changed.len())),
            }
        }
        Ok(outcomes.into_iter().map(Ok).collect())
    }
}

/// The versions that each row may have and those that it may not have, if any has a condition.
fn conditions(rows: &Rows<'_, Arc<Change>>) -> Option<[Vec<Option<String>>; 2]> {
    let condition = |row: &[&Arc<Change>]| row[0].condition.clone();
    if rows.iter().all(|row| row[0].condition.is_none()) {
        return None;
    }
    let arrays = |row| condition(row).map_or([None, None], |condition| condition.arrays());
    let (among, unlike) = rows.iter().map(arrays).map(|[one, other]| (one, other)).unzip();
    Some([among, unlike])
}

/// Whether a change can go into one row with those before it. Whether a delete finds something is known after a write or
/// another delete; but of a write after a delete that comes first, it cannot be told which version it makes. What a
/// condition says of a change cannot be known before the one before it is made.
fn folds(row: &[&Arc<Change>], next: &Arc<Change>) -> bool {
    let is_free = row[0].condition.is_none() && next.condition.is_none();
    is_free && (row[0].value.is_some() || next.value.is_none())
}

/// What is there after all changes of a key.
fn newest<'a>(row: &[&'a Arc<Change>]) -> Option<&'a str> {
    row.last()?.value.as_deref()
}

/// How many versions all changes of a key make; 0 for a delete, of which it is not known.
fn versions(row: &[&Arc<Change>]) -> i64 {
    match &row[0].value {
        Some(_) => steps(row).flatten().last().unwrap_or_default(),
        None => 0,
    }
}

/// Which of their versions, from 1, each of the changes of a key makes, if the first makes one. A delete after a delete
/// makes none.
fn steps(row: &[&Arc<Change>]) -> impl Iterator<Item = Option<i64>> {
    let (mut last, mut is_there) = (0, true);
    row.iter().map(move |change| {
        let was_there = std::mem::replace(&mut is_there, change.value.is_some());
        let makes_one = is_there || was_there;
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
    fn changes_of_one_key_are_folded_to_the_last_and_each_keeps_a_version_of_its_own() {
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
