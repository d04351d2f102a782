//! No duration makes anything panic: the longest and none among them.

#![allow(clippy::unwrap_used, reason = "in a test a panic is the failed assertion")]

use std::time::Duration;

use cenote_local::{Error, PostgresServer};

#[tokio::test]
async fn a_server_may_take_for_ever_to_start_or_no_time() {
    let server = PostgresServer::temporary()
        .start_timeout(Duration::MAX)
        .start()
        .await
        .unwrap();
    server.restart().await.unwrap();
    drop(server);
    match PostgresServer::temporary().start_timeout(Duration::ZERO).start().await {
        Ok(_) | Err(Error::StartTimeout { .. }) => {}
        Err(other) => panic!("{other}"),
    }
}
