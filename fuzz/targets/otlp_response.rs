//! The response of a collector of traces: no bytes make the reader panic.
#![no_main]

use cenote::spans::rejected_spans;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|response: &[u8]| {
    let _spans = rejected_spans(response);
});
