//! A closed loop: each client sends a request, waits for the answer and sends the next one, on its own connection.
//!
//! Invariant: all connections are open before the window begins, and only answers that come within it count.

use std::{
    cell::RefCell,
    io,
    rc::Rc,
    thread,
    time::{Duration, Instant},
};

use fastrand::Rng;
use tokio::{
    runtime::Builder,
    sync::oneshot,
    task::{LocalSet, spawn_local},
    time::{sleep, sleep_until},
};

use super::{
    connection::Connection,
    outcome::Outcome,
    tally::{Failure, Tally},
    target::Target,
    workload::Workload,
};

/// Traffic before the window begins.
const WARM_UP: Duration = Duration::from_millis(500);
/// Pause before a lost connection is replaced.
const PAUSE: Duration = Duration::from_millis(10);

/// The time in which answers count.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    /// Its start.
    pub(super) begin: Instant,
    /// Its end.
    pub(super) end: Instant,
}

impl Window {
    /// A window of this length that begins after this time.
    #[must_use]
    pub(super) fn after(pause: Duration, length: Duration) -> Self {
        let begin = Instant::now() + pause;
        let end = begin + length;
        Self { begin, end }
    }

    /// Its length.
    #[must_use]
    pub(super) fn length(self) -> Duration {
        self.end - self.begin
    }

    pub(super) fn has(self, moment: Instant) -> bool {
        (self.begin..self.end).contains(&moment)
    }
}

/// Running clients.
#[derive(Debug)]
pub(super) struct Clients {
    /// When their answers count.
    pub(super) window: Window,
    tallies: Vec<oneshot::Receiver<io::Result<Tally>>>,
}

impl Clients {
    /// Opens `count` connections and starts a client on each.
    ///
    /// # Errors
    ///
    /// A connection is refused.
    pub(super) async fn start(target: &Target, workload: Workload, count: usize, length: Duration) -> Outcome<Self> {
        let mut waiting = Vec::new();
        for share in shares(count) {
            let target = target.clone();
            let (ready, is_ready) = oneshot::channel();
            let (start, started) = oneshot::channel();
            let (result, tally) = oneshot::channel();
            thread::Builder::new().name("clients".to_owned()).spawn(move || {
                let clients = on_a_thread(async {
                    let mut connections = Vec::with_capacity(share);
                    while connections.len() < share {
                        connections.push(Connection::open(&target).await?);
                    }
                    // The receiver is gone if another thread could not connect.
                    let _ = ready.send(());
                    let Ok(window) = started.await else {
                        return Ok(Tally::default());
                    };
                    Ok(drive(&target, workload, connections, window).await)
                });
                let _ = result.send(clients);
            })?;
            waiting.push((is_ready, start, tally));
        }
        let (mut starts, mut tallies) = (Vec::new(), Vec::new());
        for (is_ready, start, tally) in waiting {
            if is_ready.await.is_err() {
                tally.await??;
                return Err("the clients could not start".into());
            }
            starts.push(start);
            tallies.push(tally);
        }
        let window = Window::after(WARM_UP, length);
        for start in starts {
            // If a thread has ended, `finish` reports it.
            let _ = start.send(window);
        }
        Ok(Self { window, tallies })
    }

    /// Waits for the end of the window and returns the outcomes of all clients in it.
    ///
    /// # Errors
    ///
    /// A thread of clients has failed.
    pub(super) async fn finish(self) -> Outcome<Tally> {
        let mut all = Tally::default();
        for tally in self.tallies {
            all.merge(&tally.await??);
        }
        Ok(all)
    }
}

/// Runs a future that may spawn local tasks, on a runtime of this thread.
pub(super) fn on_a_thread<T>(future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, future)
}

/// The number of clients of each thread: one thread per core, or one per client if there are fewer clients.
pub(super) fn shares(count: usize) -> Vec<usize> {
    let threads = thread::available_parallelism().map_or(1, usize::from);
    let threads = threads.min(count).max(1);
    (0..threads)
        .map(|thread| count / threads + usize::from(thread < count % threads))
        .collect()
}

/// Runs the clients until the window ends. Requests that are in flight then are dropped.
async fn drive(target: &Target, workload: Workload, connections: Vec<Connection>, window: Window) -> Tally {
    let tally = Rc::new(RefCell::new(Tally::default()));
    for connection in connections {
        spawn_local(client(target.clone(), workload, connection, window, tally.clone()));
    }
    sleep_until(window.end.into()).await;
    tally.take()
}

async fn client(target: Target, workload: Workload, connection: Connection, window: Window, tally: Rc<RefCell<Tally>>) {
    let mut random = Rng::new();
    let mut request = Vec::with_capacity(256);
    let mut connection = Some(connection);
    loop {
        request.clear();
        workload.write_request(&mut random, &mut request);
        let asked = Instant::now();
        let outcome = ask(&target, &mut connection, &request).await;
        let answered = Instant::now();
        if window.has(answered) {
            match outcome {
                Ok(()) => tally.borrow_mut().good(answered - asked),
                Err(failure) => tally.borrow_mut().failed(failure),
            }
        }
        if connection.is_none() && outcome.is_err() {
            sleep(PAUSE).await;
        }
    }
}

/// Sends one request, on a new connection if there is none.
async fn ask(target: &Target, connection: &mut Option<Connection>, request: &[u8]) -> Result<(), Failure> {
    let mut current = match connection.take() {
        Some(current) => current,
        None => Connection::open(target).await.map_err(lost)?,
    };
    let head = current.ask(request).await.map_err(lost)?;
    if !head.last {
        *connection = Some(current);
    }
    match head.status {
        status if status == target.answer => Ok(()),
        status => Err(Failure::Status(status)),
    }
}

pub(super) fn lost(error: io::Error) -> Failure {
    Failure::Io(error.kind())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_shared_out_to_the_last_one() {
        for count in [1, 2, 7, 64, 513] {
            let shares = shares(count);
            assert_eq!(shares.iter().sum::<usize>(), count);
            assert!(shares.iter().all(|&share| share > 0));
        }
    }
}
