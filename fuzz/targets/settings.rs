//! Settings: whatever is in `.env`, in `cenote.toml` and in the environment, loading ends with settings or with errors.
#![no_main]

use std::fs;

use arbitrary::Arbitrary;
use libfuzzer_sys::fuzz_target;

/// Names that lead further than those made up.
const NAMES: [&str; 8] = [
    "DATABASE_URL",
    "DB_HOST",
    "DB_POOL_MAX_SIZE",
    "DB_POOL_TIMEOUT",
    "REDIS_URL",
    "CACHE_MODE",
    "POOL_PROFILE",
    "LOG_FORMAT",
];

#[derive(Arbitrary, Debug)]
struct Given {
    dotenv: Vec<u8>,
    toml: Vec<u8>,
    environment: Vec<(u8, String)>,
}

fuzz_target!(|given: Given| {
    let directory = tempfile::tempdir().expect("a directory");
    fs::write(directory.path().join(".env"), &given.dotenv).expect("a file");
    fs::write(directory.path().join("cenote.toml"), &given.toml).expect("a file");
    let command = clap::Command::new("cenote").args(cenote::settings::args());
    let matches = command.get_matches_from(["cenote"]);
    let environment = given.environment.iter().map(|(name, value)| {
        let name = NAMES[usize::from(*name) % NAMES.len()];
        (name, value.as_str())
    });
    drop(cenote::settings::load(&matches, environment, directory.path()));
});
