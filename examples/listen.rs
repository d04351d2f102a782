//! Notifications: a process is told at once what another has changed.
//!
//!     cargo run --example listen
//!
//! `LISTEN` on a pooled connection ends when the connection is returned and cleaned. A [`Listener`] keeps its own
//! session alive. Notifications that PostgreSQL sends without a session are lost, so a lost session is reported as
//! [`Event::Gap`]: after it, anything may have changed, and a cache would be emptied.

use std::error::Error;

use cenote_postgres::{Config, Event, Listener, Pool};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let database = cenote_examples::database().await?;
    let config = Config::from_url(database.url())?;
    let pool = Pool::new(config.clone())?;

    let mut listener = Listener::connect(&config).await?;
    listener.listen("example_stock").await?;

    // A notification is sent by the commit; a rollback sends none.
    let mut connection = pool.get().await?;
    for (pieces, kept) in [("5", true), ("4", false), ("3", true)] {
        let transaction = connection.transaction().await?;
        transaction
            .execute("SELECT pg_notify('example_stock', $1)", &[&pieces])
            .await?;
        if kept {
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
    }
    hear(&mut listener).await;
    hear(&mut listener).await;

    // The listener's session is ended from outside. The listener opens a new one and reports the gap.
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
               WHERE application_name = 'cenote listener' AND datname = current_database()";
    connection.query(end, &[]).await?;
    hear(&mut listener).await;
    connection
        .execute("SELECT pg_notify('example_stock', '2')", &[])
        .await?;
    hear(&mut listener).await;

    drop(connection);
    pool.close().await;
    Ok(())
}

async fn hear(listener: &mut Listener) {
    match listener.recv().await {
        Event::Notification { payload, .. } => println!("{payload} pieces left"),
        Event::Gap => println!("the connection was lost: count again"),
    }
}
