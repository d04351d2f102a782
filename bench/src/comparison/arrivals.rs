//! Requests that come at a given rate whatever becomes of them, as those of many independent users do: an open loop.
//!
//! Invariant: every arrival has exactly one outcome, and its time begins when it arrives, not when it could be sent.

use std::{
    cell::RefCell,
    io,
    net::SocketAddr,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;
use tokio::{
    sync::oneshot,
    task::spawn_local,
    time::{sleep_until, timeout},
};

use super::{
    clients::{Window, lost, on_a_thread, shares},
    connection::Connection,
    outcome::Outcome,
    tally::{Failure, Tally},
    workload::Workload,
};

/// How long a user waits before they give up and close the connection.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// Connections, as a multiple of the requests that arrive while the first of them waits for as long as it will: so all
/// are sent, and no service is spared requests by keeping others waiting.
const ROOM: f64 = 1.25;
/// What has arrived since the last time is sent this often.
const TICK: Duration = Duration::from_millis(1);

/// Sends requests at a rate and tells what became of those that arrived in the window.
///
/// # Errors
///
/// There is no thread or no runtime to be had.
pub(super) async fn arrive(
    address: SocketAddr,
    workload: Workload,
    per_second: f64,
    length: Duration,
) -> Outcome<Tally> {
    // By then the first have given up, and as many wait as will.
    let window = Window::after(PATIENCE + TICK, length);
    let mut tallies = Vec::new();
    let most = (per_second * PATIENCE.as_secs_f64() * ROOM).ceil().max(1.0);
    for connections in shares(most as usize) {
        let rate = per_second * connections as f64 / most;
        let (result, tally) = oneshot::channel();
        thread::Builder::new().name("arrivals".to_owned()).spawn(move || {
            let users = Rc::new(Users {
                address,
                window,
                connections,
                idle: RefCell::default(),
                tally: RefCell::default(),
            });
            let _ = result.send(on_a_thread(users.arrive(workload, rate)));
        })?;
        tallies.push(tally);
    }
    let mut all = Tally::default();
    for tally in tallies {
        all.merge(&tally.await??);
    }
    Ok(all)
}

/// The users of one thread.
struct Users {
    address: SocketAddr,
    window: Window,
    /// How many there may be.
    connections: usize,
    idle: RefCell<Idle>,
    tally: RefCell<Tally>,
}

#[derive(Default)]
struct Idle {
    connections: Vec<Connection>,
    /// How many are out.
    used: usize,
}

impl Users {
    async fn arrive(self: Rc<Self>, workload: Workload, per_second: f64) -> io::Result<Tally> {
        let (mut random, mut request) = (Rng::new(), Vec::new());
        let begun = Instant::now();
        let mut arrived = 0;
        let mut tick = begun;
        // More come until the last that counts has its outcome, so that it is no better off than the first.
        while tick < self.window.end + PATIENCE + TICK {
            tick += TICK;
            sleep_until(tick.into()).await;
            let due = (tick - begun).as_secs_f64() * per_second;
            while arrived < due as u64 {
                arrived += 1;
                request.clear();
                workload.write_request(&mut random, &mut request);
                self.send(tick, &request);
            }
        }
        Ok(self.tally.take())
    }

    fn send(self: &Rc<Self>, arrived: Instant, request: &[u8]) {
        let mut idle = self.idle.borrow_mut();
        if idle.used == self.connections {
            return self.note(arrived, Err(Failure::NotSent));
        }
        idle.used += 1;
        let connection = idle.connections.pop();
        let (users, request) = (self.clone(), request.to_vec());
        spawn_local(async move {
            let patience = PATIENCE.saturating_sub(arrived.elapsed());
            let asked = timeout(patience, users.ask(connection, &request)).await;
            users.idle.borrow_mut().used -= 1;
            users.note(arrived, asked.unwrap_or(Err(Failure::TooLate)));
        });
    }

    /// A connection that is not put back is closed, which tells the service that nobody waits.
    async fn ask(&self, connection: Option<Connection>, request: &[u8]) -> Result<(), Failure> {
        let mut connection = match connection {
            Some(connection) => connection,
            None => Connection::open(self.address).await.map_err(lost)?,
        };
        let head = connection.ask(request).await.map_err(lost)?;
        if !head.last {
            self.idle.borrow_mut().connections.push(connection);
        }
        match head.status {
            200 => Ok(()),
            status => Err(Failure::Status(status)),
        }
    }

    fn note(&self, arrived: Instant, outcome: Result<(), Failure>) {
        if self.window.has(arrived) {
            match outcome {
                Ok(()) => self.tally.borrow_mut().good(arrived.elapsed()),
                Err(failure) => self.tally.borrow_mut().failed(failure),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    /// Answers every other request, all on connections of their own, and leaves the rest without an answer.
    async fn forgetful() -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            let mut left = Vec::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                assert!(stream.read(&mut [0; 256]).await.unwrap() > 0);
                let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";
                stream.write_all(answer.as_bytes()).await.unwrap();
                let (silent, _) = listener.accept().await.unwrap();
                left.push(silent);
            }
        });
        address
    }

    #[tokio::test]
    async fn every_arrival_is_counted_once_and_a_silent_server_is_given_up() {
        let address = forgetful().await;
        let length = Duration::from_millis(500);
        let tally = arrive(address, Workload::Read, 200.0, length).await.unwrap();
        let failed: u64 = tally.failures().values().sum();
        let all = tally.answered() + failed;
        assert!((98..=102).contains(&all), "{tally:?}");
        assert!(tally.failures().contains_key(&Failure::TooLate), "{tally:?}");
        assert!(tally.answered() > 0, "{tally:?}");
    }
}
