//! Which node of a Redis Cluster serves which keys. Invariant: two topologies with the same identity send every key to the same
//! run of the same server.
//!
//! Slots are computed here: the `redis` crate does that only with its whole cluster client, which reconnects by itself.

use redis::Value;
use ring::digest;

use crate::{
    protocol::keyspace_proof::Identity,
    redis::problem::{RedisProblem, RedisProblemKind},
};

/// The number of hash slots of every cluster.
const SLOTS: u16 = 16_384;

/// The primaries of a cluster and their slots.
#[derive(Debug)]
pub(crate) struct Topology {
    pub(crate) primaries: Vec<Primary>,
    /// First slot, last slot, and the position of their primary; in the order of the slots, without a gap.
    ranges: Vec<(u16, u16, usize)>,
}

/// A node with slots.
#[derive(Debug)]
pub(crate) struct Primary {
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Its id in the cluster, which survives restarts.
    id: Vec<u8>,
}

impl Topology {
    /// Parses the answer to `CLUSTER SLOTS` of a server at `host`.
    pub(crate) fn parse(answer: Value, host: &str) -> Result<Self, RedisProblem> {
        let unclear = || RedisProblem::new(RedisProblemKind::Other, "its answer to CLUSTER SLOTS is not understood");
        Self::read(answer, host).ok_or_else(unclear)?.whole()
    }

    fn read(answer: Value, host: &str) -> Option<Self> {
        let Value::Array(entries) = answer else {
            return None;
        };
        let mut topology = Self {
            primaries: Vec::new(),
            ranges: Vec::new(),
        };
        for entry in &entries {
            let Value::Array(entry) = entry else {
                return None;
            };
            let [first, last, Value::Array(primary), ..] = &entry[..] else {
                return None;
            };
            let [address, port, Value::BulkString(id), ..] = &primary[..] else {
                return None;
            };
            let known = topology.primaries.iter().position(|it| it.id == *id);
            let at = known.unwrap_or(topology.primaries.len());
            if known.is_none() {
                topology.primaries.push(Primary {
                    // A node that does not know its own address is where it was asked.
                    host: match address {
                        Value::Nil => host.to_owned(),
                        Value::BulkString(name) if name.is_empty() => host.to_owned(),
                        Value::BulkString(name) => String::from_utf8(name.clone()).ok()?,
                        _ => return None,
                    },
                    port: number(port)?,
                    id: id.clone(),
                });
            }
            topology.ranges.push((number(first)?, number(last)?, at));
        }
        topology.ranges.sort_unstable();
        Some(topology)
    }

    /// Refuses a topology that leaves slots without a server.
    fn whole(self) -> Result<Self, RedisProblem> {
        let unserved = |slot: u16| {
            let happened = format!("slot {slot} of the cluster is not served (CLUSTER SLOTS)");
            Err(RedisProblem::new(RedisProblemKind::Cluster, happened))
        };
        let mut next = 0;
        for (first, last, _) in &self.ranges {
            if *first != next || last < first {
                return unserved(next);
            }
            next = last + 1;
        }
        if next == SLOTS { Ok(self) } else { unserved(next) }
    }

    /// The position of the primary that serves a key.
    pub(crate) fn primary_of(&self, key: &[u8]) -> usize {
        let slot = slot(key);
        let at = self.ranges.partition_point(|(_, last, _)| *last < slot);
        self.ranges.get(at).map_or(0, |(.., primary)| *primary)
    }

    /// Whether another node describes the same topology.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        self.served().eq(other.served())
    }

    fn served(&self) -> impl Iterator<Item = (u16, u16, &[u8])> {
        let ranges = self.ranges.iter();
        ranges.map(|(first, last, at)| (*first, *last, &self.primaries[*at].id[..]))
    }

    /// The identity of this topology with these runs of its primaries.
    pub(crate) fn identity(&self, runs: &[Identity]) -> Identity {
        let mut context = digest::Context::new(&digest::SHA256);
        for (first, last, primary) in &self.ranges {
            context.update(&first.to_be_bytes());
            context.update(&last.to_be_bytes());
            context.update(&runs[*primary].0);
        }
        let digest = context.finish();
        let mut identity = [0; 20];
        identity.copy_from_slice(&digest.as_ref()[..20]);
        Identity(identity)
    }
}

fn number(value: &Value) -> Option<u16> {
    match value {
        Value::Int(number) => u16::try_from(*number).ok(),
        _ => None,
    }
}

/// The slot of a key: that of the text between its first `{` and the next `}`, if there is any, otherwise of the whole key.
fn slot(key: &[u8]) -> u16 {
    let tag = key.iter().position(|byte| *byte == b'{').and_then(|open| {
        let rest = &key[open + 1..];
        let close = rest.iter().position(|byte| *byte == b'}')?;
        (close > 0).then_some(&rest[..close])
    });
    crc16(tag.unwrap_or(key)) % SLOTS
}

/// CRC-16/XMODEM, which the specification of Redis Cluster prescribes.
fn crc16(bytes: &[u8]) -> u16 {
    bytes
        .iter()
        .fold(0, |crc, byte| (crc << 8) ^ CRC16[usize::from((crc >> 8) as u8 ^ byte)])
}

const CRC16: [u16; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = (byte as u16) << 8;
        let mut bit = 0;
        while bit < 8 {
            crc = if crc & 0x8000 == 0 {
                crc << 1
            } else {
                (crc << 1) ^ 0x1021
            };
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    fn range(first: i64, last: i64, host: &str, port: i64) -> Value {
        let node = vec![
            Value::BulkString(host.into()),
            Value::Int(port),
            Value::BulkString(port.to_string().into_bytes()),
        ];
        let (first, last) = (Value::Int(first), Value::Int(last));
        Value::Array(vec![first, last, Value::Array(node)])
    }

    fn parse(ranges: Vec<Value>) -> Result<Topology, RedisProblem> {
        Topology::parse(Value::Array(ranges), "seed")
    }

    #[test]
    fn keys_have_the_slots_that_the_specification_names() {
        assert_eq!(crc16(b"123456789"), 0x31c3);
        assert_eq!(slot(b"foo"), 12_182);
        assert_eq!(slot(b"{user1000}.following"), slot(b"user1000"));
        assert_eq!(slot(b"foo{bar}{zap}"), slot(b"bar"));
        assert_eq!(slot(b"foo{{bar}}zap"), slot(b"{bar"));
        assert_ne!(slot(b"foo{}{bar}"), slot(b"bar"));
        assert_ne!(slot(b"foo{bar"), slot(b"bar"));
    }

    #[test]
    fn a_key_goes_to_the_primary_of_its_slot() {
        let topology = parse(vec![
            range(8_000, 16_383, "b", 2),
            range(0, 99, "", 1),
            range(100, 7_999, "b", 2),
        ]);
        let topology = topology.unwrap();
        let primary = |key| {
            let primary = &topology.primaries[topology.primary_of(key)];
            (&*primary.host, primary.port)
        };
        assert_eq!(primary(b"foo"), ("b", 2));
        let mut keys = (0..10_000).map(|number| number.to_string());
        let low = keys.find(|key| slot(key.as_bytes()) < 100).unwrap();
        assert_eq!(
            primary(low.as_bytes()),
            ("seed", 1),
            "a node without an address is where it was asked"
        );
    }

    #[test]
    fn slots_without_a_server_are_refused() {
        for ranges in [
            vec![],
            vec![range(0, 16_382, "a", 1)],
            vec![range(1, 16_383, "a", 1)],
            vec![range(0, 99, "a", 1), range(101, 16_383, "b", 1)],
            vec![range(0, 99, "a", 1), range(99, 16_383, "b", 1)],
            vec![Value::Okay],
        ] {
            let tried = format!("{ranges:?}");
            assert!(parse(ranges).is_err(), "{tried}");
        }
    }

    #[test]
    fn another_run_or_a_slot_that_moved_is_another_identity() {
        let halves = |middle| parse(vec![range(0, middle - 1, "a", 1), range(middle, 16_383, "b", 2)]).unwrap();
        let runs = [Identity([1; 20]), Identity([2; 20])];
        let identity = halves(8_000).identity(&runs);
        assert_eq!(halves(8_000).identity(&runs), identity);
        assert_ne!(halves(8_001).identity(&runs), identity);
        assert!(halves(8_000).agrees(&halves(8_000)));
        assert!(!halves(8_000).agrees(&halves(8_001)));
        let swapped = [runs[1], runs[0]];
        assert_ne!(halves(8_000).identity(&swapped), identity);
        let restarted = [runs[0], Identity([3; 20])];
        assert_ne!(halves(8_000).identity(&restarted), identity);
    }
}
