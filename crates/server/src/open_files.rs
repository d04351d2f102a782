//! Raises the limit of open files, and divides it between the service's own needs and its clients.
//!
//! Invariant: however many clients connect, the database and Redis keep the file descriptors they need.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::settings::Settings;

/// Open files of a connection to PostgreSQL: its socket, a duplicate handle to inspect it, and the socket of a cancel
/// request.
const PER_DATABASE_CONNECTION: usize = 3;
/// Files that are open for a moment: connections being refused (64), and files such as certificates and passwords,
/// and name look-ups (32).
const SHORT_LIVED: usize = 64 + 32;
/// With room for fewer clients the service refuses to start.
const FEWEST_CLIENTS: usize = 8;
/// Assumed number of open files where it cannot be counted.
const GUESSED_OPEN: usize = 64;

/// How the limit of open files is divided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OpenFiles {
    /// The limit; `None` if there is none.
    pub(crate) limit: Option<usize>,
    /// Files that are open already.
    pub(crate) open: usize,
    /// Files reserved for the database, Redis and short-lived uses.
    pub(crate) kept: usize,
}

/// The limit is too low to serve clients.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the limit of open files is {limit}, of which {open} are open and {kept} are kept for the database, Redis and \
     the like. Raise it ({HOW_TO_RAISE}), or lower DB_POOL_MAX_SIZE"
)]
pub(crate) struct TooFewOpenFiles {
    limit: usize,
    open: usize,
    kept: usize,
}

/// How an operator raises the limit, for messages.
pub(crate) const HOW_TO_RAISE: &str = "`ulimit -Hn`, LimitNOFILE= of systemd, --ulimit nofile= of docker";

impl OpenFiles {
    /// Raises the limit and counts the open files. Call it after listeners and threads were started, because they stay open.
    pub(crate) fn prepare(settings: &Settings, beside_pool: u32, cores: usize) -> Self {
        Self {
            limit: raise(),
            open: open().unwrap_or(GUESSED_OPEN),
            kept: kept(settings, beside_pool, cores),
        }
    }

    /// Returns how many of the `wanted` clients may be connected at a time.
    ///
    /// # Errors
    ///
    /// If there is room for fewer than eight clients, and more were wanted.
    pub(crate) fn clients(&self, wanted: usize) -> Result<usize, TooFewOpenFiles> {
        let Self { limit, open, kept } = *self;
        let Some(limit) = limit else {
            return Ok(wanted);
        };
        match limit.saturating_sub(open).saturating_sub(kept) {
            left if left < FEWEST_CLIENTS.min(wanted) => Err(TooFewOpenFiles { limit, open, kept }),
            left => Ok(left.min(wanted)),
        }
    }
}

fn kept(settings: &Settings, beside_pool: u32, cores: usize) -> usize {
    let pool = &settings.postgres.pool;
    let in_pool = pool.max_size.saturating_add(pool.max_overflow);
    let connections = in_pool.saturating_add(beside_pool) as usize;
    let redis = settings.cache.mode.redis().map_or(0, |redis| redis.servers.len());
    // To each Redis server: a connection to read and one to write for each core, and two that watch it.
    connections * PER_DATABASE_CONNECTION + redis * (2 * cores + 2) + SHORT_LIVED
}

/// Raises the soft limit to the hard limit, and returns the limit then in force; `None` if there is none. The low soft limit
/// only protects programs that use `select`.
fn raise() -> Option<usize> {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    // If the system refuses, the old limit stays in force.
    let after = setrlimit(Resource::Nofile, raised).map_or(before, |()| getrlimit(Resource::Nofile));
    let limit = after.current?;
    Some(usize::try_from(limit).unwrap_or(usize::MAX))
}

fn open() -> Option<usize> {
    let directory = fs::read_dir("/proc/self/fd").or_else(|_| fs::read_dir("/dev/fd"));
    // Reading the directory keeps one more file open.
    Some(directory.ok()?.count().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_the_database_and_the_rest_leave() {
        let with = |limit| OpenFiles {
            limit,
            open: 30,
            kept: 130,
        };
        for (limit, wanted, clients) in [
            (None, 20_000, Some(20_000)),
            (Some(1_048_576), 20_000, Some(20_000)),
            (Some(1024), 20_000, Some(864)),
            (Some(1024), 100, Some(100)),
            (Some(168), 20_000, Some(8)),
            (Some(167), 20_000, None),
            (Some(163), 3, Some(3)),
            (Some(10), 20_000, None),
        ] {
            assert_eq!(with(limit).clients(wanted).ok(), clients, "{limit:?}");
        }
        let error = with(Some(10)).clients(1).unwrap_err().to_string();
        assert!(
            error.contains("is 10, of which 30 are open and 130 are kept"),
            "{error}"
        );
    }

    #[test]
    fn open_files_are_counted() {
        let before = open().unwrap();
        let _files: Vec<_> = (0..500).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        assert!(open().unwrap() >= before + 400);
    }
}
