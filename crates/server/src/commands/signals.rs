//! The signals that end the service, or make it reload its settings.
//!
//! Invariant: if SIGHUP was ignored when the process started, it stays ignored. `nohup` depends on that.

use std::io::{self, IsTerminal};

use tokio::signal::unix::{self, SignalKind, signal};

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    /// Read the settings again.
    Reload,
    /// End the service.
    End(Ending),
}

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
    terminate: unix::Signal,
    interrupt: unix::Signal,
    /// `None` if the signal is ignored.
    hangup: Option<unix::Signal>,
    /// What SIGHUP asks for.
    on_hangup: Signal,
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
            // Asked now: once a terminal is closed, it no longer answers that it is one.
            on_hangup: match has_terminal() {
                true => Signal::End(Ending::Hangup),
                false => Signal::Reload,
            },
        })
    }

    /// Waits for the next signal. Cancel safe.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.terminate.recv() => Signal::End(Ending::Terminate),
            _ = self.interrupt.recv() => Signal::End(Ending::Interrupt),
            () = next(&mut self.hangup) => self.on_hangup,
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

async fn next(signal: &mut Option<unix::Signal>) {
    match signal {
        Some(signal) => {
            signal.recv().await;
        }
        None => std::future::pending().await,
    }
}

/// Whether a standard stream is a terminal, so that SIGHUP means that it was closed.
fn has_terminal() -> bool {
    io::stdin().is_terminal() || io::stdout().is_terminal() || io::stderr().is_terminal()
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

/// Other systems do not tell. `nohup` leaves no terminal, so that its SIGHUP is a reload, which does no harm.
#[cfg(not(target_os = "linux"))]
fn ignores_hangup() -> bool {
    false
}
