//! Keys and their values. Invariant: a key's version grows by one with every write and every delete, whoever
//! makes it, and never starts again: a deleted key keeps its row.

use std::{collections::HashMap, time::Duration};

use cenote_cache::{
    fenced::{Coherence, NotFenced},
    origin::Value,
    read::{Read, Source},
};
use cenote_postgres::{Batch, Batcher, Error};

use super::{
    Store,
    commit::{Committer, Statement, WriteError},
};

/// Many writes at once, each key with how many of them are to it: that many versions pass.
const WRITE: &str = "INSERT INTO kv (key, value, version) \
     SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[]) \
     ON CONFLICT (key) DO UPDATE SET value = excluded.value, \
     version = kv.version + excluded.version, updated_at = now() \
     RETURNING key, version";
const DELETE: &str = "UPDATE kv SET value = NULL, version = version + 1, updated_at = now() \
     WHERE key = $1 AND value IS NOT NULL RETURNING version";

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
        match &self.cache {
            Some(cache) => cache.read(key).await,
            None => Ok(uncached(self.values.one(key).await?)),
        }
    }

    /// The values of keys, in their order.
    pub(crate) async fn read_many(&self, keys: &[&str]) -> Result<Vec<Read>, Error> {
        match &self.cache {
            Some(cache) => cache.read_many(keys).await,
            None => {
                let values = self.values.many(keys).await?;
                Ok(values.into_iter().map(uncached).collect())
            }
        }
    }

    /// Writes a value, durably once this returns.
    pub(crate) async fn write(&self, key: String, value: String) -> Result<Written, WriteError> {
        Ok(self.writes.submit(Write { key, value }).await??)
    }

    /// Deletes a key; `None` if it had no value.
    pub(crate) async fn delete(&self, key: &str) -> Result<Option<Written>, WriteError> {
        let statement = Statement {
            keys: &[key],
            sql: DELETE,
            parameters: &[&key],
        };
        let (rows, coherence) = self.committer.commit(&statement, Duration::ZERO).await?;
        let written = |row: &cenote_postgres::tokio_postgres::Row| Written {
            version: row.get(0),
            coherence,
        };
        Ok(rows.first().map(written))
    }
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

/// A value on its way to its key.
pub(super) struct Write {
    key: String,
    value: String,
}

/// Writes the values of many callers with one statement, which is one commit.
pub(super) struct Writes(Committer);

/// Writes values, many callers' at a time.
pub(super) fn writes(committer: Committer) -> Batcher<Writes> {
    let pool = committer.pool.clone();
    Batcher::new(Writes(committer), &pool)
}

impl Batch for Writes {
    type Request = Write;
    type Response = Result<Written, NotFenced>;

    fn weight(&self, write: &Write) -> usize {
        write.key.len() + write.value.len()
    }

    async fn run(
        &self,
        writes: Vec<Write>,
        waited: Duration,
    ) -> Vec<Result<Self::Response, Error>> {
        let mut answers = Vec::with_capacity(writes.len());
        // What is still to be written; the part that comes first is on top.
        let mut parts = vec![&writes[..]];
        while let Some(part) = parts.pop() {
            match self.write_all(part, waited).await {
                Ok(written) => answers.extend(written.into_iter().map(|written| Ok(Ok(written)))),
                Err(WriteError::NotFenced(error)) => {
                    answers.extend(part.iter().map(|_| Ok(Err(error))));
                }
                // Nothing of the statement had an effect, and one write is to blame: the others need not suffer.
                Err(WriteError::Database(error)) if part.len() > 1 && is_about_data(&error) => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Err(WriteError::Database(error)) => {
                    answers.extend(part.iter().map(|_| Err(error.clone())));
                }
            }
        }
        answers
    }
}

/// Data exceptions, broken constraints and exceeded limits: some value cannot be stored.
fn is_about_data(error: &Error) -> bool {
    let class = error.code().and_then(|code| code.code().get(..2));
    matches!(class, Some("22" | "23" | "54"))
}

impl Writes {
    /// What became of each write, in their order.
    async fn write_all(
        &self,
        writes: &[Write],
        waited: Duration,
    ) -> Result<Vec<Written>, WriteError> {
        let folded = Folded::new(writes);
        let (keys, values, counts) = (&folded.keys, &folded.values, &folded.counts);
        let statement = Statement {
            keys,
            sql: WRITE,
            parameters: &[keys, values, counts],
        };
        let (rows, coherence) = self.0.commit(&statement, waited).await?;
        let newest = rows.iter().map(|row| (row.get(0), row.get(1)));
        // A row that did not come back was not written: a trigger of someone else's may see to that.
        let versions = folded.versions(&newest.collect());
        let versions = versions.ok_or(Error::RowCount(rows.len()))?;
        let written = versions
            .into_iter()
            .map(|version| Written { version, coherence });
        Ok(written.collect())
    }
}

/// Writes with one row for each key: a statement cannot touch a row twice. The last write of a key stays, and the
/// earlier ones count as overwritten. Sorted by key, so that two statements never wait for each other in a circle.
struct Folded<'a> {
    keys: Vec<&'a str>,
    values: Vec<&'a str>,
    counts: Vec<i64>,
    /// Of each write: the row it went into, and which of that row's writes it is, from 1.
    places: Vec<(usize, i64)>,
}

impl<'a> Folded<'a> {
    fn new(writes: &'a [Write]) -> Self {
        let mut order: Vec<usize> = (0..writes.len()).collect();
        // Stable: writes of one key stay in the order in which they came.
        order.sort_by_key(|&index| &writes[index].key);
        let mut folded = Self {
            keys: Vec::with_capacity(writes.len()),
            values: Vec::with_capacity(writes.len()),
            counts: Vec::with_capacity(writes.len()),
            places: vec![(0, 0); writes.len()],
        };
        for index in order {
            let Write { key, value } = &writes[index];
            match (
                folded.keys.last(),
                folded.values.last_mut(),
                folded.counts.last_mut(),
            ) {
                (Some(last), Some(newest), Some(count)) if last == key => {
                    *newest = value;
                    *count += 1;
                }
                _ => {
                    folded.keys.push(key);
                    folded.values.push(value);
                    folded.counts.push(1);
                }
            }
            let row = folded.keys.len() - 1;
            folded.places[index] = (row, folded.counts[row]);
        }
        folded
    }

    /// The version of each write, from the newest version of each key. `None` if a key has none.
    fn versions(&self, newest: &HashMap<&str, i64>) -> Option<Vec<i64>> {
        let version = |&(row, nth): &(usize, i64)| {
            let newest = newest.get(self.keys[row])?;
            Some(newest - self.counts[row] + nth)
        };
        self.places.iter().map(version).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(key: &str, value: &str) -> Write {
        Write {
            key: key.to_owned(),
            value: value.to_owned(),
        }
    }

    #[test]
    fn writes_of_one_key_are_folded_to_the_last_and_each_keeps_a_version_of_its_own() {
        let writes = [
            write("b", "1"),
            write("a", "2"),
            write("b", "3"),
            write("b", "4"),
        ];
        let folded = Folded::new(&writes);
        assert_eq!(folded.keys, ["a", "b"]);
        assert_eq!(folded.values, ["2", "4"]);
        assert_eq!(folded.counts, [1, 3]);
        let newest = HashMap::from([("a", 1), ("b", 10)]);
        assert_eq!(folded.versions(&newest), Some(vec![8, 1, 9, 10]));
        assert_eq!(folded.versions(&HashMap::from([("a", 1)])), None);
    }
}
