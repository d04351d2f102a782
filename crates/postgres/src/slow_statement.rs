//! Slow statements: what is known of one, and who is told.
//!
//! Invariant: parameters are never told, and a quick statement costs nothing here.

use std::{fmt, panic::Location, sync::Arc, time::Duration};

use cenote_pool::Acquisition;

use crate::Error;

/// The most bytes of a statement's name.
const LONGEST_NAME: usize = 64;

/// A statement that took as long as [`Config::slow_query`](crate::Config::slow_query).
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct SlowStatement<'a> {
    /// Its text.
    pub sql: &'a str,
    /// How long the first request of its batch waited in the queue, without the wait for a connection. Zero beside a batch.
    pub queued: Duration,
    /// How long the caller waited for the connection, before the first statement that it ran on it.
    pub waited: Duration,
    /// From the statement's start to the end of its answer; of streams and copies, to their beginning.
    pub executed: Duration,
    /// The rows that it returned or changed; `None` if it failed, and of streams and copies.
    pub rows: Option<u64>,
    /// The requests of its batch; 1 beside a batch.
    pub requests: usize,
    /// Why it failed.
    pub error: Option<&'a Error>,
    /// The source line that acquired the connection; `None` of a connection that is not from a pool.
    pub holder: Option<&'static Location<'static>>,
}

impl<'a> SlowStatement<'a> {
    /// Returns the statement's name: the comment at the start of its text, as in `/* read */ SELECT …`. It is part of the
    /// text, so the server shows it too, in `pg_stat_activity` for example.
    #[must_use]
    pub fn name(&self) -> Option<&'a str> {
        statement_name(self.sql)
    }

    /// Writes it to the log. A statement with a name is logged without its text.
    pub(crate) fn log(&self) {
        let name = self.name();
        let sql = name.is_none().then_some(self.sql);
        tracing::warn!(
            target: "cenote::sql",
            statement = name,
            sql,
            queue_us = micros(self.queued),
            wait_us = micros(self.waited),
            execute_us = micros(self.executed),
            rows = self.rows,
            requests = self.requests,
            error = self.error.map(tracing::field::display),
            holder = self.holder.map(tracing::field::display),
            "slow statement"
        );
    }
}

/// Returns the name of a statement, if its text begins with one.
pub(crate) fn statement_name(sql: &str) -> Option<&str> {
    let (name, _) = sql.strip_prefix("/* ")?.split_once(" */")?;
    let is_in_name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b':' | b' ');
    let is_name = (1..=LONGEST_NAME).contains(&name.len()) && name.bytes().all(is_in_name);
    is_name.then_some(name)
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

/// Who uses a connection.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    acquisition: Option<Acquisition>,
    batch: Option<(Duration, usize)>,
}

impl Usage {
    /// A use that begins.
    pub(crate) fn new(acquisition: Acquisition) -> Self {
        Self {
            acquisition: Some(acquisition),
            batch: None,
        }
    }

    /// Notes that it is for a batch of requests, of which the first waited for this time.
    pub(crate) fn set_batch(&mut self, waited: Duration, requests: usize) {
        self.batch = Some((waited, requests));
    }

    /// A slow statement of this use.
    pub(crate) fn statement<'a>(
        &self,
        sql: &'a str,
        executed: Duration,
        outcome: Result<Option<u64>, &'a Error>,
    ) -> SlowStatement<'a> {
        let waited = self.acquisition.map_or(Duration::ZERO, |it| it.waited);
        let (in_all, requests) = self.batch.unwrap_or((Duration::ZERO, 1));
        SlowStatement {
            sql,
            queued: in_all.saturating_sub(waited),
            waited,
            executed,
            rows: outcome.ok().flatten(),
            requests,
            error: outcome.err(),
            holder: self.acquisition.map(|it| it.caller),
        }
    }
}

/// Is called for every slow statement, after it was logged, by the task that ran it. It must not block.
#[derive(Clone)]
pub struct SlowStatementHook(Arc<dyn Fn(&SlowStatement<'_>) + Send + Sync>);

impl SlowStatementHook {
    /// Calls this function.
    pub fn new(function: impl Fn(&SlowStatement<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(function))
    }

    pub(crate) fn call(&self, statement: &SlowStatement<'_>) {
        (self.0)(statement);
    }
}

impl fmt::Debug for SlowStatementHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SlowStatementHook")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_statement_is_the_comment_at_its_start() {
        assert_eq!(statement_name("/* read */ SELECT 1"), Some("read"));
        assert_eq!(statement_name("/* users: list */"), Some("users: list"));
        let long = format!("/* {} */ SELECT 1", "x".repeat(LONGEST_NAME + 1));
        for sql in [
            "SELECT 1",
            "/**/ SELECT 1",
            "/* */ SELECT 1",
            "/* it's */ SELECT 1",
            "/* read",
            "SELECT /* read */ 1",
            &long,
        ] {
            assert_eq!(statement_name(sql), None, "{sql}");
        }
    }

    #[test]
    fn the_wait_of_a_batch_is_divided_into_queue_and_connection() {
        let ms = Duration::from_millis;
        let mut usage = Usage::new(Acquisition::new(Location::caller(), ms(30)));
        let alone = usage.statement("SELECT 1", ms(5), Ok(Some(2)));
        assert_eq!((alone.queued, alone.waited, alone.requests), (ms(0), ms(30), 1));
        usage.set_batch(ms(40), 7);
        let batch = usage.statement("SELECT 1", ms(5), Ok(Some(2)));
        assert_eq!((batch.queued, batch.waited, batch.executed), (ms(10), ms(30), ms(5)));
        assert_eq!((batch.requests, batch.rows), (7, Some(2)));
    }
}
