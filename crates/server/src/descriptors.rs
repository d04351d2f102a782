//! Open files: the limit is raised as far as it goes, and what is left after the database, Redis and the rest of the
//! process is for clients.
//!
//! Invariant: no number of clients takes the descriptors that the database and Redis need.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::settings::Settings;

/// Of a connection to PostgreSQL: its socket, the handle to look at it, and the connection of a cancel request.
const OF_A_DATABASE_CONNECTION: usize = 3;
/// Connections that are told there is no room, and files that are open for a moment: certificates, passwords, look-ups
/// of names.
const FOR_A_MOMENT: usize = 64 + 32;
/// Fewer clients are no service.
const FEWEST_CLIENTS: usize = 8;
/// What is open at the start where it cannot be counted.
const GUESSED_OPEN: usize = 64;

/// What the limit of open files leaves for clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptors {
    /// `None`: there is no limit.
    pub(crate) limit: Option<usize>,
    /// Open already.
    pub(crate) open: usize,
    /// Kept for the database, Redis and the rest.
    pub(crate) kept: usize,
}

/// The limit is too low to serve anybody.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the limit of open files is {limit}, of which {open} are open and {kept} are kept for the database, Redis and \
     the like. Raise it ({HOW_TO_RAISE}), or lower DB_POOL_MAX_SIZE"
)]
pub(crate) struct TooFew {
    limit: usize,
    open: usize,
    kept: usize,
}

/// For messages.
pub(crate) const HOW_TO_RAISE: &str = "`ulimit -Hn`, LimitNOFILE= of systemd, --ulimit nofile= of docker";

impl Descriptors {
    /// Raises the limit, and counts what is open. Call it when what is always open is: listeners and threads.
    pub(crate) fn prepare(settings: &Settings, beside_pool: usize, cores: usize) -> Self {
        Self {
            limit: raise(),
            open: open().unwrap_or(GUESSED_OPEN),
            kept: kept(settings, beside_pool, cores),
        }
    }

    /// How many clients there may be at a time, out of those wanted.
    pub(crate) fn clients(&self, wanted: usize) -> Result<usize, TooFew> {
        let Self { limit, open, kept } = *self;
        let Some(limit) = limit else {
            return Ok(wanted);
        };
        match limit.saturating_sub(open).saturating_sub(kept) {
            left if left < FEWEST_CLIENTS.min(wanted) => Err(TooFew { limit, open, kept }),
            left => Ok(left.min(wanted)),
        }
    }
}

fn kept(settings: &Settings, beside_pool: usize, cores: usize) -> usize {
    let pool = settings.pool.max + settings.pool.overflow + beside_pool;
    let redis = settings.cache.redis.as_ref().map_or(0, Vec::len);
    // To each server one that reads and one that writes for each core, and two that watch.
    pool * OF_A_DATABASE_CONNECTION + redis * (2 * cores + 2) + FOR_A_MOMENT
}

/// Raises the soft limit to the hard one, which is what it is for: the low soft one protects programs that use
/// `select`. Returns what is in force then.
fn raise() -> Option<usize> {
    let before = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: before.maximum,
        maximum: before.maximum,
    };
    // Where the system refuses, the lower one goes on to hold.
    let after = setrlimit(Resource::Nofile, raised).map_or(before, |()| getrlimit(Resource::Nofile));
    let limit = after.current?;
    Some(usize::try_from(limit).unwrap_or(usize::MAX))
}

fn open() -> Option<usize> {
    let directory = fs::read_dir("/proc/self/fd").or_else(|_| fs::read_dir("/dev/fd"));
    // The directory is open while it is read.
    Some(directory.ok()?.count().saturating_sub(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_get_what_the_database_and_the_rest_leave() {
        let with = |limit| Descriptors {
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
    fn what_is_open_is_counted() {
        let before = open().unwrap();
        let _files: Vec<_> = (0..500).map(|_| fs::File::open("/dev/null").unwrap()).collect();
        assert!(open().unwrap() >= before + 400);
    }
}
