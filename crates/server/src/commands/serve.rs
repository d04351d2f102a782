//! `cenote serve`: runs the service until a signal stops it.
//!
//! Invariant: the first signal to end starts the drain, the second one ends the process at once.

use std::{process::ExitCode, time::Duration};

use tokio::sync::oneshot;

use super::{
    fail, fail_with,
    signals::{Ending, Signal, Signals},
    with_log,
};
use crate::{
    http::Drained,
    settings::{Loaded, Settings, Sources},
    spans::Spans,
    startup::{self, LoadedFrom, Stop},
    systemd::PassedSockets,
};

/// The exit code of a process that a signal ended, by the convention of shells: 128 + SIGINT.
const SECOND_SIGNAL: u8 = 130;

pub(super) fn run(loaded: Loaded, sources: Sources) -> ExitCode {
    let report = loaded.report.clone();
    let from = LoadedFrom { sources, report };
    // Before the log starts its thread.
    match PassedSockets::take() {
        Ok(sockets) => with_log(loaded, |settings, spans| serve(settings, from, sockets, spans)),
        Err(problem) => fail_with(&problem),
    }
}

async fn serve(settings: Settings, from: LoadedFrom, sockets: PassedSockets, spans: Spans) -> ExitCode {
    let mut signals = match Signals::listen() {
        Ok(signals) => signals,
        Err(error) => return fail("cannot receive signals", &error),
    };
    let delay = settings.shutdown_delay;
    let service = match Box::pin(startup::build_for_serve(settings, from, sockets, spans)).await {
        Ok(service) => service,
        Err(error) => return fail_with(&error),
    };
    let (ask, asked) = oneshot::channel();
    let stop = async {
        match asked.await {
            Ok(stop) => stop,
            // The sender is dropped only with `both_signals`.
            Err(_) => std::future::pending().await,
        }
    };
    let reloads = service.reloads();
    let both_signals = async {
        let first = loop {
            match signals.next().await {
                Signal::Reload => reloads.begin("SIGHUP"),
                Signal::End(first) => break first,
            }
        };
        let delay = match first {
            // A user at a terminal has no load balancer to wait for.
            Ending::Interrupt => Duration::ZERO,
            Ending::Terminate | Ending::Hangup => delay,
        };
        let reason = first.name();
        // Fails if the service is ending by itself already.
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
