//! A pool of plain TCP connections, with `cenote-pool` alone.
//!
//!     cargo run --example tcp
//!
//! A pool needs a [`Manager`], whose only required method is `connect`. The second method here, `inspect`, decides
//! whether a returned connection may be used by the next caller.

use std::{error::Error, io, net::SocketAddr};

use cenote_pool::{Condition, Config, Manager, Pool};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

struct Echo(SocketAddr);

impl Manager for Echo {
    type Connection = TcpStream;
    type Error = io::Error;

    async fn connect(&self) -> io::Result<TcpStream> {
        TcpStream::connect(self.0).await
    }

    /// Called at every return and every acquire, so it must not wait. A stream with nothing to read is clean. A stream
    /// with bytes left has an answer that its last user did not read, and that the next would take for its own. A
    /// stream at its end is closed.
    fn inspect(&self, stream: &mut TcpStream) -> Condition {
        match stream.try_read(&mut [0]) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Condition::Clean,
            _ => Condition::Broken,
        }
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let config = Config {
        max_size: 2,
        ..Config::default()
    };
    let pool = Pool::new(Echo(serve_echoes().await?), config)?;

    // Ten callers share two connections. A `Pool` is a handle: cloning it is cheap.
    let callers: Vec<_> = (0..10).map(|number| tokio::spawn(say(pool.clone(), number))).collect();
    for caller in callers {
        println!("{}", caller.await??);
    }

    // A caller does not read its answer. The connection is not used again.
    let mut stream = pool.get().await?;
    stream.write_all(b"goodbye").await?;
    stream.readable().await?;
    drop(stream);

    let stats = pool.stats();
    println!(
        "{} acquires, {} connections at most, {} given up",
        stats.acquired,
        stats.max_size,
        stats.retired(cenote_pool::Retired::Broken)
    );
    pool.close().await;
    Ok(())
}

async fn say(pool: Pool<Echo>, number: u32) -> Result<String, Box<dyn Error + Send + Sync>> {
    let mut stream = pool.get().await?;
    stream.write_all(format!("hello {number}").as_bytes()).await?;
    let mut answer = [0; 7];
    stream.read_exact(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
    // Here `stream` is dropped, which returns it to the pool.
}

/// A server that sends back what it receives.
async fn serve_echoes() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = stream.split();
                tokio::io::copy(&mut reader, &mut writer).await
            });
        }
    });
    Ok(address)
}
