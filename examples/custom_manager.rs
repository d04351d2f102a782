//! A manager with all five methods: what each is for, when the pool calls it, and which timeout bounds it.
//!
//!     cargo run --example custom_manager
//!
//! The connections use a small line protocol in which a session can be changed: after `USE blue` the server answers
//! every `SAY` in blue. Such a session must not reach the next caller.

use std::{error::Error, io, net::SocketAddr, time::Duration};

use cenote_pool::{Condition, Config, Manager, Pool, Retired};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};

/// A connection remembers how it was used, so that `inspect` need not ask the server. `cenote-postgres` learns the same
/// by following PostgreSQL's protocol.
struct Session {
    stream: BufReader<TcpStream>,
    /// Set before a command is sent and cleared when its answer is complete. It stays set if the caller gives up in
    /// between, because the next answer would be that of this command.
    unanswered: bool,
    /// Set when the session differs from a new one.
    changed: bool,
}

impl Session {
    async fn ask(&mut self, command: &str) -> io::Result<String> {
        self.changed |= command.starts_with("USE");
        self.unanswered = true;
        let line = format!("{command}\n");
        self.stream.get_mut().write_all(line.as_bytes()).await?;
        let mut answer = String::new();
        self.stream.read_line(&mut answer).await?;
        if answer.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.unanswered = false;
        Ok(answer.trim_end().to_owned())
    }
}

struct Painters(SocketAddr);

impl Manager for Painters {
    type Connection = Session;
    type Error = io::Error;

    /// Runs in a task of the pool, bounded by `connect_timeout`. A caller that gives up does not cancel it: the
    /// connection goes to the next waiter.
    async fn connect(&self) -> io::Result<Session> {
        Ok(Session {
            stream: BufReader::new(TcpStream::connect(self.0).await?),
            unanswered: false,
            changed: false,
        })
    }

    /// Runs in the caller at every return and every acquire, so it must be quick: no I/O. It returns `Clean` only if
    /// that is certain. After `Dirty` the pool calls `clean`, after `Broken` it calls `close`.
    fn inspect(&self, session: &mut Session) -> Condition {
        match (session.unanswered, session.changed) {
            (true, _) => Condition::Broken,
            (false, true) => Condition::Dirty,
            (false, false) => Condition::Clean,
        }
    }

    /// Runs in a task of the pool, bounded by `clean_timeout`. The caller that returned the connection does not wait
    /// for it. If `inspect` does not return `Clean` afterwards, the connection is closed.
    async fn clean(&self, session: &mut Session) -> io::Result<()> {
        session.ask("RESET").await?;
        session.changed = false;
        Ok(())
    }

    /// Runs in the caller, bounded by `check_timeout`, and only for a connection that has been idle for `check_after`.
    /// Others are acquired without a round trip.
    async fn check(&self, session: &mut Session) -> io::Result<()> {
        session.ask("PING").await.map(drop)
    }

    /// Runs in a task of the pool, bounded by `close_timeout`. Until it completes, the connection counts against the
    /// maximum, because the server may still have it.
    async fn close(&self, mut session: Session) {
        let _farewell = session.stream.get_mut().write_all(b"QUIT\n").await;
        let mut rest = String::new();
        let _end = session.stream.read_line(&mut rest).await;
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let config = Config {
        min_size: Some(0),
        max_size: 1,
        close_timeout: Duration::from_millis(200),
        ..Config::default()
    };
    let pool = Pool::new(Painters(serve_painters().await?), config)?;

    let mut session = pool.get().await?;
    session.ask("USE blue").await?;
    println!("first caller:  {}", session.ask("SAY hello").await?);
    drop(session); // dirty: cleaned before the next caller gets it

    let mut session = pool.get().await?;
    println!("second caller: {}", session.ask("SAY hello").await?);

    // A caller gives up: `SLEEP` is never answered, and neither is `QUIT` after it. The connection is replaced after
    // `close_timeout`.
    let patience = Duration::from_millis(50);
    let answer = tokio::time::timeout(patience, session.ask("SLEEP")).await;
    println!(
        "third command: {}",
        if answer.is_err() { "gave up" } else { "answered" }
    );
    drop(session);

    let mut session = pool.get().await?;
    println!("next caller:   {}", session.ask("SAY hello").await?);
    drop(session);

    let stats = pool.stats();
    println!(
        "{} connects, {} cleaned, {} broken",
        stats.connects,
        stats.cleaned,
        stats.retired(Retired::Broken)
    );
    pool.close().await;
    Ok(())
}

async fn serve_painters() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(paint(stream));
        }
    });
    Ok(address)
}

async fn paint(stream: TcpStream) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut colour = "black".to_owned();
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        let answer = match line.trim_end().split_once(' ').unwrap_or((line.trim_end(), "")) {
            ("USE", wanted) => {
                colour = wanted.to_owned();
                "done".to_owned()
            }
            ("RESET", _) => {
                colour = "black".to_owned();
                "done".to_owned()
            }
            ("SAY", words) => format!("{words} in {colour}"),
            ("PING", _) => "pong".to_owned(),
            ("SLEEP", _) => std::future::pending().await,
            _ => break,
        };
        stream.get_mut().write_all(format!("{answer}\n").as_bytes()).await?;
        line.clear();
    }
    Ok(())
}
