//! The error on a machine without PostgreSQL names what to install.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test a panic is the failed assertion"
)]

use std::{env, process::Command};

use cenote_local::PostgresServer;
use cenote_testing::{HELPER, helper, printed};

#[tokio::test]
#[ignore = "a helper process of the tests below"]
async fn start_and_print_the_error() {
    if env::var(HELPER).is_ok() {
        println!("{}", PostgresServer::temporary().start().await.unwrap_err());
    }
}

#[tokio::test]
async fn a_wrong_pg_bin_is_named_along_with_how_to_install() {
    let mut command: Command = helper(&env::current_exe().unwrap(), "start_and_print_the_error", "");
    let output = command.env("PG_BIN", "/nonexistent/bin").output().unwrap();
    let text = printed(&output);
    for part in [
        "PostgreSQL 14 or newer",
        "/nonexistent/bin",
        "PG_BIN",
        "apt-get install",
        "dnf install",
        "brew install",
    ] {
        assert!(text.contains(part), "no {part:?} in {text}");
    }
}
