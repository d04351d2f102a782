//! The log. Invariant: set up once, before anything that logs.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::{EnvFilter, fmt};

use crate::settings::{LogFormat, LogSettings};

/// Starts logging to standard error: for people on a terminal, as JSON otherwise.
pub(crate) fn init(settings: &LogSettings) {
    let filter = EnvFilter::new(&settings.filter);
    let log = fmt().with_env_filter(filter).with_writer(stderr);
    let pretty = match settings.format {
        LogFormat::Pretty => true,
        LogFormat::Json => false,
        LogFormat::Auto => stderr().is_terminal(),
    };
    // A second call finds the log set up; that is as good.
    let _already = match pretty {
        true => log
            .with_target(false)
            .with_ansi(stderr().is_terminal())
            .try_init(),
        false => log
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .try_init(),
    };
}
