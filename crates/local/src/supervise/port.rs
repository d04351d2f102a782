//! Free ports and random passwords. Invariant: a port lies below the range of ephemeral ports. Otherwise a client that
//! connects repeatedly while its server is down could get the server's port as its source port and connect to itself;
//! then the server could not start again.

use std::{collections::hash_map::RandomState, fs::File, hash::BuildHasher, io::Read, net::TcpListener};

use crate::error::{Doing, Result};

const LOWEST: u16 = 15_000;
const COUNT: u16 = 15_000; // up to 29,999; Linux hands out from 32,768, macOS from 49,152

/// A TCP port of 127.0.0.1 that was free a moment ago.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) if no port at all can be bound.
pub fn free() -> Result<u16> {
    for attempt in 0..100_u8 {
        let random = RandomState::new().hash_one(attempt);
        let port = LOWEST + (random % u64::from(COUNT)) as u16;
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return Ok(port);
        }
    }
    let any = TcpListener::bind(("127.0.0.1", 0)).and_then(|listener| listener.local_addr());
    any.map(|address| address.port())
        .doing(|| "looking for a free port on 127.0.0.1".into())
}

/// 128 random bits in hexadecimal, which need no quotes in a URL, a shell or a configuration file.
///
/// # Errors
/// [`Error::Io`](crate::Error::Io) if `/dev/urandom` cannot be read.
pub fn password() -> Result<String> {
    let mut bytes = [0_u8; 16];
    let read = File::open("/dev/urandom").and_then(|mut source| source.read_exact(&mut bytes));
    read.doing(|| "reading /dev/urandom".into())?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_free_port_can_be_bound_and_is_no_ephemeral_one() {
        let port = free().unwrap();
        assert!((LOWEST..LOWEST + COUNT).contains(&port));
        // A program that another test is just starting may hold a copy of the socket until it runs.
        let bound = (0..100).any(|_| {
            let bound = TcpListener::bind(("127.0.0.1", port)).is_ok();
            if !bound {
                std::thread::park_timeout(std::time::Duration::from_millis(10));
            }
            bound
        });
        assert!(bound);
    }

    #[test]
    fn passwords_differ_and_need_no_quoting() {
        let (one, two) = (password().unwrap(), password().unwrap());
        assert_ne!(one, two);
        assert!(one.len() == 32 && one.chars().all(|c| c.is_ascii_hexdigit()));
    }
}
