//! Notifications: a process hears at once what another has changed.
//!
//!     cargo run --example listen
//!
//! A pooled connection is the wrong place for `LISTEN`: it goes back, is cleaned, and hears no
//! more. A [`Listener`] has a session of its own and keeps it alive. What PostgreSQL sends while
//! nobody is connected is gone for good, so a lost session is told as [`Event::Gap`], after which
//! anything may have changed: a cache would be emptied there.

use std::error::Error;

use cenote_postgres::{Config, Event, Listener, Pool};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let database = cenote_examples::database().await?;
    let config = Config::from_url(database.url())?;
    let pool = Pool::new(config.clone())?;

    let mut listener = Listener::connect(&config).await?;
    listener.listen("example_stock").await?;

    // A notification is sent by the commit, and not at all if there is none.
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

    // Somebody ends the listener's session. It makes a new one, and says what may be missing.
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
