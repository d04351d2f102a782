//! `cenote serve`: runs the service until a signal stops it.
//!
//! Invariant: the first signal drains, the second one ends the command at once.

use std::{process::ExitCode, time::Duration};

use tokio::sync::oneshot;

use super::{
    fail, fail_with,
    signals::{Ending, Signals},
    with_log,
};
use crate::{
    http::Drained,
    settings::{Loaded, Settings},
    startup::{self, Stop},
    systemd::PassedSockets,
};

/// As a shell reports the end by a signal: 128 + SIGINT.
const SECOND_SIGNAL: u8 = 130;

pub(super) fn run(loaded: Loaded) -> ExitCode {
    // Before the log starts its thread.
    match PassedSockets::take() {
        Ok(sockets) => with_log(loaded, |settings| serve(settings, sockets)),
        Err(problem) => fail_with(&problem),
    }
}

async fn serve(settings: Settings, sockets: PassedSockets) -> ExitCode {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return fail("cannot receive signals", &error),
    };
    let delay = settings.shutdown_delay;
    let service = match Box::pin(startup::build_on(settings, sockets)).await {
        Ok(service) => service,
        Err(error) => return fail_with(&error),
    };
    let (ask, asked) = oneshot::channel();
    let stop = async {
        match asked.await {
            Ok(stop) => stop,
            // The sender lives until the second signal.
            Err(_) => std::future::pending().await,
        }
    };
    let both_signals = async {
        let first = signals.first().await;
        let delay = match first {
            // Someone at a terminal does not want to wait for a load balancer.
            Ending::Interrupt => Duration::ZERO,
            Ending::Terminate | Ending::Hangup => delay,
        };
        let reason = first.name();
        // The service may be ending by itself.
        let _ = ask.send(Stop { reason, delay });
        signals.second().await;
    };
    tokio::select! {
        ended = service.run(stop) => match ended {
            Ok(Drained { finished, cut }) => {
                tracing::info!(finished, cut, "stopped");
                ExitCode::SUCCESS
            }
            Err(error) => fail_with(&error),
        },
        () = both_signals => ExitCode::from(SECOND_SIGNAL),
    }
}
