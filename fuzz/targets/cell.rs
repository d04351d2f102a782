//! What the cache finds in Redis: nothing makes the parser panic, and what it reads it writes back as it was.
#![no_main]

use cenote_cache::protocol::cell::Cell;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Some(cell) = Cell::parse(bytes) {
        assert_eq!(cell.encode(), bytes);
    }
});
