//! Keys and their values. Invariant: a key's version grows by one with every write and every delete, whoever
//! makes it, and never starts again: a deleted key keeps its row.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cenote_postgres::{Batch, Batcher, Error, Loader, Pool, Result, tokio_postgres::Row};

use super::Store;

/// Many keys at once. The inner query has a limit so that it is planned as a look-up in the index for each key,
/// whatever the planner believes about the table's size when it makes the plan.
const READ: &str = "SELECT wanted.position, found.value, found.version \
     FROM unnest($1::text[]) WITH ORDINALITY AS wanted (key, position), \
     LATERAL (SELECT value, version FROM kv WHERE kv.key = wanted.key COLLATE \"C\" LIMIT 1) AS found \
     WHERE found.value IS NOT NULL";
/// Many writes at once, each key with how many of them are to it: that many versions pass.
const WRITE: &str = "INSERT INTO kv (key, value, version) \
     SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[]) \
     ON CONFLICT (key) DO UPDATE SET value = excluded.value, \
     version = kv.version + excluded.version, updated_at = now() \
     RETURNING key, version";
const DELETE: &str = "UPDATE kv SET value = NULL, version = version + 1, updated_at = now() \
     WHERE key = $1 AND value IS NOT NULL";

/// What stands under a key.
pub(crate) struct Value {
    pub(crate) value: String,
    pub(crate) version: i64,
}

/// From a row of `position, value, version`.
fn value(row: &Row) -> Value {
    Value {
        value: row.get(1),
        version: row.get(2),
    }
}

/// Looks values up, many callers' keys at a time.
pub(super) fn loader(pool: Pool) -> Loader<String, Value> {
    Loader::new(pool, READ, value)
}

impl Store {
    /// The value of a key.
    pub(crate) async fn read(&self, key: &str) -> Result<Option<Arc<Value>>> {
        self.values.load(key.to_owned()).await
    }

    /// The values of those keys that have one, each with the key's index, in no particular order.
    pub(crate) async fn read_many(&self, keys: &[String]) -> Result<Vec<(usize, Value)>> {
        let pool = &self.pool;
        let rows = pool
            .retry_idempotent(|| async { pool.get().await?.query(READ, &[&keys]).await })
            .await?;
        let found = rows.iter().map(|row| {
            let position: i64 = row.get(0);
            (
                usize::try_from(position - 1).unwrap_or_default(),
                value(row),
            )
        });
        Ok(found.collect())
    }

    /// Writes a value, durably once this returns, and tells the write's own version.
    pub(crate) async fn write(&self, key: String, value: String) -> Result<i64> {
        self.writes.submit(Write { key, value }).await
    }

    /// Deletes a key; false if it had no value.
    pub(crate) async fn delete(&self, key: &str) -> Result<bool> {
        let pool = &self.pool;
        let deleted = pool
            .retry(|| async { pool.get().await?.execute(DELETE, &[&key]).await })
            .await?;
        Ok(deleted > 0)
    }
}

/// A value on its way to its key.
pub(super) struct Write {
    key: String,
    value: String,
}

/// Writes the values of many callers with one statement, which is one commit.
pub(super) struct Writes(Pool);

/// Writes values, many callers' at a time.
pub(super) fn writes(pool: Pool) -> Batcher<Writes> {
    Batcher::new(Writes(pool.clone()), &pool)
}

impl Batch for Writes {
    type Request = Write;
    type Response = i64;

    fn weight(&self, write: &Write) -> usize {
        write.key.len() + write.value.len()
    }

    async fn run(&self, writes: Vec<Write>, waited: Duration) -> Vec<Result<i64>> {
        let mut answers = Vec::with_capacity(writes.len());
        // What is still to be written; the part that comes first is on top.
        let mut parts = vec![&writes[..]];
        while let Some(part) = parts.pop() {
            match self.write_all(part, waited).await {
                Ok(versions) => answers.extend(versions.into_iter().map(Ok)),
                // Nothing of the statement had an effect, and one write is to blame: the others need not suffer.
                Err(error) if part.len() > 1 && is_about_data(&error) => {
                    let (first, second) = part.split_at(part.len() / 2);
                    parts.extend([second, first]);
                }
                Err(error) => answers.extend(part.iter().map(|_| Err(error.clone()))),
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
    /// The version of each write, in their order.
    async fn write_all(&self, writes: &[Write], waited: Duration) -> Result<Vec<i64>> {
        let folded = Folded::new(writes);
        let (keys, values, counts) = (&folded.keys, &folded.values, &folded.counts);
        let pool = &self.0;
        let rows = pool
            .retry(|| async move {
                let connection = pool.get_after(waited).await?;
                connection.query(WRITE, &[keys, values, counts]).await
            })
            .await?;
        let newest = rows.iter().map(|row| (row.get(0), row.get(1)));
        // A row that did not come back was not written: a trigger of someone else's may see to that.
        let versions = folded.versions(&newest.collect());
        versions.ok_or(Error::RowCount(rows.len()))
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
