//! The row of `cache_epoch`, which says which keyspace of which Redis is trusted; see docs/coherence.md.
//!
//! Invariant: the epoch only grows.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

use cenote_cache::{EpochRow, Nonce, Trust};

use crate::{database::AnyDatabase, names::quoted};

/// Reads the row, as a text: `epoch is_decided is_first is_standby keyspace`.
///
/// - `first_decided_at BETWEEN …`: the first decision counts as the first for 10 s by the server's own clock, so a restored
///   backup does not bring it back.
/// - `NOT pg_is_in_recovery()`: a standby's row may be old, and so may the values read from it. No Redis is trusted because
///   of a standby, so that such values are not stored for other instances.
const READ: &str = "/* epoch.read */ SELECT concat_ws(' ', epoch, is_decided::int, \
     coalesce(first_decided_at BETWEEN clock_timestamp() - interval '10 s' AND clock_timestamp(), false)::int, \
     pg_is_in_recovery()::int, CASE WHEN NOT pg_is_in_recovery() THEN encode(keyspace, 'hex') END) \
     FROM {table}";
/// Inserts a new row after the table was emptied. It trusts nothing, because other instances may still act on the old row.
/// `floor(random() * 2 ^ 52)` makes it unlikely that an epoch is used twice.
const REPLACE: &str = "/* epoch.replace */ INSERT INTO {table} (epoch, is_decided) \
     VALUES (floor(random() * 2 ^ 52)::bigint + 1, true) ON CONFLICT DO NOTHING";

/// After a promotion, two reads must pass before writes are accepted: when the second begins, the first has been acted on.
/// Until then this instance trusts no Redis, while others may already trust one.
const ENOUGH_READS: u8 = 2;

/// Access to the row.
pub(crate) struct Epoch<E> {
    database: Box<dyn AnyDatabase<E>>,
    table: String,
    read: String,
    /// The number of reads since the server was last a standby, at most [`ENOUGH_READS`]. Relaxed: it guards no memory.
    since_standby: AtomicU8,
}

impl<E> Epoch<E> {
    pub(crate) fn new(database: Box<dyn AnyDatabase<E>>, schema: Option<&str>) -> Self {
        let table = match schema {
            Some(schema) => format!("{}.cache_epoch", quoted(schema)),
            None => "cache_epoch".to_owned(),
        };
        Self {
            database,
            read: READ.replace("{table}", &table),
            table,
            since_standby: AtomicU8::new(ENOUGH_READS),
        }
    }

    /// Reads the row, and inserts a new one if there is none.
    pub(crate) async fn row(&self) -> Result<EpochRow, E> {
        let row = match self.database.run(&self.read).await? {
            Some(row) => Some(row),
            None => {
                self.database.run(&REPLACE.replace("{table}", &self.table)).await?;
                self.database.run(&self.read).await?
            }
        };
        let (row, is_standby) = row.as_deref().and_then(parse).unwrap_or((UNREADABLE, false));
        let since = match is_standby {
            true => 0,
            false => self.since_standby.load(Relaxed).saturating_add(1).min(ENOUGH_READS),
        };
        self.since_standby.store(since, Relaxed);
        Ok(row)
    }

    /// Moves the row to `successor`. Does nothing if another instance was faster.
    pub(crate) async fn advance(&self, successor: EpochRow) -> Result<(), E> {
        self.database.run(&advance(&self.table, successor)).await?;
        Ok(())
    }

    /// Whether this role may read and change the row.
    pub(crate) async fn may_change(&self) -> Result<bool, E> {
        let rights = ["SELECT", "INSERT", "UPDATE"]
            .map(|right| format!("has_table_privilege('{}', '{right}')", self.table.replace('\'', "\'\'")));
        let may = self
            .database
            .run(&format!("SELECT ({})::text", rights.join(" AND ")))
            .await?;
        Ok(may.as_deref() == Some("true"))
    }

    pub(crate) fn is_permanent(&self, error: &E) -> bool {
        self.database.is_permanent(error)
    }

    /// Closes the connection to the database.
    pub(crate) async fn close(&self) {
        self.database.close().await;
    }

    /// Whether the server is a standby, or was one until two reads ago.
    pub(crate) fn is_standby(&self) -> bool {
        self.since_standby.load(Relaxed) < ENOUGH_READS
    }
}

/// What a row counts as that is not understood: nobody acts on it.
const UNREADABLE: EpochRow = EpochRow {
    epoch: 0,
    trust: Trust::Undecided,
    is_first: false,
};

/// Parses what [`READ`] returns: the row, and whether the server is a standby.
fn parse(text: &str) -> Option<(EpochRow, bool)> {
    let mut words = text.split(' ');
    let epoch: i64 = words.next()?.parse().ok()?;
    let mut flag = || Some(words.next()? == "1");
    let (is_decided, is_first, is_standby) = (flag()?, flag()?, flag()?);
    let trust = match words.next() {
        _ if !is_decided => Trust::Undecided,
        None => Trust::Nothing,
        Some(digits) => Trust::Keyspace(Nonce(from_hex(digits)?)),
    };
    let epoch = epoch.cast_unsigned();
    Some((EpochRow { epoch, trust, is_first }, is_standby))
}

fn from_hex(digits: &str) -> Option<[u8; 20]> {
    let mut bytes = [0; 20];
    if digits.len() != 2 * bytes.len() || !digits.is_ascii() {
        return None;
    }
    for (at, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).ok()?;
    }
    Some(bytes)
}

/// The statement that moves the row to the next epoch. It holds numbers and hexadecimal digits alone.
///
/// The epoch grows by one, so of several instances that decide at once only one succeeds. Only a row that trusts nothing may
/// skip epochs: that repairs a row that a restored backup set back.
fn advance(table: &str, successor: EpochRow) -> String {
    let epoch = successor.epoch.cast_signed();
    let before = epoch.wrapping_sub(1);
    let (keyspace, or_skip) = match successor.keyspace() {
        Some(Nonce(bytes)) => {
            let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            (format!("decode('{digits}', 'hex')"), String::new())
        }
        None => ("NULL".to_owned(), format!(" OR epoch < ({epoch})::bigint")),
    };
    let first = if successor.is_first {
        "clock_timestamp()"
    } else {
        "NULL"
    };
    format!(
        "/* epoch.advance */ UPDATE {table} SET epoch = ({epoch})::bigint, is_decided = true, keyspace = {keyspace}, \
         first_decided_at = {first} WHERE epoch = ({before})::bigint{or_skip}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_read_as_it_was_written() {
        let digits = "0123456789abcdef0123456789abcdef01234567";
        let nonce = Nonce(from_hex(digits).unwrap());
        let row = |epoch, trust, is_first| EpochRow { epoch, trust, is_first };
        let keyspace = format!("7 1 1 0 {digits}");
        for (text, expected) in [
            ("7 0 0 0", Some((row(7, Trust::Undecided, false), false))),
            ("7 1 0 0", Some((row(7, Trust::Nothing, false), false))),
            ("7 1 0 1", Some((row(7, Trust::Nothing, false), true))),
            (&keyspace, Some((row(7, Trust::Keyspace(nonce), true), false))),
            ("", None),
            ("seven 1 0 0", None),
            ("7 1 0", None),
            ("7 1 0 0 0123", None),
            ("7 1 0 0 ääääääääääääääääääää", None),
        ] {
            assert_eq!(parse(text), expected, "{text}");
        }
    }

    #[test]
    fn only_a_row_that_trusts_nothing_skips_epochs() {
        let row = |trust| EpochRow {
            epoch: 9,
            trust,
            is_first: false,
        };
        let keyspace = advance("cache_epoch", row(Trust::Keyspace(Nonce([255; 20]))));
        assert!(keyspace.contains(&"ff".repeat(20)), "{keyspace}");
        assert!(keyspace.ends_with("WHERE epoch = (8)::bigint"), "{keyspace}");
        let nothing = advance("cache_epoch", row(Trust::Nothing));
        assert!(
            nothing.ends_with("WHERE epoch = (8)::bigint OR epoch < (9)::bigint"),
            "{nothing}"
        );
    }
}
