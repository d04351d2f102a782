//! Short trials of a program with a cached table of its own: three processes, transactions of two statements, faults of Redis
//! and killed writers. No read is stale, and none goes back.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

use std::{path::PathBuf, time::Duration};

use cenote_coherence::{Fault, Limits, Mode, Trial, report};

/// Longer than the promised times, which hold on a machine that does nothing else and are checked by `make coherence`.
const LENIENT: Limits = Limits {
    stall: Duration::from_secs(20),
    recovery: Duration::from_secs(30),
    request: Duration::from_secs(15),
};

async fn no_violation(mode: Mode, fault: Fault) {
    let trial = Trial {
        mode,
        fault,
        lasts: Duration::from_secs(8),
        clients: 16,
        program: PathBuf::from(env!("CARGO_BIN_EXE_cached_table")),
        output: PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("cached-table"),
        limits: LENIENT,
    };
    let outcome = trial.run().await.unwrap();
    println!("{}\n{}", report::HEAD, report::row(&outcome));
    println!("{}", report::troubles(&outcome));
    assert_eq!(outcome.reasons, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_table_is_not_stale_while_redis_is_killed_and_restored_from_a_snapshot() {
    no_violation(Mode::Strong, Fault::RestoreRedis).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cached_table_is_not_stale_while_its_writers_are_killed_between_commit_and_release() {
    no_violation(Mode::Strong, Fault::KillService).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn near_rows_keep_their_bound_while_connections_to_redis_are_cut() {
    no_violation(Mode::Bounded, Fault::KillClients).await;
}
