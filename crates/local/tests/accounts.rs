//! Servers run for root (as somebody else) and for an ordinary user.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "in a test a panic is the failed assertion"
)]

use std::{
    env, fs,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        process::CommandExt,
    },
};

use cenote_local::PostgresServer;
use cenote_testing::{HELPER, ask, helper, printed};

#[tokio::test]
async fn the_server_does_not_run_as_root() {
    let server = PostgresServer::temporary().start().await.unwrap();
    let owner = fs::metadata(server.data_dir()).unwrap().uid();
    assert_ne!(owner, 0);
    assert_eq!(ask(&server, "select 1").await, "1");
}

#[tokio::test]
#[ignore = "a helper process of the test below"]
async fn use_servers() {
    let Ok(dir) = env::var(HELPER) else { return };
    let server = PostgresServer::temporary().start().await.unwrap();
    server.create_database("other").await.unwrap();
    server.kill().await.unwrap();
    server.restart().await.unwrap();
    assert_eq!(ask(&server, "select 1").await, "1");
    let server = PostgresServer::persistent(dir).start().await.unwrap();
    assert_eq!(ask(&server, "select 1").await, "1");
    server.stop().await.unwrap();
}

#[tokio::test]
async fn an_ordinary_user_can_do_all_that_root_can() {
    if fs::metadata("/proc/self").map_or(1, |meta| meta.uid()) != 0 {
        println!("skipped: needs root; as an ordinary user every other test shows the same");
        return;
    }
    // The test program may lie where `nobody` cannot go.
    let dir = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o777))
        .tempdir()
        .unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let program = dir.path().join("program");
    // By another process: a program that any process holds open for writing cannot be run, and a fork by another test
    // of this process would hold it open a moment longer.
    let mut copy = std::process::Command::new("cp");
    let copied = copy.arg(env::current_exe().unwrap()).arg(&program).status();
    assert!(copied.unwrap().success());
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    let data = dir.path().join("data");
    let output = helper(&program, "use_servers", &data.to_string_lossy())
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", printed(&output));
    assert_eq!(fs::metadata(data).unwrap().uid(), 65534);
}
