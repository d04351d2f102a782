//! `If-Match` and `If-None-Match`: no header makes the parser panic, and the answer for a version is 200, 304, 400 or
//! 412.
#![no_main]

use http::HeaderValue;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|values: (Option<&[u8]>, Option<&[u8]>)| {
    let header = |value: Option<&[u8]>| value.and_then(|bytes| HeaderValue::from_bytes(bytes).ok());
    let (if_match, if_none_match) = (header(values.0), header(values.1));
    let status = cenote::status_for_version(if_match, if_none_match, 7);
    assert!([200, 304, 400, 412].contains(&status), "{status}");
});
