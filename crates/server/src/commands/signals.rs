//! The signals that end the service.
//!
//! Invariant: if SIGHUP was ignored when the process started, it stays ignored. `nohup` depends on that.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// The signal that ends the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// SIGTERM, from a service manager.
    Terminate,
    /// SIGINT, from a user at a terminal.
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

/// Receives the signals.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// `None` if the signal is ignored.
    hangup: Option<Signal>,
}

impl Signals {
    /// Installs the handlers. From then on none of the signals ends the process by itself.
    ///
    /// # Errors
    ///
    /// The system refuses a handler.
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

    /// Waits for the first signal. Cancel safe.
    pub(super) async fn first(&mut self) -> Ending {
        tokio::select! {
            _ = self.terminate.recv() => Ending::Terminate,
            _ = self.interrupt.recv() => Ending::Interrupt,
            () = next(&mut self.hangup) => Ending::Hangup,
        }
    }

    /// Waits for a second SIGTERM or SIGINT. SIGHUP does not count, because a closing terminal may send it twice. Cancel
    /// safe.
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
    // Signal 1 is the lowest bit.
    mask.is_some_and(|mask| mask & 1 == 1)
}

/// Whether the process was started with SIGHUP ignored: `nohup` leaves it no terminal to write to.
#[cfg(not(target_os = "linux"))]
fn ignores_hangup() -> bool {
    use std::io::IsTerminal;
    !io::stderr().is_terminal()
}
