//! Tokens: no text, and no header or claims in the right form, make the verification panic, and none is accepted without a
//! signature.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|parts: (&str, &str, &str)| {
    let (text, header, claims) = parts;
    assert!(!cenote::accepts_token(text));
    cenote::judge_token(header.as_bytes(), claims.as_bytes());
});
