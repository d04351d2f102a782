//! Forwards the bytes of one direction. Invariant: they arrive in order, not before their delay, and the end comes
//! last.

use std::{collections::VecDeque, future::pending, io, sync::atomic::Ordering};

use tokio::{
    net::TcpStream,
    select,
    time::{Instant, sleep_until},
};

use super::faults::{Direction, Shared};

/// The most bytes of one read.
const CHUNK: usize = 16 << 10;
/// The most chunks that are read but not forwarded.
const ON_THE_WAY: usize = 256;

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// With FIN.
    Finished,
    /// With a reset, which is forwarded.
    Reset,
    /// The server's side is closed, and the client does not notice.
    Orphaned,
}

enum Item {
    Bytes(Vec<u8>),
    End(End),
}

#[allow(
    clippy::significant_drop_tightening,
    reason = "a fault that begins waits until the bytes of this step are delivered"
)]
pub(super) async fn pump(from: &TcpStream, to: &TcpStream, direction: Direction, shared: &Shared) -> End {
    let way = direction as usize;
    let mut faults = shared.faults.subscribe();
    let mut on_the_way: VecDeque<(Instant, Item)> = VecDeque::new();
    let mut chunk = vec![0; CHUNK];
    let mut reading = true;
    loop {
        let (held, delay) = {
            let faults = faults.borrow_and_update();
            (faults.hold[way], faults.delay[way])
        };
        let room = on_the_way.len() < ON_THE_WAY;
        let due = on_the_way.front().and_then(|(read, _)| read.checked_add(delay));
        select! {
            biased;
            _ = faults.changed() => {}
            () = ready(to, due), if !held => {
                let faults = faults.borrow();
                if faults.hold[way] {
                    continue;
                }
                match deliver(&mut on_the_way, to) {
                    Ok(bytes) => {
                        shared.passed[way].fetch_add(bytes as u64, Ordering::Relaxed);
                    }
                    Err(end) => return end,
                }
            }
            _ = from.readable(), if !held && reading && room => {
                if let Some(item) = take(from, &mut chunk, direction, shared) {
                    reading = matches!(item, Item::Bytes(_));
                    on_the_way.push_back((Instant::now(), item));
                }
            }
        }
    }
}

/// Waits until the next item is due and the socket is writable.
async fn ready(to: &TcpStream, due: Option<Instant>) {
    match due {
        Some(due) => {
            sleep_until(due).await;
            let _ = to.writable().await; // the write reports an error
        }
        None => pending().await,
    }
}

/// Writes as much of the first item as the socket takes. Returns the number of bytes, or the end as an error.
fn deliver(on_the_way: &mut VecDeque<(Instant, Item)>, to: &TcpStream) -> Result<usize, End> {
    match on_the_way.front_mut() {
        Some((_, Item::Bytes(bytes))) => match to.try_write(bytes) {
            Ok(written) => {
                bytes.drain(..written);
                if bytes.is_empty() {
                    on_the_way.pop_front();
                }
                Ok(written)
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            // The receiver is gone. The pump of the other direction reads from the same socket how it ended.
            Err(_) => Err(End::Finished),
        },
        Some((_, Item::End(end))) => {
            if *end == End::Finished {
                let _ = rustix::net::shutdown(to, rustix::net::Shutdown::Write);
            }
            Err(*end)
        }
        None => Ok(0),
    }
}

/// Reads what has arrived, if anything.
fn take(from: &TcpStream, chunk: &mut [u8], direction: Direction, shared: &Shared) -> Option<Item> {
    match from.try_read(chunk) {
        Ok(0) => Some(Item::End(End::Finished)),
        Ok(read) => {
            let bytes = &mut chunk[..read];
            if shared.faults.borrow().corrupt[direction as usize].is_some() {
                shared.faults.send_if_modified(|faults| {
                    faults.corrupt(direction, bytes);
                    false // no task waits for this change
                });
            }
            Some(Item::Bytes(bytes.to_vec()))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(_) => Some(Item::End(End::Reset)),
    }
}
