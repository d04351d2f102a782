//! `Accept-Encoding`: no header makes the parser panic, a line more that refuses gzip is obeyed, and of two headers in one
//! line or in two lines the same is understood.
#![no_main]

use cenote::http::accepts_gzip;
use http::HeaderValue;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|lines: (&[u8], &[u8])| {
    let header = |bytes: &[u8]| HeaderValue::from_bytes(bytes).ok();
    let (Some(one), Some(other)) = (header(lines.0), header(lines.1)) else {
        return;
    };
    let joined = [lines.0, b",", lines.1].concat();
    let joined = header(&joined).map(|joined| accepts_gzip([joined]));
    let apart = accepts_gzip([one.clone(), other.clone()]);
    assert_eq!(joined, Some(apart));
    assert!(!accepts_gzip([one, other, HeaderValue::from_static("gzip;q=0")]));
});
