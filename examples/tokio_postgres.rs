//! tokio-postgres behind `cenote-pool`, without `cenote-postgres`.
//!
//!     cargo run --example tokio_postgres
//!
//! For a program that wants the driver itself. The price is in `inspect`: tokio-postgres does not tell whether a
//! transaction is open or an answer is outstanding, so each used connection is dirty, and cleaning it costs two round
//! trips. `cenote-postgres` learns the same from the protocol, without a round trip.

use std::error::Error;

use cenote_pool::{Condition, Config, Manager, Pool};
use tokio_postgres::{Client, NoTls};

struct Session {
    client: Client,
    used: bool,
}

impl Session {
    /// The only access to the client, so each use is noticed.
    fn client(&mut self) -> &mut Client {
        self.used = true;
        &mut self.client
    }
}

struct Postgres(tokio_postgres::Config);

impl Manager for Postgres {
    type Connection = Session;
    type Error = tokio_postgres::Error;

    async fn connect(&self) -> Result<Session, tokio_postgres::Error> {
        let (client, connection) = self.0.connect(NoTls).await?;
        // The task ends when the client is dropped or the connection is lost.
        tokio::spawn(connection);
        Ok(Session { client, used: false })
    }

    fn inspect(&self, session: &mut Session) -> Condition {
        match (session.client.is_closed(), session.used) {
            (true, _) => Condition::Broken,
            (false, true) => Condition::Dirty,
            (false, false) => Condition::Clean,
        }
    }

    /// Two statements, because `DISCARD ALL` is not allowed in a transaction. They wait for a statement whose caller
    /// gave up; if that takes longer than `clean_timeout`, the connection is closed.
    async fn clean(&self, session: &mut Session) -> Result<(), tokio_postgres::Error> {
        session.client.batch_execute("ROLLBACK").await?;
        session.client.batch_execute("DISCARD ALL").await?;
        session.used = false;
        Ok(())
    }

    async fn check(&self, session: &mut Session) -> Result<(), tokio_postgres::Error> {
        session.client.batch_execute("").await
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let database = cenote_examples::database().await?;
    let config = Config {
        min_size: Some(0),
        max_size: 1, // so that everything below uses the same session
        ..Config::default()
    };
    let pool = Pool::new(Postgres(database.url().parse()?), config)?;

    // An open transaction and a changed setting, both left behind.
    let mut session = pool.get().await?;
    let left = "SET application_name = 'left behind'; BEGIN; CREATE TABLE left_behind ()";
    session.client().batch_execute(left).await?;
    drop(session);

    let mut session = pool.get().await?;
    let look = "SELECT current_setting('application_name'), to_regclass('left_behind') IS NULL";
    let row = session.client().query_one(look, &[]).await?;
    let (name, rolled_back): (String, bool) = (row.get(0), row.get(1));
    println!("application_name is {name:?}, rolled back: {rolled_back}");
    drop(session);

    println!("{} connects, {} cleaned", pool.stats().connects, pool.stats().cleaned);
    pool.close().await;
    Ok(())
}
