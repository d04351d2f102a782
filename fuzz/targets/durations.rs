//! Durations and other values of settings: no text makes a parser panic, and no message shows a password.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;

/// A duration in seconds, one in milliseconds, a size, a number, a choice, an address.
const NAMES: [&str; 6] = [
    "DB_POOL_TIMEOUT",
    "CACHE_MAX_STALENESS_MS",
    "HTTP_ANSWER_MEMORY",
    "DB_POOL_MAX_SIZE",
    "CACHE_MODE",
    "HOST",
];

const PASSWORD: &str = "s3cr3t-0f-0urs";

fuzz_target!(|text: &str| {
    let command = clap::Command::new("cenote").args(cenote::settings::args());
    let matches = command.get_matches_from(["cenote"]);
    let url = format!("postgresql://user:{PASSWORD}@localhost/name");
    for name in NAMES {
        let environment = [("DATABASE_URL", url.as_str()), (name, text)];
        if let Err(error) = cenote::settings::load(&matches, environment, Path::new("/nonexistent")) {
            let shown = format!("{error} {error:?}");
            assert!(text.contains(PASSWORD) || !shown.contains(PASSWORD), "{shown}");
        }
    }
});
