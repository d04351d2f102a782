//! The PROXY protocol: no bytes make the parser panic, and what follows a header does not change how it is read.
#![no_main]

use cenote::http::{header_length, parse_header};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(Some(length)) = header_length(bytes) else {
        return;
    };
    for end in length.min(bytes.len())..bytes.len() {
        assert_eq!(header_length(&bytes[..end]), Ok(Some(length)));
    }
    if let Some(header) = bytes.get(..length) {
        let _ = parse_header(header);
    }
});
