//! The cells of one epoch behind one link: the protocol's commands, many keys in one pipeline. Invariant: nothing is
//! sent but under the name of its epoch.

use std::{sync::Arc, time::Duration};

use bytes::{Buf, Bytes};
use redis::Value as Reply;

use crate::{
    cell::{Cell, Token, WriterId},
    command::{Calls, Command},
    epoch::Nonce,
    key_count::{KeyCount, KeyCounter},
    link::{Broken, Link, Refused},
    node::Via,
    origin::Value,
    proof,
    reply::bytes,
    words::Name,
};

/// How often the proof may be missing in turn before Redis counts as lost.
const MOST_MISSED: usize = 5;
/// The bytes of a key for which there is room without growing.
const TYPICAL_KEY: usize = 32;

pub(crate) struct Cells {
    link: Arc<Link>,
    /// `None` for the plain cache-aside, which knows none.
    keyspace: Option<Nonce>,
    /// What every name begins with, the epoch included.
    prefix: String,
}

/// What was found in a cell.
#[derive(Debug)]
pub(crate) enum Found {
    /// A value, or that there is none.
    Known(Option<Value>),
    /// Somebody loads.
    Leased(Token),
    /// Somebody writes.
    Fenced,
    /// Nothing that could be used.
    Nothing,
}

/// What is to be stored after a load.
pub(crate) struct Filling<'a> {
    pub(crate) key: &'a str,
    /// Without one, what is older is removed and nothing stored.
    pub(crate) token: Option<Token>,
    pub(crate) value: Option<&'a Value>,
    pub(crate) ttl: Duration,
}

impl Cells {
    /// The cells of a cache in a keyspace, which there is one of for each epoch.
    pub(crate) fn new(link: Arc<Link>, prefix: &str, cache: &str, keyspace: Option<Nonce>) -> Self {
        let prefix = match keyspace {
            Some(nonce) => proof::cells(prefix, cache, nonce),
            None => format!("{prefix}:{cache}:ttl:"),
        };
        Self { link, keyspace, prefix }
    }

    /// Whether these are the cells of this keyspace, and can be reached.
    pub(crate) fn are_of(&self, keyspace: Nonce) -> bool {
        self.keyspace == Some(keyspace) && !self.link.is_broken()
    }

    /// How many there are.
    pub(crate) async fn count(&self, counter: &KeyCounter) -> Option<KeyCount> {
        counter.count(&self.link, &self.prefix).await
    }

    /// Reads a cell.
    pub(crate) async fn get(&self, key: &str) -> Result<Found, Broken> {
        self.link.get(self.name(key)).await.map(found)
    }

    /// Reads cells.
    pub(crate) async fn get_each(&self, keys: &[&str]) -> Result<Vec<Found>, Broken> {
        let names = keys.iter().map(|key| self.name(key));
        let replies = self.link.get_each(names).await?;
        Ok(replies.into_iter().map(found).collect())
    }

    /// Reads cells and takes the lease of those that are empty: these are found leased, with the caller's token.
    pub(crate) async fn lease(&self, keys: &[&str], tokens: &[Token], lasts: Duration) -> Result<Vec<Found>, Broken> {
        let lasts = milliseconds(lasts);
        let calls = || {
            let mut calls = self.calls(Command::Lease, keys.len());
            for (key, token) in keys.iter().zip(tokens) {
                calls.add(self.name(key), [&token.0, lasts.as_bytes()]);
            }
            calls
        };
        let replies = self.call(Via::Reading, calls).await?;
        let took = replies.into_iter().zip(tokens);
        Ok(took
            .map(|(reply, token)| match reply {
                Reply::Nil => Found::Leased(*token),
                reply => found(reply),
            })
            .collect())
    }

    /// Stores what was loaded, where the lease still stands; says where it did.
    pub(crate) async fn fill(&self, fillings: &[Filling<'_>]) -> Result<Vec<bool>, Broken> {
        let calls = || {
            let mut calls = self.calls(Command::Fill, fillings.len());
            for filling in fillings {
                let token = filling.token.as_ref().map_or(&[][..], |token| &token.0);
                let (cell, ttl) = (encode(filling.value), milliseconds(filling.ttl));
                calls.add(self.name(filling.key), [token, &cell, ttl.as_bytes()]);
            }
            calls
        };
        let replies = self.call(Via::Own, calls).await?;
        Ok(replies.iter().map(|reply| *reply == Reply::Int(1)).collect())
    }

    /// Puts up fences.
    pub(crate) async fn fence(&self, keys: &[&str], writer: WriterId, lasts: Duration) -> Result<(), Broken> {
        let lasts = milliseconds(lasts);
        let arguments = [&writer.0, lasts.as_bytes()];
        self.each(Command::Fence, keys, arguments).await
    }

    /// Takes a writer out of its fences.
    pub(crate) async fn release(&self, keys: &[&str], writer: WriterId) -> Result<(), Broken> {
        self.each(Command::Release, keys, [&writer.0]).await
    }

    /// Deletes what is not fenced.
    pub(crate) async fn invalidate(&self, keys: &[&str]) -> Result<(), Broken> {
        self.each(Command::Inval, keys, []).await
    }

    /// Stores without a lease, as the plain cache-aside does.
    pub(crate) async fn set(&self, fillings: &[Filling<'_>]) -> Result<(), Broken> {
        let calls = || {
            let mut calls = self.calls(Command::Set, fillings.len());
            for filling in fillings {
                let (cell, ttl) = (encode(filling.value), milliseconds(filling.ttl));
                calls.add(self.name(filling.key), [&cell, b"PX", ttl.as_bytes()]);
            }
            calls
        };
        self.call(Via::Own, calls).await?;
        Ok(())
    }

    /// A command with the same arguments for each of these.
    async fn each<const N: usize>(&self, command: Command, keys: &[&str], arguments: [&[u8]; N]) -> Result<(), Broken> {
        let calls = || {
            let mut calls = self.calls(command, keys.len());
            for key in keys {
                calls.add(self.name(key), arguments);
            }
            calls
        };
        self.call(Via::Own, calls).await?;
        Ok(())
    }

    /// Gives these calls, again where the proof was gone and could be put back: then no call had an effect that a repeated
    /// one does not have.
    async fn call(&self, via: Via, calls: impl Fn() -> Calls) -> Result<Vec<Reply>, Broken> {
        for _ in 0..MOST_MISSED {
            match self.link.call(via, calls()).await {
                Ok(replies) => return Ok(replies),
                Err(Refused::Broken) => return Err(Broken),
                Err(Refused::Unproven) => self.link.prove().await?,
            }
        }
        self.link.cut();
        Err(Broken)
    }

    fn calls(&self, command: Command, cells: usize) -> Calls {
        Calls::with_capacity(command, cells, cells * (self.prefix.len() + TYPICAL_KEY))
    }

    fn name<'a>(&'a self, key: &'a str) -> Name<'a> {
        let prefix = &self.prefix;
        Name { prefix, key }
    }
}

/// How a duration is told to Redis: in whole milliseconds, at least one, and no more than it can add to its clock.
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

fn found(reply: Reply) -> Found {
    bytes(reply).map_or(Found::Nothing, parse)
}

/// The value keeps the memory of the reply.
fn parse(mut bytes: Bytes) -> Found {
    let (version, head) = match Cell::parse(&bytes) {
        Some(Cell::Value { version, value }) => (version, bytes.len() - value.len()),
        Some(Cell::Absent) => return Found::Known(None),
        Some(Cell::Lease(token)) => return Found::Leased(token),
        Some(Cell::Fence(_)) => return Found::Fenced,
        None => return Found::Nothing,
    };
    bytes.advance(head);
    Found::Known(Some(Value { version, bytes }))
}
