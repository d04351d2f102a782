//! Migrations by refinery over a connection of the pool.
//!
//!     cargo run -p cenote-ecosystem --example refinery
//!
//! refinery wants the driver's client. Its statements have no command timeout, as a migration may take long; what they leave of
//! the session is cleaned as after any other use. Instances that start at the same time take turns by an advisory lock, which the
//! end of its transaction releases.

use std::error::Error;

use cenote_examples::database;
use cenote_postgres::{Config, Pool};

mod migrations {
    refinery::embed_migrations!("migrations");
}

async fn migrate(pool: &Pool) -> Result<usize, Box<dyn Error>> {
    let turn = pool.begin().await?;
    turn.set_command_timeout(None);
    turn.query_one("SELECT pg_advisory_xact_lock(20261130)", &[]).await?;
    let mut connection = pool.get().await?;
    let report = migrations::migrations::runner()
        .run_async(connection.client_mut())
        .await?;
    turn.rollback().await?;
    Ok(report.applied_migrations().len())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let database = database().await?;
    let pool = Pool::new(Config::from_url(database.url())?)?;
    println!("{} migrations applied", migrate(&pool).await?);
    println!("{} migrations applied", migrate(&pool).await?);
    let lamps: i64 = pool
        .query_one_scalar("SELECT pieces FROM goods WHERE name = 'lamp'", &[])
        .await?;
    println!("{lamps} lamps");
    pool.close().await;
    Ok(())
}
