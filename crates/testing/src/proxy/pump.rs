//! Moves bytes one way. Invariant: they arrive in their order, none before its time, and the end comes last.

use std::{collections::VecDeque, future::pending, io, sync::atomic::Ordering};

use tokio::{
    net::TcpStream,
    select,
    time::{Instant, sleep_until},
};

use super::faults::{Direction, Shared};

/// The most that one read takes.
const CHUNK: usize = 16 << 10;
/// How much may be on the way, in chunks.
const ON_THE_WAY: usize = 256;

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// As TCP provides for.
    Finished,
    /// To be passed on as a reset.
    Reset,
    /// The server's side is gone, and the client is not told.
    Orphaned,
}

enum Item {
    Bytes(Vec<u8>),
    End(End),
}

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

/// Waits until it is time and there is room for the next item.
async fn ready(to: &TcpStream, due: Option<Instant>) {
    match due {
        Some(due) => {
            sleep_until(due).await;
            let _ = to.writable().await; // an error shows at the write
        }
        None => pending().await,
    }
}

/// Writes as much of the first item as there is room for, and says how many bytes that was, or that it was the end.
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
            // Nobody is there. What that means is read from the same socket, the other way.
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

/// Reads what has come, if anything has.
fn take(from: &TcpStream, chunk: &mut [u8], direction: Direction, shared: &Shared) -> Option<Item> {
    match from.try_read(chunk) {
        Ok(0) => Some(Item::End(End::Finished)),
        Ok(read) => {
            let bytes = &mut chunk[..read];
            if shared.faults.borrow().corrupt[direction as usize].is_some() {
                shared.faults.send_if_modified(|faults| {
                    faults.corrupt(direction, bytes);
                    false // nobody waits for this
                });
            }
            Some(Item::Bytes(bytes.to_vec()))
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(_) => Some(Item::End(End::Reset)),
    }
}
