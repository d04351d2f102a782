//! Short trials of `make coherence`: faults are injected, and what clients saw is checked against the promises of the
//! mode.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

use std::{path::PathBuf, time::Duration};

use cenote_coherence::{Fault, Limits, Mode, Outcome, Trial, report};

/// Longer than the promised times, which hold on a machine that does nothing else and are checked by `make coherence`.
const LENIENT: Limits = Limits {
    stall: Duration::from_secs(20),
    recovery: Duration::from_secs(30),
    request: Duration::from_secs(15),
};

async fn outcome(mode: Mode, fault: Fault, seconds: u64) -> Outcome {
    let trial = Trial {
        mode,
        fault,
        lasts: Duration::from_secs(seconds),
        clients: 16,
        program: PathBuf::from(env!("CARGO_BIN_EXE_cenote")),
        output: PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("coherence"),
        limits: LENIENT,
    };
    let outcome = trial.run().await.unwrap();
    println!("{}\n{}", report::HEAD, report::row(&outcome));
    println!("{}", report::troubles(&outcome));
    assert_eq!(outcome.reasons, [""; 0]);
    outcome
}

#[tokio::test(flavor = "multi_thread")]
async fn strong_is_not_stale_while_redis_is_killed_and_restored_from_a_snapshot() {
    outcome(Mode::Strong, Fault::RestoreRedis, 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strong_is_not_stale_while_databases_of_redis_are_swapped() {
    outcome(Mode::Strong, Fault::SwapDatabases, 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn strong_is_not_stale_while_an_instance_uses_another_database_number() {
    outcome(Mode::Strong, Fault::OtherDatabase, 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bounded_keeps_its_bound_while_redis_is_silent_for_one_instance() {
    outcome(Mode::Bounded, Fault::Silence, 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn local_loses_nothing_while_the_service_is_killed() {
    outcome(Mode::Local, Fault::KillService, 6).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn stale_reads_of_the_plain_cache_aside_mode_are_found() {
    let outcome = outcome(Mode::Ttl, Fault::RestoreRedis, 6).await;
    assert!(!outcome.violations.is_empty());
}
