//! The Lua scripts have the same effect on a real Redis as the functions that the model explores.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

use cenote_cache::protocol::{
    cell::{Cell, Token, WriterId},
    script_semantics::{self, Slot, Stored},
    scripts,
};
use cenote_testing::RedisServer;
use redis::{FromRedisValue, Value, aio::MultiplexedConnection, cmd};

const SEED: u64 = 20;
const HISTORIES: usize = 100;
const STEPS: usize = 60;
/// Expiries may differ by this many milliseconds: the time between two commands on a busy machine.
const SLACK: u64 = 60_000;

const KEY: &str = "key";

struct Redis {
    _server: RedisServer,
    connection: MultiplexedConnection,
}

impl Redis {
    async fn start() -> Self {
        let server = RedisServer::temporary().start().await.unwrap();
        let client = redis::Client::open(server.url()).unwrap();
        let connection = client.get_multiplexed_async_connection().await.unwrap();
        Self {
            _server: server,
            connection,
        }
    }

    async fn run<T: FromRedisValue>(&mut self, script: &str, arguments: &[&[u8]]) -> T {
        let mut eval = cmd("EVAL");
        eval.arg(script).arg(1).arg(KEY);
        for argument in arguments {
            eval.arg(*argument);
        }
        eval.arg(""); // no proof is asked for
        let (answer,) = eval.query_async(&mut self.connection).await.unwrap();
        answer
    }

    async fn put(&mut self, slot: &Slot) {
        self.put_at(KEY, slot).await;
    }

    async fn put_at(&mut self, key: &str, slot: &Slot) {
        let mut command = cmd(if slot.is_some() { "SET" } else { "DEL" });
        command.arg(key);
        if let Some(stored) = slot {
            command.arg(&stored.bytes);
            if let Some(at) = stored.expires_at {
                command.arg("PX").arg(at);
            }
        }
        let () = command.query_async(&mut self.connection).await.unwrap();
    }

    /// The value of the key, and its expiry in milliseconds from now.
    async fn get(&mut self) -> Slot {
        self.get_at(KEY).await
    }

    async fn get_at(&mut self, key: &str) -> Slot {
        let bytes: Option<Vec<u8>> = cmd("GET").arg(key).query_async(&mut self.connection).await.unwrap();
        let left: i64 = cmd("PTTL").arg(key).query_async(&mut self.connection).await.unwrap();
        bytes.map(|bytes| Stored {
            bytes,
            expires_at: u64::try_from(left).ok(),
        })
    }
}

/// Few ids and versions, so that histories repeat them; versions whose order is error-prone; and bytes that are not a cell.
fn id() -> [u8; 16] {
    [*fastrand::choice(b"\0aA\xff").unwrap(); 16]
}

fn bytes_of_a_value() -> Vec<u8> {
    let versions = [1, 2, 255, 256, (1 << 53) + 1, 1 << 53, i64::MAX, -1, 0x0a00_0000_0000];
    let version = versions[fastrand::usize(..versions.len())];
    let value = fastrand::choice([&b""[..], b"v", b"\0\r\n\xff"]).unwrap();
    Cell::Value { version, value }.encode()
}

fn anything() -> Slot {
    let bytes = match fastrand::u8(..9) {
        0 => return None,
        1 | 2 => bytes_of_a_value(),
        3 => b"N".to_vec(),
        4 => Cell::Lease(Token(id())).encode(),
        5 => [&b"F"[..], &id(), &id()].concat(),
        6 => [&b"F"[..], &id()[..fastrand::usize(..16)]].concat(),
        7 => b"V123".to_vec(),
        _ => fastrand::choice([&b""[..], b"L", b"N1", b"x", b"NN"]).unwrap().to_vec(),
    };
    let expires_at = fastrand::bool().then_some(1_000_000 * fastrand::u64(1..4));
    Some(Stored { bytes, expires_at })
}

/// Expiry counts from 0; the time that passes meanwhile is within the slack.
fn assert_alike(expected: &Slot, found: &Slot, context: &str) {
    let bytes = |slot: &Slot| slot.as_ref().map(|stored| stored.bytes.clone());
    assert_eq!(bytes(expected), bytes(found), "{context}");
    let left = |slot: &Slot| slot.as_ref().and_then(|stored| stored.expires_at);
    match (left(expected), left(found)) {
        (None, None) => {}
        (Some(a), Some(b)) if a.abs_diff(b) < SLACK => {}
        different => panic!("{context}: expiry {different:?}"),
    }
}

#[tokio::test]
async fn every_script_matches_its_function_on_random_histories() {
    let mut redis = Redis::start().await;
    fastrand::seed(SEED);
    for history in 0..HISTORIES {
        let mut slot = None;
        redis.put(&None).await;
        for step in 0..STEPS {
            if fastrand::u8(..6) == 0 {
                slot = anything();
                redis.put(&slot).await;
            }
            let before = slot.clone();
            let (token, writer) = (Token(id()), WriterId(id()));
            let ms = 1_000_000 * fastrand::u64(1..4);
            let digits = ms.to_string();
            let script = fastrand::u8(..5);
            slot = match script {
                0 => {
                    let arguments = [&token.0[..], digits.as_bytes()];
                    let found: Option<Vec<u8>> = redis.run(scripts::LEASE, &arguments).await;
                    let (slot, expected) = script_semantics::lease(slot, token, ms, 0);
                    assert_eq!(found, expected, "LEASE on {before:?}");
                    slot
                }
                1 => {
                    let arguments = [&writer.0[..], digits.as_bytes()];
                    let count: u64 = redis.run(scripts::FENCE, &arguments).await;
                    let (slot, expected) = script_semantics::fence(slot, writer, ms, 0);
                    assert_eq!(count, expected, "FENCE on {before:?}");
                    slot
                }
                2 => {
                    let held: bool = redis.run(scripts::RELEASE, &[&writer.0]).await;
                    let (slot, expected) = script_semantics::release(slot, writer);
                    assert_eq!(held, expected, "RELEASE of {writer:?} on {before:?}");
                    slot
                }
                3 => {
                    let token = fastrand::bool().then_some(token);
                    let value = bytes_of_a_value();
                    let cell = match Cell::parse(&value) {
                        Some(cell) if fastrand::bool() => cell,
                        _ => Cell::Absent,
                    };
                    let bytes = cell.encode();
                    let token_bytes = token.as_ref().map_or(&[][..], |token| &token.0);
                    let arguments = [token_bytes, &bytes, digits.as_bytes()];
                    let filled: bool = redis.run(scripts::FILL, &arguments).await;
                    let (slot, expected) = script_semantics::fill(slot, token, cell, ms, 0);
                    assert_eq!(filled, expected, "FILL {token:?} {cell:?} on {before:?}");
                    slot
                }
                _ => {
                    let deleted: bool = redis.run(scripts::INVAL, &[]).await;
                    let (slot, expected) = script_semantics::inval(slot);
                    assert_eq!(deleted, expected, "INVAL on {before:?}");
                    slot
                }
            };
            let context = format!("seed {SEED}, history {history}, step {step}, script {script} on {before:?}");
            assert_alike(&slot, &redis.get().await, &context);
        }
    }
}

/// A cell, and its content before the command.
fn cells() -> Vec<(String, Slot)> {
    (0..50).map(|number| (format!("cell-{number}"), anything())).collect()
}

#[tokio::test]
async fn a_command_for_many_cells_has_the_effect_of_single_commands() {
    let mut redis = Redis::start().await;
    fastrand::seed(SEED);
    let scripts = [
        (scripts::LEASE, 2),
        (scripts::FENCE, 2),
        (scripts::RELEASE, 1),
        (scripts::FILL, 3),
        (scripts::INVAL, 0),
    ];
    for (script, count) in scripts {
        let cells = cells();
        let arguments: Vec<Vec<Vec<u8>>> = cells
            .iter()
            .map(|_| {
                let fill = vec![id().to_vec(), bytes_of_a_value(), b"1000000".to_vec()];
                let other = vec![id().to_vec(), b"1000000".to_vec(), Vec::new()];
                let all = if count == 3 { fill } else { other };
                all[..count].to_vec()
            })
            .collect();
        let mut found: Vec<Vec<(Value, Slot)>> = Vec::new();
        for together in [true, false] {
            for (key, slot) in &cells {
                redis.put_at(key, slot).await;
            }
            let all: Vec<_> = (0..cells.len()).collect();
            let parts: Vec<_> = all.chunks(if together { all.len() } else { 1 }).collect();
            let mut answers = Vec::new();
            for part in parts {
                let mut eval = cmd("EVAL");
                eval.arg(script).arg(part.len());
                for at in part {
                    eval.arg(&cells[*at].0);
                }
                for at in part {
                    eval.arg(&arguments[*at]);
                }
                eval.arg("");
                let answer: Vec<Value> = eval.query_async(&mut redis.connection).await.unwrap();
                answers.extend(answer);
            }
            let mut after = Vec::new();
            for (answer, (key, _)) in answers.into_iter().zip(&cells) {
                after.push((answer, redis.get_at(key).await));
            }
            found.push(after);
        }
        for (at, (one, other)) in found[0].iter().zip(&found[1]).enumerate() {
            let context = format!("{script}\non {:?} with {:?}", cells[at].1, arguments[at]);
            assert_eq!(one.0, other.0, "{context}");
            assert_alike(&one.1, &other.1, &context);
        }
        assert_eq!(found[0].len(), cells.len());
    }
}

#[tokio::test]
async fn without_the_proof_no_script_does_anything() {
    let mut redis = Redis::start().await;
    let (id, cell) = ([7; 16], bytes_of_a_value());
    let scripts: [(&str, &[&[u8]]); 5] = [
        (scripts::LEASE, &[&id, b"1000"]),
        (scripts::FENCE, &[&id, b"1000"]),
        (scripts::RELEASE, &[&id]),
        (scripts::FILL, &[b"", b"N", b"1000"]),
        (scripts::INVAL, &[]),
    ];
    let bytes = cell.clone();
    let expires_at = None;
    let slot = Some(Stored { bytes, expires_at });
    for (script, arguments) in scripts {
        for (proof, is_found) in [(None, false), (Some("other"), false), (Some("right"), true)] {
            redis.put(&slot).await;
            let bytes = proof.map(|it| it.as_bytes().to_vec());
            let found = bytes.map(|bytes| Stored { bytes, expires_at });
            redis.put_at("proof", &found).await;
            let mut eval = cmd("EVAL");
            eval.arg(script).arg(&["2", KEY, "proof"]).arg(arguments).arg("right");
            let answer: Value = eval.query_async(&mut redis.connection).await.unwrap();
            assert_eq!(answer != Value::Nil, is_found, "{script} with {proof:?}");
            if !is_found {
                assert_eq!(redis.get().await, slot, "{script} with {proof:?}");
            }
        }
    }
}

/// Returns the answer of [`scripts::PROVE`] when this was its previous answer.
async fn prove(redis: &mut Redis, seen: &str) -> Option<String> {
    let mut eval = cmd("EVAL");
    eval.arg(scripts::PROVE).arg(&["1", KEY, "held", "60000", seen]);
    eval.query_async(&mut redis.connection).await.unwrap()
}

async fn operator(redis: &mut Redis, command: &[&str]) {
    let mut sent = cmd(command[0]);
    let _: Value = sent
        .arg(&command[1..])
        .query_async(&mut redis.connection)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_proof_is_put_back_after_a_flush_and_not_after_a_swap_or_a_reset_of_the_counts() {
    let mut redis = Redis::start().await;
    assert_eq!(prove(&mut redis, "").await, None);
    let past = prove(&mut redis, "new").await.unwrap();
    assert_eq!(prove(&mut redis, "").await, Some(past.clone()));
    operator(&mut redis, &["FLUSHALL"]).await;
    assert_eq!(prove(&mut redis, "").await, None);
    assert_eq!(prove(&mut redis, &past).await, Some(past.clone()));
    assert!(redis.get().await.unwrap().expires_at > Some(50_000));

    operator(&mut redis, &["SWAPDB", "0", "1"]).await;
    assert_eq!(prove(&mut redis, &past).await, None);
    operator(&mut redis, &["SWAPDB", "0", "1"]).await;
    let swapped = prove(&mut redis, &past).await.unwrap();
    assert_ne!(swapped, past, "it was there again, and the past is another");

    // As many swaps as before, because they were counted anew.
    operator(&mut redis, &["CONFIG", "RESETSTAT"]).await;
    operator(&mut redis, &["SWAPDB", "0", "1"]).await;
    operator(&mut redis, &["SWAPDB", "0", "1"]).await;
    operator(&mut redis, &["DEL", KEY]).await;
    assert_eq!(prove(&mut redis, &swapped).await, None);

    operator(&mut redis, &["SET", KEY, "of another run"]).await;
    assert_eq!(prove(&mut redis, "new").await, None);
}
