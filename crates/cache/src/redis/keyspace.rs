//! The cells of one epoch: the protocol's commands, for several keys at once. Invariant: every cell that is named here is of
//! this epoch.

use std::{sync::Arc, time::Duration};

use bytes::{Buf, Bytes};
use redis::Value as Reply;

use crate::{
    protocol::{
        arguments::CellKey,
        cell::{Cell, Token, WriterId},
        epoch::Nonce,
        keyspace_proof,
    },
    redis::{
        command::{CellCalls, CellCommand},
        key_count::{KeyCount, KeyCounter},
        node_connection::Via,
        session::{Broken, Refused, Session},
    },
    value::Value,
};

/// How often in succession the proof may be missing before Redis counts as lost: under eviction it may be missing once or
/// twice, but a Redis that loses it each time cannot be used.
const MOST_MISSED: usize = 5;
/// The bytes reserved for a caller's key; a longer one makes its list grow.
const TYPICAL_KEY: usize = 32;

pub(crate) struct Keyspace {
    session: Arc<Session>,
    /// `None` for a cache-aside, which has no epochs.
    nonce: Option<Nonce>,
    /// What every key of a cell begins with; it names the epoch.
    prefix: String,
}

/// What a cell holds for a reader.
#[derive(Debug)]
pub(crate) enum Found {
    /// A value, or that there is no row.
    Known(Option<Value>),
    /// A lease: its holder loads the value.
    Leased(Token),
    /// A fence: the key is being written.
    Fenced,
    /// Nothing usable.
    Nothing,
}

/// A value to be stored after a load.
pub(crate) struct Filling<'a> {
    pub(crate) key: &'a str,
    /// The lease. Without one, nothing is stored and what is older is removed.
    pub(crate) token: Option<Token>,
    pub(crate) value: Option<&'a Value>,
    pub(crate) ttl: Duration,
}

impl Keyspace {
    /// The cells of a cache in the keyspace of this nonce.
    pub(crate) fn new(session: Arc<Session>, prefix: &str, cache: &str, nonce: Option<Nonce>) -> Self {
        let prefix = match nonce {
            Some(nonce) => keyspace_proof::cells(prefix, cache, nonce),
            None => format!("{prefix}:{cache}:ttl:"),
        };
        Self { session, nonce, prefix }
    }

    /// Whether this is the keyspace of this nonce and its session works.
    pub(crate) fn serves(&self, nonce: Nonce) -> bool {
        self.nonce == Some(nonce) && !self.session.is_broken()
    }

    /// The number of cells.
    pub(crate) async fn count(&self, counter: &KeyCounter) -> Option<KeyCount> {
        counter.count(&self.session, &self.prefix).await
    }

    /// Reads a cell.
    pub(crate) async fn get(&self, key: &str) -> Result<Found, Broken> {
        match self.session.ask(self.cell(key)).await {
            Ok(reply) => Ok(found(reply)),
            Err(_) => Err(self.session.fail()),
        }
    }

    /// Reads cells, in their order.
    pub(crate) async fn get_each(&self, keys: &[&str]) -> Result<Vec<Found>, Broken> {
        // All are asked for before the first answer is awaited, so that they share a round trip.
        let asked: Vec<_> = keys.iter().map(|key| self.session.ask(self.cell(key))).collect();
        let mut cells = Vec::with_capacity(asked.len());
        for answer in asked {
            match answer.await {
                Ok(reply) => cells.push(found(reply)),
                Err(_) => return Err(self.session.fail()),
            }
        }
        Ok(cells)
    }

    /// Reads cells and takes the lease of those that are empty: these are returned as leased under the caller's token.
    pub(crate) async fn lease(&self, keys: &[&str], tokens: &[Token], lasts: Duration) -> Result<Vec<Found>, Broken> {
        let lasts = milliseconds(lasts);
        let calls = || {
            let mut calls = self.calls(CellCommand::Lease, keys.len());
            for (key, token) in keys.iter().zip(tokens) {
                calls.add(self.cell(key), [&token.0, lasts.as_bytes()]);
            }
            calls
        };
        // On the connection that is told of changes: what it reads here may be kept near.
        let replies = self.call(Via::Reading, calls).await?;
        let took = replies.into_iter().zip(tokens);
        Ok(took
            .map(|(reply, token)| match reply {
                Reply::Nil => Found::Leased(*token),
                reply => found(reply),
            })
            .collect())
    }

    /// Stores loaded values whose lease still stands. Returns which were stored.
    pub(crate) async fn fill(&self, fillings: &[Filling<'_>]) -> Result<Vec<bool>, Broken> {
        let calls = || {
            let mut calls = self.calls(CellCommand::Fill, fillings.len());
            for filling in fillings {
                let token = filling.token.as_ref().map_or(&[][..], |token| &token.0);
                let (cell, ttl) = (encode(filling.value), milliseconds(filling.ttl));
                calls.add(self.cell(filling.key), [token, &cell, ttl.as_bytes()]);
            }
            calls
        };
        let replies = self.call(Via::Own, calls).await?;
        Ok(replies.iter().map(|reply| *reply == Reply::Int(1)).collect())
    }

    /// Fences keys for a writer.
    pub(crate) async fn fence(&self, keys: &[&str], writer: WriterId, lasts: Duration) -> Result<(), Broken> {
        let lasts = milliseconds(lasts);
        let calls = || self.same_for_each(CellCommand::Fence, keys, [&writer.0, lasts.as_bytes()]);
        self.call(Via::Own, calls).await.map(drop)
    }

    /// Removes a writer from the fences of keys.
    pub(crate) async fn release(&self, keys: &[&str], writer: WriterId) -> Result<(), Broken> {
        let calls = || self.same_for_each(CellCommand::Release, keys, [&writer.0]);
        self.call(Via::Own, calls).await.map(drop)
    }

    /// Deletes cells that are not fenced.
    pub(crate) async fn invalidate(&self, keys: &[&str]) -> Result<(), Broken> {
        let calls = || self.same_for_each(CellCommand::Inval, keys, []);
        self.call(Via::Own, calls).await.map(drop)
    }

    /// Stores values without a lease, as a cache-aside does.
    pub(crate) async fn set(&self, fillings: &[Filling<'_>]) -> Result<(), Broken> {
        let calls = || {
            let mut calls = self.calls(CellCommand::Set, fillings.len());
            for filling in fillings {
                let (cell, ttl) = (encode(filling.value), milliseconds(filling.ttl));
                calls.add(self.cell(filling.key), [&cell, b"PX", ttl.as_bytes()]);
            }
            calls
        };
        self.call(Via::Own, calls).await.map(drop)
    }

    /// Sends calls, and repeats them after the proof was missing and could be put back. A repeated call does no harm, and a
    /// call that missed the proof had no effect.
    async fn call(&self, via: Via, calls: impl Fn() -> CellCalls) -> Result<Vec<Reply>, Broken> {
        for _ in 0..MOST_MISSED {
            match self.session.call(via, calls()).await {
                Ok(replies) => return Ok(replies),
                Err(Refused::Broken) => return Err(Broken),
                Err(Refused::Unproven) => self.session.prove().await?,
            }
        }
        Err(self.session.fail())
    }

    /// A command with the same arguments for each of these keys.
    fn same_for_each<const N: usize>(&self, command: CellCommand, keys: &[&str], arguments: [&[u8]; N]) -> CellCalls {
        let mut calls = self.calls(command, keys.len());
        for key in keys {
            calls.add(self.cell(key), arguments);
        }
        calls
    }

    fn calls(&self, command: CellCommand, cells: usize) -> CellCalls {
        CellCalls::with_capacity(command, cells, cells * (self.prefix.len() + TYPICAL_KEY))
    }

    fn cell<'a>(&'a self, key: &'a str) -> CellKey<'a> {
        let prefix = &self.prefix;
        CellKey { prefix, key }
    }
}

/// A duration for Redis: whole milliseconds, at least one. The upper bound keeps Redis from adding it to its clock beyond
/// what fits there.
fn milliseconds(duration: Duration) -> String {
    const LONGEST: u128 = 100 * 365 * 24 * 3600 * 1000;
    duration.as_millis().clamp(1, LONGEST).to_string()
}

fn encode(value: Option<&Value>) -> Vec<u8> {
    let cell = value.map_or(Cell::Absent, |value| Cell::Value {
        version: value.version,
        value: &value.bytes,
    });
    cell.encode()
}

/// Reads the reply for a cell. A value shares the memory of the reply.
fn found(reply: Reply) -> Found {
    let Reply::BulkString(bytes) = reply else {
        return Found::Nothing;
    };
    let mut bytes = Bytes::from(bytes);
    let (version, head) = match Cell::parse(&bytes) {
        Some(Cell::Value { version, value }) => (version, bytes.len() - value.len()),
        Some(Cell::Absent) => return Found::Known(None),
        Some(Cell::Lease(token)) => return Found::Leased(token),
        Some(Cell::Fence(_)) => return Found::Fenced,
        None => return Found::Nothing,
    };
    bytes.advance(head);
    Found::Known(Some(Value::new(version, bytes)))
}
