//! The PROXY protocol, versions 1 and 2: a header before the connection's other bytes, in which a proxy names its client
//! (<https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt>).
//!
//! Invariant: no byte after the header is taken from the socket, and a header takes at most [`LONGEST`] bytes. Whether the
//! proxy may be believed is the caller's question.

use std::future::poll_fn;
use std::io;
use std::net::IpAddr;

use ppp::{v1, v2};
use tokio::io::{AsyncReadExt, ReadBuf};

use super::socket::Socket;

/// Longest header that is read. Version 2 allows 64 KiB; its fixed part and all additions in use take less than a tenth of
/// this.
const LONGEST: usize = 4096;

/// Longest header of version 1, with its end of line.
const LONGEST_LINE: usize = 107;

/// The bytes of version 2 before its addresses.
const FIXED_PART: usize = 16;

/// How many bytes are looked at in one step.
const STEP: usize = 256;

/// The bytes are not a header, or one that is too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the connection does not begin with a PROXY protocol header")]
pub struct NoHeader;

/// Who is at the other end, as a proxy says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// This client.
    Client(IpAddr),
    /// The proxy itself, for example with a health check; or a client without an IP address.
    Proxy,
}

/// Reads the header from a connection. It has no bound in time; the caller ends it.
///
/// # Errors
///
/// The peer went away, or sent something else.
pub(super) async fn read_header(socket: &mut Socket) -> io::Result<Source> {
    let no_header = |error: NoHeader| io::Error::new(io::ErrorKind::InvalidData, error);
    let mut header = Vec::with_capacity(STEP);
    loop {
        let mut step = [0; STEP];
        let peeked = poll_fn(|cx| socket.tcp().poll_peek(cx, &mut ReadBuf::new(&mut step))).await?;
        if peeked == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let before = header.len();
        header.extend_from_slice(&step[..peeked]);
        let length = header_length(&header).map_err(no_header)?;
        let taken = length.unwrap_or(header.len()).min(header.len());
        header.truncate(taken);
        // They are there already, so this does not wait.
        socket.read_exact(&mut step[..taken - before]).await?;
        if length == Some(taken) {
            return parse_header(&header).map_err(no_header);
        }
    }
}

/// Returns the length of the header that these bytes begin with; `None` if more bytes are needed to tell.
///
/// # Errors
///
/// They do not begin a header, or a longer one than is read.
pub fn header_length(bytes: &[u8]) -> Result<Option<usize>, NoHeader> {
    if begins(v2::PROTOCOL_PREFIX, bytes) {
        let Some(fixed) = bytes.first_chunk::<FIXED_PART>() else {
            return Ok(None);
        };
        let length = FIXED_PART + usize::from(u16::from_be_bytes([fixed[14], fixed[15]]));
        return if length > LONGEST {
            Err(NoHeader)
        } else {
            Ok(Some(length))
        };
    }
    if begins(b"PROXY ", bytes) {
        let line = &bytes[..bytes.len().min(LONGEST_LINE)];
        return match line.iter().position(|byte| *byte == b'\n') {
            Some(end) => Ok(Some(end + 1)),
            None if line.len() == LONGEST_LINE => Err(NoHeader),
            None => Ok(None),
        };
    }
    Err(NoHeader)
}

/// Whether one of them begins with the other.
fn begins(signature: &[u8], bytes: &[u8]) -> bool {
    signature.iter().zip(bytes).all(|(expected, found)| expected == found)
}

/// Reads a whole header.
///
/// # Errors
///
/// It breaks a rule of the protocol.
pub fn parse_header(header: &[u8]) -> Result<Source, NoHeader> {
    let address: IpAddr = match header.starts_with(v2::PROTOCOL_PREFIX) {
        true => {
            let header = v2::Header::try_from(header).map_err(|_| NoHeader)?;
            match header.addresses {
                _ if header.command == v2::Command::Local => return Ok(Source::Proxy),
                v2::Addresses::IPv4(addresses) => addresses.source_address.into(),
                v2::Addresses::IPv6(addresses) => addresses.source_address.into(),
                v2::Addresses::Unix(_) | v2::Addresses::Unspecified => return Ok(Source::Proxy),
            }
        }
        false => match v1::Header::try_from(header).map_err(|_| NoHeader)?.addresses {
            v1::Addresses::Tcp4(addresses) => addresses.source_address.into(),
            v1::Addresses::Tcp6(addresses) => addresses.source_address.into(),
            v1::Addresses::Unknown => return Ok(Source::Proxy),
        },
    };
    Ok(Source::Client(address.to_canonical()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A header of version 2 for a client at 192.0.2.7, with this many bytes of additions.
    fn binary(command: u8, additions: u16) -> Vec<u8> {
        let mut header = v2::PROTOCOL_PREFIX.to_vec();
        header.extend([command, 0x11]);
        header.extend((12 + additions).to_be_bytes());
        header.extend([192, 0, 2, 7, 198, 51, 100, 1, 0x1f, 0x90, 0x01, 0xbb]);
        header.resize(header.len() + usize::from(additions), 0);
        header
    }

    fn client(text: &str) -> Result<Source, NoHeader> {
        Ok(Source::Client(text.parse().unwrap()))
    }

    /// Reads a header as a connection does, whatever follows it.
    fn read(bytes: &[u8]) -> Result<Source, NoHeader> {
        match header_length(bytes)? {
            Some(length) if length <= bytes.len() => parse_header(&bytes[..length]),
            _ => Err(NoHeader),
        }
    }

    #[test]
    fn both_versions_name_the_client() {
        for (header, source) in [
            (
                &b"PROXY TCP4 192.0.2.7 198.51.100.1 8080 443\r\n"[..],
                client("192.0.2.7"),
            ),
            (b"PROXY TCP6 2001:db8::7 ::1 8080 443\r\nGET / ", client("2001:db8::7")),
            (b"PROXY TCP6 ::ffff:192.0.2.7 ::1 8080 443\r\n", client("192.0.2.7")),
            (b"PROXY UNKNOWN\r\n", Ok(Source::Proxy)),
            (b"PROXY UNKNOWN what ever it is\r\nGET / ", Ok(Source::Proxy)),
            (&binary(0x21, 0), client("192.0.2.7")),
            (&binary(0x21, 1000), client("192.0.2.7")),
            (&binary(0x20, 0), Ok(Source::Proxy)),
        ] {
            assert_eq!(read(header), source, "{}", header.escape_ascii());
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for bytes in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"\x16\x03\x01",
            b"PROXY\n",
            b"PROXY TCP4 192.0.2.7\r\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 8080 443\n",
            b"PROXY TCP4 192.0.2.256 198.51.100.1 8080 443\r\n",
            b"PROXY TCP4 192.0.2.7 198.51.100.1 8080 65536\r\n",
            b"PROXY TCP5 192.0.2.7 198.51.100.1 8080 443\r\n",
            &[b"PROXY UNKNOWN ".as_slice(), &[b'x'; 200]].concat(),
            &binary(0x21, 5000),
            &binary(0x31, 0),
            &binary(0x22, 0),
        ] {
            assert_eq!(read(bytes), Err(NoHeader), "{}", bytes.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes: Vec<u8>, text in "PROXY [A-Z0-9 .:\r\n]{0,120}", at: prop::sample::Index, byte: u8) {
            let _ = (read(&bytes), read(text.as_bytes()));
            let mut header = binary(0x21, 20);
            let at = at.index(header.len());
            header[at] = byte;
            let _ = read(&header);
        }

        #[test]
        fn a_header_is_recognized_however_it_is_split(additions in 0..300_u16, line: bool, rest: Vec<u8>) {
            let header = match line {
                true => b"PROXY TCP4 192.0.2.7 198.51.100.1 8080 443\r\n".to_vec(),
                false => binary(0x21, additions),
            };
            let all = [header.as_slice(), &rest].concat();
            for end in 1..=all.len() {
                match header_length(&all[..end]).unwrap() {
                    Some(length) => prop_assert_eq!(length, header.len()),
                    None => prop_assert!(end < header.len()),
                }
            }
        }
    }
}
