//! Sockets that systemd listens on for the service (socket activation, `LISTEN_FDS`).
//!
//! Invariant: every socket is one that listens for TCP connections, and no child process inherits it.

use std::io;
use std::net::TcpListener;

use listenfd::ListenFd;

/// The sockets that were passed; usually none.
#[derive(Debug, Default)]
pub(crate) struct PassedSockets(Vec<TcpListener>);

/// A file that was passed is no socket to accept connections on.
#[derive(Debug, thiserror::Error)]
#[error("file {number} of LISTEN_FDS cannot be used: {problem}. Its unit needs ListenStream= with a port")]
pub(crate) struct SocketProblem {
    /// Counted from 1.
    number: usize,
    problem: io::Error,
}

impl PassedSockets {
    /// Takes the sockets, once.
    ///
    /// It removes the variables from the environment, so call it before the first thread is started.
    pub(crate) fn take() -> Result<Self, SocketProblem> {
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..passed.len() {
            let problem = |problem| SocketProblem {
                number: index + 1,
                problem,
            };
            if let Some(socket) = passed.take_tcp_listener(index).map_err(problem)? {
                check(&socket).map_err(problem)?;
                sockets.push(socket);
            }
        }
        Ok(Self(sockets))
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Registers the sockets with the runtime that will accept.
    pub(crate) fn into_listeners(self) -> io::Result<Vec<tokio::net::TcpListener>> {
        let listener = |socket: TcpListener| {
            socket.set_nonblocking(true)?;
            tokio::net::TcpListener::from_std(socket)
        };
        self.0.into_iter().map(listener).collect()
    }
}

#[cfg(target_os = "linux")]
fn check(socket: &TcpListener) -> io::Result<()> {
    match socket2::SockRef::from(socket).is_listener()? {
        true => Ok(()),
        false => Err(io::Error::other("it does not listen")),
    }
}

/// Other systems have no systemd, and cannot tell whether a socket listens.
#[cfg(not(target_os = "linux"))]
fn check(_socket: &TcpListener) -> io::Result<()> {
    Ok(())
}
