//! JWK sets: no document makes the parser panic, and at most 64 keys come of it.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|document: &[u8]| {
    for is_public in [true, false] {
        assert!(cenote::count_keys(document, is_public) <= 64);
    }
});
