//! Database URLs: none makes the parser panic, and no error shows the password.
#![no_main]

use arbitrary::Arbitrary;
use cenote_postgres::Config;
use libfuzzer_sys::fuzz_target;

const PASSWORD: &str = "s3cr3t-0f-0urs";

#[derive(Arbitrary, Debug)]
struct Url<'a> {
    text: &'a str,
    host: &'a str,
    query: &'a str,
}

fuzz_target!(|url: Url<'_>| {
    drop(Config::from_url(url.text));
    let Url { host, query, .. } = url;
    let with_password = format!("postgres://user:{PASSWORD}@{host}/name?{query}");
    if let Err(error) = Config::from_url(&with_password) {
        let shown = format!("{error} {error:?}");
        assert!(!shown.contains(PASSWORD), "{shown}");
    }
});
