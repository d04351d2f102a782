//! An open loop: requests arrive at a given rate, whether earlier ones were answered or not, like those of many
//! independent users.
//!
//! Invariant: every arrival has exactly one outcome, and its time begins when it arrives, not when it could be sent.

use std::{
    cell::RefCell,
    io,
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
    target::Target,
    workload::Workload,
};

/// How long a user waits before giving up and closing the connection.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);
/// The number of connections, as a multiple of the requests that arrive within one user's patience. So a request never
/// waits for a connection, and a slow service does not get fewer requests.
const ROOM: f64 = 1.25;
/// Interval at which the requests that have arrived are sent.
const TICK: Duration = Duration::from_millis(1);

/// Sends requests at a rate and returns the outcomes of those that arrived in the window.
///
/// # Errors
///
/// A thread or a runtime cannot be started.
pub(super) async fn arrive(target: &Target, workload: Workload, per_second: f64, length: Duration) -> Outcome<Tally> {
    // After this time the first users give up, so the number of waiting ones no longer grows.
    let window = Window::after(PATIENCE + TICK, length);
    let mut tallies = Vec::new();
    let most = (per_second * PATIENCE.as_secs_f64() * ROOM).ceil().max(1.0);
    for connections in shares(most as usize) {
        let rate = per_second * connections as f64 / most;
        let target = target.clone();
        let (result, tally) = oneshot::channel();
        thread::Builder::new().name("arrivals".to_owned()).spawn(move || {
            let users = Rc::new(Users {
                target,
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
    target: Target,
    window: Window,
    /// The limit of users at the same time.
    connections: usize,
    idle: RefCell<Idle>,
    tally: RefCell<Tally>,
}

#[derive(Default)]
struct Idle {
    connections: Vec<Connection>,
    /// The number of users that wait for an answer.
    used: usize,
}

impl Users {
    async fn arrive(self: Rc<Self>, workload: Workload, per_second: f64) -> io::Result<Tally> {
        let (mut random, mut request) = (Rng::new(), Vec::new());
        let begun = Instant::now();
        let mut arrived = 0;
        let mut tick = begun;
        // Requests arrive until the last one of the window has its outcome. Otherwise the load would be lower for the
        // last ones.
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

    /// A connection that is not put back is closed, so the service can see that its client has given up.
    async fn ask(&self, connection: Option<Connection>, request: &[u8]) -> Result<(), Failure> {
        let mut connection = match connection {
            Some(connection) => connection,
            None => Connection::open(&self.target).await.map_err(lost)?,
        };
        let head = connection.ask(request).await.map_err(lost)?;
        if !head.last {
            self.idle.borrow_mut().connections.push(connection);
        }
        match head.status {
            status if status == self.target.answer => Ok(()),
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

    /// Answers every second request and never answers the others, each on its own connection.
    async fn forgetful() -> Target {
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
        Target::bare(address)
    }

    #[tokio::test]
    async fn every_arrival_is_counted_once_and_a_silent_server_is_given_up() {
        let target = forgetful().await;
        let length = Duration::from_millis(500);
        let tally = arrive(&target, Workload::Read, 200.0, length).await.unwrap();
        let failed: u64 = tally.failures().values().sum();
        let all = tally.answered() + failed;
        assert!((98..=102).contains(&all), "{tally:?}");
        assert!(tally.failures().contains_key(&Failure::TooLate), "{tally:?}");
        assert!(tally.answered() > 0, "{tally:?}");
    }
}
