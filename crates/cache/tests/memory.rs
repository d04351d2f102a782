//! The bound on the near cache bounds memory: the process grows by no more than the bound and the allocator's overhead.

#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

mod world;

use std::fs;

use cenote_cache::{Cache, EpochRow, Mode, Origin, Value};
use world::{Down, config};

const BOUND: u64 = 32 << 20;

/// Has a row of its own memory for every key, as long as the key says.
struct Rows;

impl Origin for Rows {
    type Error = Down;

    async fn load(&self, keys: &[&str]) -> Result<Vec<Option<Value>>, Down> {
        let value = |key: &&str| {
            let length: usize = key.split(' ').next()?.parse().ok()?;
            let bytes = vec![0; length].into();
            Some(Value::new(1, bytes))
        };
        Ok(keys.iter().map(value).collect())
    }

    async fn epoch_row(&self) -> Result<EpochRow, Down> {
        Err(Down)
    }

    async fn advance(&self, _successor: EpochRow) -> Result<(), Down> {
        Err(Down)
    }
}

/// The memory of this process that is in use.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kilobytes: u64 = line.unwrap().split_whitespace().next().unwrap().parse().unwrap();
    kilobytes << 10
}

#[tokio::test]
async fn the_process_grows_by_no_more_than_the_bound() {
    for length in [0, 100, 5_000] {
        let mut config = config(Mode::Local);
        config.near_bytes = BOUND;
        let cache = Cache::new(Rows, config).unwrap();
        let before = resident();
        let fits = BOUND / (length + 150);
        for number in 0..2 * fits {
            cache.read(&format!("{length} {number}")).await.unwrap();
        }
        let grown = resident().saturating_sub(before);
        let stats = cache.stats();
        assert!(stats.bytes <= BOUND, "{stats:?}");
        assert!(stats.bytes > BOUND / 2, "it is made use of: {stats:?}");
        println!("values of {length} bytes: counted {}, grown by {grown}", stats.bytes);
        assert!(grown <= BOUND + BOUND / 4, "values of {length} bytes: {grown}");
    }
}
