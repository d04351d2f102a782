//! Redis URLs: no text makes the parser panic, and no error shows a password.
#![no_main]

use arbitrary::Arbitrary;
use cenote_cache::RedisUrl;
use libfuzzer_sys::fuzz_target;

const PASSWORD: &str = "s3cr3t-0f-0urs";

#[derive(Arbitrary, Debug)]
struct Url<'a> {
    text: &'a str,
    scheme: &'a str,
    host: &'a str,
    query: &'a str,
}

fuzz_target!(|url: Url<'_>| {
    drop(RedisUrl::parse_list(url.text));
    let Url {
        scheme, host, query, ..
    } = url;
    let with_password = format!("{scheme}://user:{PASSWORD}@{host}/0?{query}");
    let shown = match RedisUrl::parse_list(&with_password) {
        Ok(servers) => format!("{servers:?}"),
        Err(error) => format!("{error} {error:?}"),
    };
    // Outside of the place for a password it is no secret.
    assert!(scheme.contains(PASSWORD) || !shown.contains(PASSWORD), "{shown}");
});
