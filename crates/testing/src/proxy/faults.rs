//! The faults of a proxy, and its open connections. Invariant: bytes are delivered only while the faults are locked for
//! reading, and the faults change only while they are locked for writing. So no byte passes after a fault is set.

use std::{collections::BTreeSet, net::SocketAddr, sync::atomic::AtomicU64, time::Duration};

use tokio::sync::watch;

/// The direction of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Requests.
    ToServer,
    /// Answers.
    ToClient,
}

/// Pairs are indexed by [`Direction`].
#[derive(Debug, Default)]
pub(super) struct Faults {
    pub(super) hold: [bool; 2],
    pub(super) delay: [Duration; 2],
    pub(super) delay_connects: Duration,
    /// The number of bytes before the one that is inverted.
    pub(super) corrupt: [Option<u64>; 2],
    /// Reset all connections, also new ones.
    pub(super) refuse: bool,
    /// Reset the connections up to this number.
    pub(super) cut: u64,
    /// Close the server's side of those up to this number.
    pub(super) orphan: u64,
}

impl Faults {
    pub(super) fn heal(&mut self) {
        *self = Self {
            cut: self.cut,
            orphan: self.orphan,
            ..Self::default()
        };
    }

    /// Inverts the byte if it is among these; only once.
    pub(super) fn corrupt(&mut self, direction: Direction, bytes: &mut [u8]) {
        let turn = &mut self.corrupt[direction as usize];
        if let Some(left) = *turn {
            let here = usize::try_from(left).ok().and_then(|left| bytes.get_mut(left));
            *turn = match here {
                Some(byte) => {
                    *byte = !*byte;
                    None
                }
                None => Some(left - bytes.len() as u64),
            };
        }
    }
}

/// The connections, numbered in the order of their arrival.
#[derive(Debug, Default)]
pub(super) struct Open {
    /// The number of connections so far, which is the number of the last one.
    pub(super) accepted: u64,
    /// Connections whose client's side is open.
    pub(super) clients: BTreeSet<u64>,
    /// Connections whose server's side is open or will be opened.
    pub(super) servers: BTreeSet<u64>,
}

/// The state that the handle and the connections share.
#[derive(Debug)]
pub(super) struct Shared {
    /// The server of new connections.
    pub(super) server: watch::Sender<SocketAddr>,
    pub(super) faults: watch::Sender<Faults>,
    pub(super) open: watch::Sender<Open>,
    pub(super) passed: [AtomicU64; 2],
}

impl Shared {
    pub(super) fn new(server: SocketAddr) -> Self {
        Self {
            server: watch::Sender::new(server),
            faults: watch::Sender::default(),
            open: watch::Sender::default(),
            passed: [const { AtomicU64::new(0) }; 2],
        }
    }

    /// A number for a new connection.
    pub(super) fn admit(&self) -> u64 {
        let mut number = 0;
        self.open.send_modify(|open| {
            open.accepted += 1;
            number = open.accepted;
            open.clients.insert(number);
            open.servers.insert(number);
        });
        number
    }

    pub(super) async fn until_open(&self, holds: impl FnMut(&Open) -> bool) {
        // Cannot fail: the sender lives as long as `self`.
        let _ = self.open.subscribe().wait_for(holds).await;
    }

    pub(super) async fn until_faults(&self, hold: impl FnMut(&Faults) -> bool) {
        let _ = self.faults.subscribe().wait_for(hold).await;
    }
}
