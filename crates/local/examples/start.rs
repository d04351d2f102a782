//! Starts a temporary server five times and says how long each took: `cargo run --release -p cenote-local --example
//! start`.

use std::time::Instant;

use cenote_local::{Error, PostgresServer};

#[tokio::main]
async fn main() -> Result<(), Error> {
    for _ in 0..5 {
        let begun = Instant::now();
        let server = PostgresServer::temporary().start().await?;
        let started = begun.elapsed();
        server.stop().await?;
        let stopped = begun.elapsed() - started;
        println!(
            "PostgreSQL {}: started in {started:.0?}, stopped in {stopped:.0?}",
            server.version()
        );
    }
    Ok(())
}
