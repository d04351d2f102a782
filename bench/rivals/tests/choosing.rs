//! Which service is started. Because this is a test of the program, cargo also builds the program for other tests.
#![allow(missing_docs, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::process::Command;

#[test]
fn a_service_that_does_not_exist_is_refused_with_those_that_do() {
    let mut rivals = Command::new(env!("CARGO_BIN_EXE_cenote-rivals"));
    let refused = rivals.arg("hallo").env("PORT", "0").output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    let errors = String::from_utf8(refused.stderr).unwrap();
    assert_eq!(errors, "usage: cenote-rivals hello|deadpool|deadpool-redis|sqlx\n");
}
