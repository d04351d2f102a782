//! The cells of one epoch behind one link: the protocol's commands, many keys in one pipeline. Invariant: nothing is
//! sent but under the name of its epoch.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use redis::Value as Reply;

use crate::{
    cell::{Cell, Token, WriterId},
    command::{Call, Command},
    epoch::Identity,
    link::{Broken, Link},
    node::Via,
    origin::Value,
    reply::bytes,
};

pub(crate) struct Cells {
    link: Arc<Link>,
    /// `None` for the plain cache-aside, which knows none.
    epoch: Option<u64>,
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
    pub(crate) fn new(link: Arc<Link>, prefix: &str, epoch: Option<u64>) -> Self {
        let prefix = match epoch {
            Some(epoch) => format!("{prefix}:{epoch}:"),
            None => format!("{prefix}:ttl:"),
        };
        Self {
            link,
            epoch,
            prefix,
        }
    }

    /// Whether these are the cells of this epoch in this Redis, and can be reached.
    pub(crate) fn are_of(&self, epoch: u64, redis: Identity) -> bool {
        self.epoch == Some(epoch) && self.link.identity() == redis && !self.link.is_broken()
    }

    /// Reads a cell.
    pub(crate) async fn get(&self, key: &str) -> Result<Found, Broken> {
        self.link.get(self.name(key)).await.map(found)
    }

    /// Reads cells.
    pub(crate) async fn get_each(&self, keys: &[&str]) -> Result<Vec<Found>, Broken> {
        let replies = self.link.get_each(self.names(keys)).await?;
        Ok(replies.into_iter().map(found).collect())
    }

    /// Reads cells and takes the lease of those that are empty: these are found leased, with the caller's token.
    pub(crate) async fn lease(
        &self,
        keys: &[&str],
        tokens: &[Token],
        lasts: Duration,
    ) -> Result<Vec<Found>, Broken> {
        let (names, lasts) = (self.names(keys), milliseconds(lasts));
        let calls: Vec<_> = names
            .iter()
            .zip(tokens)
            .map(|(key, token)| Call {
                key,
                arguments: [&token.0, lasts.as_bytes()],
            })
            .collect();
        let replies = self.link.call(Via::Reading, Command::Lease, &calls).await?;
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
        let prepared = self.prepared(fillings);
        let calls: Vec<_> = fillings
            .iter()
            .zip(&prepared)
            .map(|(filling, (key, cell, ttl))| Call {
                key,
                arguments: [
                    filling.token.as_ref().map_or(&[][..], |token| &token.0),
                    &cell[..],
                    ttl.as_bytes(),
                ],
            })
            .collect();
        let replies = self.link.call(Via::Any, Command::Fill, &calls).await?;
        Ok(replies
            .iter()
            .map(|reply| *reply == Reply::Int(1))
            .collect())
    }

    /// Puts up fences.
    pub(crate) async fn fence(
        &self,
        keys: &[&str],
        writer: WriterId,
        lasts: Duration,
    ) -> Result<(), Broken> {
        let (names, lasts) = (self.names(keys), milliseconds(lasts));
        let calls = each(&names, [&writer.0, lasts.as_bytes()]);
        self.link.call(Via::Any, Command::Fence, &calls).await?;
        Ok(())
    }

    /// Takes a writer out of its fences.
    pub(crate) async fn release(&self, keys: &[&str], writer: WriterId) -> Result<(), Broken> {
        let names = self.names(keys);
        let calls = each(&names, [&writer.0[..]]);
        self.link.call(Via::Any, Command::Release, &calls).await?;
        Ok(())
    }

    /// Deletes what is not fenced.
    pub(crate) async fn invalidate(&self, keys: &[&str]) -> Result<(), Broken> {
        let names = self.names(keys);
        let calls = each(&names, []);
        self.link.call(Via::Any, Command::Inval, &calls).await?;
        Ok(())
    }

    /// Stores without a lease, as the plain cache-aside does.
    pub(crate) async fn set(&self, fillings: &[Filling<'_>]) -> Result<(), Broken> {
        let prepared = self.prepared(fillings);
        let calls: Vec<_> = prepared
            .iter()
            .map(|(key, cell, ttl)| Call {
                key,
                arguments: [&cell[..], b"PX", ttl.as_bytes()],
            })
            .collect();
        self.link.call(Via::Any, Command::Set, &calls).await?;
        Ok(())
    }

    /// Name, cell and time to live of each.
    fn prepared(&self, fillings: &[Filling<'_>]) -> Vec<(Vec<u8>, Vec<u8>, String)> {
        let prepared = |filling: &Filling<'_>| {
            (
                self.name(filling.key),
                encode(filling.value),
                milliseconds(filling.ttl),
            )
        };
        fillings.iter().map(prepared).collect()
    }

    fn name(&self, key: &str) -> Vec<u8> {
        [self.prefix.as_bytes(), key.as_bytes()].concat()
    }

    fn names(&self, keys: &[&str]) -> Vec<Vec<u8>> {
        keys.iter().map(|key| self.name(key)).collect()
    }
}

fn each<'a, const N: usize>(names: &'a [Vec<u8>], arguments: [&'a [u8]; N]) -> Vec<Call<'a, N>> {
    names.iter().map(|key| Call { key, arguments }).collect()
}

/// How a duration is told to Redis: in whole milliseconds, at least one.
fn milliseconds(duration: Duration) -> String {
    duration.as_millis().max(1).to_string()
}

fn encode(value: Option<&Value>) -> Vec<u8> {
    let cell = value.map_or(Cell::Absent, |value| Cell::Value {
        version: value.version,
        value: &value.bytes,
    });
    cell.encode()
}

fn found(reply: Reply) -> Found {
    bytes(reply).map_or(Found::Nothing, |bytes| parse(&bytes))
}

/// The value shares its memory with the reply.
fn parse(bytes: &Bytes) -> Found {
    match Cell::parse(bytes) {
        Some(Cell::Value { version, value }) => {
            let bytes = bytes.slice_ref(value);
            Found::Known(Some(Value { version, bytes }))
        }
        Some(Cell::Absent) => Found::Known(None),
        Some(Cell::Lease(token)) => Found::Leased(token),
        Some(Cell::Fence(_)) => Found::Fenced,
        None => Found::Nothing,
    }
}
