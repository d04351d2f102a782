//! Data of a persistent server are kept, guarded, and never mixed up.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test a panic is the failed assertion"
)]

use std::{fs, os::unix::fs::PermissionsExt};

use cenote_local::{Error, PostgresServer};
use cenote_testing::ask;

#[tokio::test]
async fn data_and_password_survive_until_the_next_run() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("deep/er");
    let first = PostgresServer::persistent(&dir).start().await.unwrap();
    ask(&first, "create table kept as select 42 as answer").await;
    let password = fs::read_to_string(dir.join("password")).unwrap();
    assert!(first.url().contains(&password));
    drop(first); // the second run waits until it has stopped

    let second = PostgresServer::persistent(&dir).start().await.unwrap();
    assert_eq!(ask(&second, "select answer from kept").await, "42");
    assert!(second.url().contains(&password));
    assert_eq!(
        fs::metadata(dir.join("password")).unwrap().permissions().mode() & 0o777,
        0o600
    );
    second.stop().await.unwrap();
}

#[tokio::test]
async fn a_directory_in_use_is_refused_with_the_process_that_uses_it() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("data");
    let first = PostgresServer::persistent(&dir).start().await.unwrap();
    let error = PostgresServer::persistent(&dir).start().await.unwrap_err();
    assert!(
        matches!(error, Error::AlreadyRunning { pid: Some(pid), .. } if pid == std::process::id()),
        "{error:?}"
    );

    // Also when the server was not started by cenote: the lock says nothing then.
    fs::rename(dir.join("lock"), dir.join("unused")).unwrap();
    let error = PostgresServer::persistent(&dir).start().await.unwrap_err();
    assert!(
        matches!(error, Error::AlreadyRunning { pid, .. } if pid == first.pid()),
        "{error:?}"
    );
    assert_eq!(ask(&first, "select 1").await, "1");
    first.stop().await.unwrap();
}

#[tokio::test]
async fn a_stale_pid_file_whose_number_another_program_has_is_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("data");
    let first = PostgresServer::persistent(&dir).start().await.unwrap();
    let pid_file = fs::read_to_string(first.data_dir().join("postmaster.pid")).unwrap();
    let data = first.data_dir().to_owned();
    first.stop().await.unwrap();
    drop(first);
    // A process of the same user as the server, which is what PostgreSQL itself would take for a live server.
    let other = PostgresServer::temporary().start().await.unwrap();
    let own_pid = pid_file.lines().next().unwrap();
    let stale = pid_file.replacen(own_pid, &other.pid().unwrap().to_string(), 1);
    fs::write(data.join("postmaster.pid"), stale).unwrap();
    let second = PostgresServer::persistent(&dir).start().await.unwrap();
    assert_eq!(ask(&second, "select 1").await, "1");
    second.stop().await.unwrap();
}

#[tokio::test]
async fn data_of_another_major_version_are_refused_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("data");
    let first = PostgresServer::persistent(&dir).start().await.unwrap();
    let version = first.data_dir().join("PG_VERSION");
    first.stop().await.unwrap();
    drop(first);
    fs::write(&version, "12\n").unwrap();
    let error = PostgresServer::persistent(&dir).start().await.unwrap_err();
    assert!(matches!(error, Error::OtherMajorVersion { .. }), "{error:?}");
    assert!(error.to_string().contains("PostgreSQL 12"), "{error}");
}

#[tokio::test]
async fn an_initialisation_that_was_cut_short_is_done_again() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("data");
    let start = PostgresServer::persistent(&dir).start();
    assert!(
        tokio::time::timeout(std::time::Duration::from_millis(150), start)
            .await
            .is_err()
    );
    let server = PostgresServer::persistent(&dir).start().await.unwrap();
    assert_eq!(ask(&server, "select 1").await, "1");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_directory_of_somebody_else_with_files_in_it_is_refused() {
    let error = PostgresServer::persistent("/etc").start().await.unwrap_err();
    assert!(matches!(error, Error::UnusableDirectory { .. }), "{error:?}");
}
