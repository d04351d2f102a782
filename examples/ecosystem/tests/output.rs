//! Runs each example and checks its output.

#![cfg(test)]
#![allow(clippy::unwrap_used, reason = "a panic is the failed assertion")]

use std::process::Command;

/// The output of an example that ended with success. It starts a private server, even if `DATABASE_URL` is set.
fn run(example: &str) -> String {
    // This test is `target/debug/deps/output-…`, the example `target/debug/examples/…`; `cargo test` builds both.
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples").join(example);
    let output = Command::new(program).env_remove("DATABASE_URL").output().unwrap();
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{said}\n{complained}");
    said
}

#[test]
fn generated_queries_run_with_cached_statements_and_the_drivers_errors() {
    assert_eq!(
        run("clorinde"),
        "a second lamp: refused: true\n\
         1 lamp left\n\
         4 chair, 1 lamp\n\
         10 look-ups with 1 prepared statement\n\
         1 errors among the statements counted\n"
    );
}

#[test]
fn migrations_are_applied_once() {
    assert_eq!(run("refinery"), "2 migrations applied\n0 migrations applied\n3 lamps\n");
}

#[test]
fn diesel_finds_no_transaction_of_an_earlier_user() {
    assert_eq!(run("diesel_async"), "2 lamps left\n2 lamp\n1 connection closed\n");
}

#[test]
fn a_service_keeps_its_queries_of_sqlx_and_its_one_connection() {
    assert_eq!(
        run("sqlx_service"),
        "GET /goods/lamp: 200 {\"name\":\"lamp\",\"pieces\":3}\n\
         POST /goods/lamp/orders/2: 200 {\"name\":\"lamp\",\"pieces\":1}\n\
         POST /goods/lamp/orders/2: 409 the change contradicts data that is there\n\
         GET /goods/lamp: 200 {\"name\":\"lamp\",\"pieces\":1}\n\
         GET /goods/chair: 404 no such goods\n\
         1 connect\n"
    );
}
