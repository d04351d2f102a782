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
    tokio_postgres::{error::SqlState, types::ToSql},
};
use futures_util::future::try_join_all;
use tokio::time::Instant;

use super::{
    Store,
    commit::{Committer, Release, Statement, WriteError},
};

/// Many changes at once, each key with how many versions pass; 0 is a delete, which is one if there is something to
/// delete and otherwise changes nothing, so that absent keys leave no rows. About the bounds see the query that reads.
const CHANGE: &str = "WITH patience AS MATERIALIZED (SELECT set_config('lock_timeout', $4, true)) \
     INSERT INTO kv (key, value, version) \
     SELECT change.key, change.value, change.versions \
     FROM patience, (SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[]) AS change (key, value, versions) \
     WHERE versions BETWEEN 0 AND 1000000000 OFFSET 0) AS change \
     WHERE change.versions > 0 \
     OR (SELECT kv.value IS NOT NULL FROM kv WHERE kv.key = change.key COLLATE \"C\") \
     ON CONFLICT (key) DO UPDATE SET value = excluded.value, \
     version = kv.version + greatest(excluded.version, 1), updated_at = now() \
     WHERE excluded.version > 0 OR kv.value IS NOT NULL \
     RETURNING key, version";

/// One write, as most batches are while there is little to do; PostgreSQL needs 0.6 of the instructions
/// that [`CHANGE`] would take it.
const WRITE: &str = "INSERT INTO kv (key, value, version) \
     SELECT $1, $2, $3 FROM (SELECT set_config('lock_timeout', $4, true)) AS patience \
     ON CONFLICT (key) DO UPDATE SET value = excluded.value, \
     version = kv.version + excluded.version, updated_at = now() \
     RETURNING key, version";

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
            Err(error) if is_unrepresentable(&error) => {
                try_join_all(keys.iter().map(|key| self.read(key))).await
            }
            read => read,
        }
    }

    /// Writes a value, durably once this returns.
    pub(crate) async fn write(&self, key: String, value: String) -> Result<Written, WriteError> {
        let value = Some(value);
        let written = self.change(Change { key, value }).await?;
        // Every write has a version.
        Ok(written.ok_or(Error::RowCount(0))?)
    }

    /// Deletes a key, durably once this returns; `None` if it had no value.
    pub(crate) async fn delete(&self, key: &str) -> Result<Option<Written>, WriteError> {
        let (key, value) = (key.to_owned(), None);
        self.change(Change { key, value }).await
    }

    /// Makes a change as soon as its key can be fenced. Nobody holds a connection who waits for that.
    async fn change(&self, change: Change) -> Result<Option<Written>, WriteError> {
        let change = Arc::new(change);
        let start = Instant::now();
        let deadline = start + self.write_patience;
        loop {
            if let Some(cache) = &self.cache {
                cache.unobstructed(deadline).await?;
            }
            match self.changes.submit(change.clone()).await? {
                Ok(None) => return Ok(None),
                Ok(Some(Made { version, release })) => {
                    let coherence = release.coherence().await;
                    return Ok(Some(Written { version, coherence }));
                }
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
fn uncached(value: Option<Value>) -> Read {
    Read {
        value,
        source: Source::Database,
        age: Some(Duration::ZERO),
        stale: false,
    }
}

/// A value on its way to its key, or the key's end.
pub(super) struct Change {
    key: String,
    value: Option<String>,
}

/// A change that is durable, with its keys on their way to be released.
pub(super) struct Made {
    version: i64,
    release: Release,
}

/// Makes the changes of many callers with one statement, which is one commit.
pub(super) struct Changes(Committer);

/// Makes changes, many callers' at a time.
pub(super) fn changes(
    committer: &Committer,
    pool: &Pool,
    limits: &Limits,
) -> Vec<Combiner<Changes>> {
    let changes = || Changes(committer.clone());
    Combiner::per_home(pool, limits, changes)
}

impl Combine for Changes {
    type Key = str;
    /// Shared with the caller, who may have to submit it again.
    type Write = Arc<Change>;
    /// What it made, if it did: a delete of what is not there makes nothing.
    type Outcome = Result<Option<Made>, NotFenced>;

    fn key<'a>(&self, change: &'a Arc<Change>) -> &'a str {
        &change.key
    }

    fn bytes(&self, change: &Arc<Change>) -> usize {
        change.key.len() + change.value.as_ref().map_or(0, String::len)
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
        let (sql, parameters): (_, [&(dyn ToSql + Sync); 4]) = match (&*keys, &*values, &*versions)
        {
            ([key], [Some(value)], [versions]) => (WRITE, [key, value, versions, &lock_timeout]),
            _ => (CHANGE, [&keys, &values, &versions, &lock_timeout]),
        };
        let statement = Statement {
            keys: &keys,
            sql,
            parameters: &parameters,
        };
        let (changed, release) = match self.0.commit(connection, &statement).await {
            Ok(changed) => changed,
            Err(WriteError::Database(error)) => return Err(error),
            Err(WriteError::NotFenced(error)) => {
                return Ok(rows.iter().flatten().map(|_| Err(error)).collect());
            }
        };
        let last: HashMap<&str, i64> = changed.iter().map(|row| (row.get(0), row.get(1))).collect();
        let mut outcomes = Vec::with_capacity(versions.len());
        for row in rows.iter() {
            match last.get(&*row[0].key) {
                Some(last) => {
                    let before = last - steps(row).flatten().last().unwrap_or_default();
                    outcomes.extend(steps(row).map(|step| {
                        let (version, release) = (before + step?, release.clone());
                        Some(Made { version, release })
                    }));
                }
                None if row[0].value.is_none() => outcomes.extend(row.iter().map(|_| None)),
                // What did not come back was not written: a trigger of someone else's may see to that.
                None => return Err(Error::RowCount(changed.len())),
            }
        }
        Ok(outcomes.into_iter().map(Ok).collect())
    }
}

/// Whether a change can go into one row with those before it. Whether a delete finds something is known after a write or
/// another delete; but of a write after a delete that comes first, it cannot be told which version it makes.
fn folds(row: &[&Arc<Change>], next: &Arc<Change>) -> bool {
    row[0].value.is_some() || next.value.is_none()
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
            Arc::new(Change { key, value })
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
}
