//! Limits: whatever the text, parsing ends with limits or an error, and limits are read back from their text.
#![no_main]

use cenote::limits::{Overrides, Policy, RouteClasses};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(policy) = text.parse::<Policy>() {
        assert_eq!(policy.to_string().parse(), Ok(policy));
    }
    if let Ok(classes) = text.parse::<RouteClasses>() {
        assert_eq!(classes.to_string().parse(), Ok(classes));
    }
    drop(Overrides::parse(text));
});
