//! The services that cenote is compared with: `cenote-rivals SERVICE`, with `PORT`, `DATABASE_URL` and `REDIS_URL` in
//! the environment.
//!
//! Invariant: each is written as a user of its libraries would write it, with good settings, and has the conditions of
//! cenote: ten connections, statements prepared once per connection, no check at checkout, `TCP_NODELAY`, the same
//! allocator and the same build profile.

mod answers;
mod deadpool;
mod deadpool_redis;
mod hello;
mod sqlx;

use std::{env, error::Error, net::SocketAddr, process::ExitCode, time::Duration};

use axum::{Router, serve::ListenerExt};
use tokio::net::TcpListener;

/// Connections of each pool.
const CONNECTIONS: u16 = 10;

type Outcome<T> = Result<T, Box<dyn Error + Send + Sync>>;

fn main() -> ExitCode {
    match run(env::args().nth(1).as_deref()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(service: Option<&str>) -> Outcome<()> {
    let address = SocketAddr::from(([127, 0, 0, 1], variable("PORT")?.parse()?));
    match service {
        Some("hello") => hello::serve(address),
        Some("deadpool") => serve(address, deadpool::router),
        Some("deadpool-redis") => serve(address, deadpool_redis::router),
        Some("sqlx") => serve(address, sqlx::router),
        _ => Err("usage: cenote-rivals hello|deadpool|deadpool-redis|sqlx".into()),
    }
}

#[tokio::main]
async fn serve<R>(address: SocketAddr, router: impl FnOnce() -> R) -> Outcome<()>
where
    R: Future<Output = Outcome<Router>>,
{
    let router = router().await?;
    let listener = TcpListener::bind(address).await?.tap_io(|stream| {
        // Without TCP_NODELAY answers are slower, but correct.
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, router).await?)
}

fn variable(name: &str) -> Outcome<String> {
    env::var(name).map_err(|error| format!("{name}: {error}").into())
}

/// How long a request may wait for a connection: `DB_POOL_TIMEOUT`, as in cenote; the library's default if unset.
fn pool_timeout() -> Outcome<Option<Duration>> {
    match env::var("DB_POOL_TIMEOUT") {
        Ok(seconds) => Ok(Some(Duration::from_secs_f64(seconds.parse()?))),
        Err(_) => Ok(None),
    }
}
