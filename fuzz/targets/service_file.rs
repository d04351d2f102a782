//! Service files: none makes the reader panic, and no error shows a value.
#![no_main]

use arbitrary::Arbitrary;
use cenote_postgres::service_options;
use libfuzzer_sys::fuzz_target;

const SECRET: &str = "s3cr3t-0f-0urs";

#[derive(Arbitrary, Debug)]
struct Services<'a> {
    before: &'a str,
    after: &'a str,
    service: &'a str,
}

fuzz_target!(|it: Services<'_>| {
    let Services { before, after, service } = it;
    let _options = service_options(before, service);
    let text = format!("{before}\n[shop]\npassword={SECRET}\n{after}");
    match service_options(&text, "shop") {
        Ok(options) => assert!(options.is_some(), "the heading is there"),
        Err(error) => {
            let shown = format!("{error} {error:?}");
            assert!(!shown.contains(SECRET), "{shown}");
        }
    }
});
