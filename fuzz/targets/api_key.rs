//! API keys: no text makes the parser panic, and what is accepted is written as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &[u8]| {
    if let Some(accepted) = cenote::parse_api_key(text) {
        assert_eq!(accepted.as_bytes(), text);
    }
});
