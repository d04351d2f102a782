//! Oracle, with the pure-Rust driver `oracle-rs`.
//!
//!     ORACLE_URL=localhost:1521/FREEPDB1 ORACLE_USER=… ORACLE_PASSWORD=… \
//!         cargo run -p cenote-examples --example oracle --features oracle
//!
//! **Not tested with a server.** CI only compiles this file, because it has no Oracle database. The comments about the
//! driver, version 0.1.7, come from its source.
//!
//! The driver does not tell whether a transaction is open. And a call that is dropped half-way leaves its answer in the
//! stream, where the next call would take it for its own. So the connection is wrapped, and the wrapper keeps track.

use std::{env, error::Error};

use cenote_pool::{Condition, Config, Manager, Pool};
use oracle_rs::{Connection, QueryResult, Value};

struct Session {
    connection: Connection,
    /// A call has begun and not ended.
    calling: bool,
    /// A transaction may be open: Oracle begins one with the first change.
    used: bool,
}

impl Session {
    async fn execute(&mut self, sql: &str, values: &[Value]) -> oracle_rs::Result<QueryResult> {
        self.used = true;
        self.calling = true;
        let answer = self.connection.execute(sql, values).await;
        self.calling = false;
        answer
    }

    async fn commit(&mut self) -> oracle_rs::Result<()> {
        self.execute("COMMIT", &[]).await.map(drop)
    }
}

struct Oracle(oracle_rs::Config);

impl Manager for Oracle {
    type Connection = Session;
    type Error = oracle_rs::Error;

    async fn connect(&self) -> oracle_rs::Result<Session> {
        Ok(Session {
            connection: Connection::connect_with_config(self.0.clone()).await?,
            calling: false,
            used: false,
        })
    }

    fn inspect(&self, session: &mut Session) -> Condition {
        if session.calling || session.connection.is_closed() {
            Condition::Broken
        } else if session.used {
            Condition::Dirty
        } else {
            Condition::Clean
        }
    }

    /// Ends the transaction. Changes by `ALTER SESSION` stay: a caller that makes them must undo them, or have the
    /// connection closed with `discard`.
    async fn clean(&self, session: &mut Session) -> oracle_rs::Result<()> {
        session.execute("ROLLBACK", &[]).await?;
        session.used = false;
        Ok(())
    }

    async fn check(&self, session: &mut Session) -> oracle_rs::Result<()> {
        session.calling = true;
        let answer = session.connection.ping().await;
        session.calling = false;
        answer
    }

    /// The driver logs off and does not wait for the server, so for a short time the server may count one session more
    /// than the pool.
    async fn close(&self, session: Session) {
        if let Err(error) = session.connection.close().await {
            eprintln!("closing: {error}");
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut server: oracle_rs::Config = env::var("ORACLE_URL")?.parse()?;
    server.username = env::var("ORACLE_USER")?;
    server.set_password(env::var("ORACLE_PASSWORD")?);
    let pool = Pool::new(Oracle(server), Config::default())?;

    let mut session = pool.get().await?;
    let answer = session.execute("SELECT 1 FROM DUAL", &[]).await?;
    println!("{} row", answer.row_count());
    session.commit().await?;
    drop(session);
    pool.close().await;
    Ok(())
}
