//! The signals that end the service.
//!
//! Invariant: a signal that was ignored when the process was started stays ignored, as `nohup` wants it.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Why it is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// SIGTERM: the manager of the process asks for it.
    Terminate,
    /// SIGINT: someone at a terminal does.
    Interrupt,
    /// SIGHUP: the terminal was closed.
    Hangup,
}

impl Ending {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Terminate => "SIGTERM",
            Self::Interrupt => "SIGINT",
            Self::Hangup => "SIGHUP",
        }
    }
}

/// Where they arrive.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// None if it is ignored.
    hangup: Option<Signal>,
}

impl Signals {
    /// From now on none of them ends the process by itself.
    ///
    /// # Errors
    ///
    /// Those of the system.
    pub(super) fn listen() -> io::Result<Self> {
        let hangup = match ignores_hangup() {
            true => None,
            false => Some(signal(SignalKind::hangup())?),
        };
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup,
        })
    }

    /// Waits for the first. Cancel safe.
    pub(super) async fn first(&mut self) -> Ending {
        tokio::select! {
            _ = self.terminate.recv() => Ending::Terminate,
            _ = self.interrupt.recv() => Ending::Interrupt,
            () = next(&mut self.hangup) => Ending::Hangup,
        }
    }

    /// Waits for one more that means it: a terminal that closes sends its own more than once. Cancel safe.
    pub(super) async fn second(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

async fn next(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Whether the process was started with SIGHUP ignored.
#[cfg(target_os = "linux")]
fn ignores_hangup() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Its number is 1, so its bit the first.
    mask.is_some_and(|mask| mask & 1 == 1)
}

/// Whether the process was started with SIGHUP ignored: `nohup` leaves it no terminal to write to.
#[cfg(not(target_os = "linux"))]
fn ignores_hangup() -> bool {
    use std::io::IsTerminal;
    !io::stderr().is_terminal()
}
