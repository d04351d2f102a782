//! Keeps near values no older than the bound. Invariant: messages of the tracked connection are applied in wire order, before
//! any later answer on that connection is handed out.

use std::{
    sync::atomic::{
        AtomicU64,
        Ordering::{Acquire, Release},
    },
    time::Duration,
};

use redis::{PushInfo, PushKind, Value};

use crate::{
    near_cache::NearCache,
    protocol::{
        freshness::{LastPing, Staleness},
        time::BootTime,
    },
};

pub(crate) struct Tracking {
    pub(crate) near: NearCache,
    staleness: Staleness,
    /// When the newest PING that was answered was sent, in nanoseconds of the clock; 0 for none. Stored with Release after
    /// the messages before the answer were applied, and loaded with Acquire before the near cache is read: a reader that
    /// sees the PING sees what those messages removed.
    proven: AtomicU64,
    /// The prefix of the cells of all epochs.
    cells: String,
    /// The prefix of the proofs of keyspaces, which are read with the cells and so tracked too.
    proofs: String,
}

impl Tracking {
    pub(crate) fn new(near: NearCache, staleness: Staleness, prefix: &str, cache: &str) -> Self {
        Self {
            near,
            staleness,
            proven: AtomicU64::new(0),
            cells: format!("{prefix}:{cache}:"),
            proofs: format!("{prefix}::"),
        }
    }

    /// The age of near values; `None` if none may be used. Must be called before the near cache is read: a value that is
    /// taken afterwards is at least as fresh.
    pub(crate) fn age(&self, now: BootTime) -> Option<Duration> {
        let nanoseconds = self.proven.load(Acquire);
        if nanoseconds == 0 {
            return None;
        }
        let sent = BootTime::from_clock(Duration::from_nanos(nanoseconds));
        let mut ping = LastPing::default();
        ping.answered(sent);
        ping.holds(now, self.staleness).then_some(now.since(sent))
    }

    /// Notes that a PING sent at `sent` was answered.
    pub(crate) fn answered(&self, sent: BootTime) {
        let since_start = sent.since(BootTime::from_clock(Duration::ZERO));
        let nanoseconds = u64::try_from(since_start.as_nanos()).unwrap_or(0);
        self.proven.store(nanoseconds, Release);
    }

    /// Drops everything.
    pub(crate) fn clear(&self) {
        self.proven.store(0, Release);
        self.near.clear();
    }

    /// Applies a message of the tracked connection. A message that is not understood drops everything.
    pub(crate) fn apply(&self, message: &PushInfo) {
        match (&message.kind, &message.data[..]) {
            (PushKind::Invalidate, [Value::Array(keys)]) => {
                for key in keys {
                    match self.changed(key) {
                        Some(Changed::Key(key)) => self.near.forget(key),
                        // The cells that were read with it have not changed.
                        Some(Changed::Proof) => {}
                        None => self.near.clear(),
                    }
                }
            }
            // nil: FLUSHALL and similar commands.
            (PushKind::Invalidate, _) => self.near.clear(),
            (PushKind::Disconnection, _) => self.clear(),
            _ => {}
        }
    }

    /// What a changed key is, whatever its epoch.
    fn changed<'a>(&self, cell: &'a Value) -> Option<Changed<'a>> {
        let Value::BulkString(cell) = cell else {
            return None;
        };
        if cell.starts_with(self.proofs.as_bytes()) {
            return Some(Changed::Proof);
        }
        let rest = cell.strip_prefix(self.cells.as_bytes())?;
        let (_, key) = std::str::from_utf8(rest).ok()?.split_once(':')?;
        Some(Changed::Key(key))
    }
}

/// What a message of the tracked connection names.
enum Changed<'a> {
    Key(&'a str),
    Proof,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ttl::Ttl;

    const BOUND: Duration = Duration::from_millis(100);

    fn tracking() -> Tracking {
        let ttl = Ttl {
            present: BOUND * 100,
            absent: BOUND * 100,
        };
        let staleness = Staleness::new(BOUND, Duration::ZERO).unwrap();
        Tracking::new(NearCache::new(1 << 20, ttl), staleness, "app", "users")
    }

    fn at(milliseconds: u64) -> BootTime {
        BootTime::from_clock(Duration::from_millis(milliseconds))
    }

    fn holding(keys: &[&str]) -> Tracking {
        let tracking = tracking();
        for key in keys {
            let permit = tracking.near.permit(key, at(1)).unwrap();
            assert!(tracking.near.fill(key, None, permit, at(1)));
        }
        tracking.answered(at(1));
        tracking
    }

    fn invalidate(told: Value) -> PushInfo {
        let (kind, data) = (PushKind::Invalidate, vec![told]);
        PushInfo { kind, data }
    }

    fn cells(cells: &[&str]) -> Value {
        let cell = |cell: &&str| Value::BulkString(cell.as_bytes().to_vec());
        Value::Array(cells.iter().map(cell).collect())
    }

    #[test]
    fn a_changed_key_is_dropped_whatever_its_epoch_and_its_colons() {
        let tracking = holding(&["a", "b:c", "d"]);
        tracking.apply(&invalidate(cells(&[
            "app:users:7:a",
            "app:users:12:b:c",
            "app::proof:7:8",
        ])));
        assert_eq!(tracking.near.get("a", at(2)), None);
        assert_eq!(tracking.near.get("b:c", at(2)), None);
        assert_eq!(tracking.near.get("d", at(2)), Some(None));
    }

    #[test]
    fn nil_and_unknown_messages_drop_everything() {
        for told in [Value::Nil, Value::Okay, cells(&["app:other:1:a"])] {
            let tracking = holding(&["a"]);
            tracking.apply(&invalidate(told.clone()));
            assert_eq!(tracking.near.get("a", at(2)), None, "{told:?}");
        }
    }

    #[test]
    fn the_end_of_the_connection_drops_everything_and_the_proof() {
        let tracking = holding(&["a"]);
        assert_eq!(tracking.age(at(51)), Some(Duration::from_millis(50)));
        assert_eq!(tracking.age(at(102)), None);
        let (kind, data) = (PushKind::Disconnection, Vec::new());
        tracking.apply(&PushInfo { kind, data });
        assert_eq!(tracking.near.get("a", at(2)), None);
        assert_eq!(tracking.age(at(51)), None);
    }
}
