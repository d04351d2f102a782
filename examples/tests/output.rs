//! Runs each example and checks its output.

#![allow(clippy::unwrap_used, reason = "a panic is the failed assertion")]

use std::{path::PathBuf, process::Command};

/// The output of an example that ended with success. It starts a private server, even if `DATABASE_URL` is set.
fn run(example: &str) -> String {
    let output = Command::new(program(example))
        .env_remove("DATABASE_URL")
        .output()
        .unwrap();
    let (said, complained) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{said}\n{complained}");
    said
}

/// The program of an example. This test is `target/debug/deps/output-…`, the example `target/debug/examples/…`; `cargo
/// test` builds both, unless it builds this test alone.
fn program(example: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.ancestors().nth(2).unwrap().join("examples").join(example);
    assert!(
        program.exists(),
        "not built: run `cargo build -p cenote-examples --examples`"
    );
    program
}

#[test]
fn plain_tcp_connections_are_shared_and_one_with_an_unread_answer_is_not() {
    let said = run("tcp");
    for number in 0..10 {
        assert!(said.contains(&format!("hello {number}\n")), "{said}");
    }
    assert!(
        said.contains("11 acquires, 2 connections at most, 1 given up"),
        "{said}"
    );
}

#[test]
fn a_changed_session_is_cleaned_and_an_unanswered_one_replaced() {
    let said = run("custom_manager");
    assert_eq!(
        said,
        "first caller:  hello in blue\n\
         second caller: hello in black\n\
         third command: gave up\n\
         next caller:   hello in black\n\
         2 connects, 1 cleaned, 1 broken\n"
    );
}

#[test]
fn a_bare_driver_is_cleaned_after_every_use() {
    let said = run("tokio_postgres");
    assert!(said.contains("application_name is \"\", rolled back: true"), "{said}");
    assert!(said.contains("1 connects, "), "{said}");
}

#[test]
fn transactions_that_contradict_each_other_all_succeed_in_the_end() {
    let said = run("transaction_retry");
    assert!(
        said.contains("too much: refused after 1 try\n2000 cents in all\n"),
        "{said}"
    );
}

#[test]
fn a_handler_gets_a_connection_or_the_client_a_problem() {
    let said = run("axum_state");
    let square = r#"200 OK: {"square":49}"#;
    let problem = r#"503 Service Unavailable: {"detail":"no database connection in time","status":503,"title":"Service Unavailable"}"#;
    assert_eq!(said, format!("{square}\n{problem}\n{square}\n"));
}

#[test]
fn a_service_answers_with_what_a_client_may_know() {
    let said = run("axum_crud");
    let problem =
        |status: u16, title, detail| format!(r#"{status} {{"detail":"{detail}","status":{status},"title":"{title}"}}"#);
    let expected = [
        "POST /goods: 201".to_owned(),
        format!(
            "POST /goods: {}",
            problem(409, "Conflict", "the change contradicts data that is there")
        ),
        r#"POST /goods/lamp/orders/2: 200 {"left":1}"#.to_owned(),
        format!("POST /goods/lamp/orders/2: {}", problem(409, "Conflict", "only 1 left")),
        r#"GET /goods/lamp: 200 {"name":"lamp","pieces":1}"#.to_owned(),
        r#"GET /goods: 200 ["lamp"]"#.to_owned(),
        "DELETE /goods/lamp: 204".to_owned(),
        format!(
            "GET /goods/lamp: {}",
            problem(404, "Not Found", "there are no such goods")
        ),
        format!(
            "GET /goods: {}",
            problem(503, "Service Unavailable", "the database is busy")
        ),
    ];
    assert_eq!(said.lines().collect::<Vec<_>>(), expected);
}

#[test]
fn no_instance_reads_a_row_that_another_has_sold() {
    let said = run("cached_table");
    assert_eq!(
        said,
        "one:   3 pieces of lamps, from Database\n\
         other: 3 pieces of lamps, from Redis\n\
         one:   sold, 1 left\n\
         other: 1 pieces of lamps, from Database\n\
         one:   1 pieces of lamps, from Redis\n\
         other: not sold: too few\n\
         one:   1 pieces of lamps, from Redis\n\
         Redis is killed\n\
         one:   sold, 0 left\n\
         other: 0 pieces of lamps, from Database\n"
    );
}

#[test]
fn writes_and_reads_find_their_servers_and_reads_survive_the_replica() {
    let said = run("read_replica");
    assert_eq!(
        said,
        "writes go to the primary\n\
         reads go to a standby\n\
         read there: read all about it\n\
         then reads go to the primary\n"
    );
}

#[test]
fn a_listener_hears_commits_and_tells_of_its_own_gaps() {
    let said = run("listen");
    assert_eq!(
        said,
        "5 pieces left\n3 pieces left\nthe connection was lost: count again\n2 pieces left\n"
    );
}

#[test]
fn a_registry_of_prometheus_client_has_the_metrics_of_the_pool_beside_its_own() {
    let said = run("prometheus_client");
    for line in [
        "orders_total 5",
        "# TYPE cenote_pool_acquires counter",
        "cenote_pool_acquires_total 5.0",
        "cenote_pool_connections_limit{bound=\"max\"} 2.0",
        "# TYPE cenote_pool_use_seconds histogram",
        "# UNIT cenote_pool_use_seconds seconds",
        "cenote_pool_use_seconds_count 5",
        "cenote_statements_total 5.0",
    ] {
        assert!(said.lines().any(|it| it == line), "{line}\n{said}");
    }
}

#[test]
fn the_facade_gets_the_values_the_descriptions_and_the_counts_of_histograms() {
    let said = run("metrics_facade");
    for line in [
        "cenote_pool_acquires_total {} 5 # Connections that callers acquired.",
        "cenote_pool_connections_limit {bound=max} 2 # The bounds on the number of connections; `overflow` comes on top of `max`.",
        "cenote_pool_use_seconds_count {} 5",
        "cenote_statements_total {} 5 # Statements that were sent to the database, also those that failed.",
    ] {
        assert!(said.lines().any(|it| it == line), "{line}\n{said}");
    }
}
