//! The log. Invariant: set up once, before anything that logs; no task that logs waits for the reader, or
//! fails because nobody does.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    env,
    ffi::OsString,
    io::{IsTerminal, stderr},
    panic::PanicHookInfo,
};

use tracing_subscriber::{EnvFilter, fmt};

use crate::{
    http::panic_text,
    output::{self, Stderr},
    settings::{LogFormat, LogSettings},
};

/// What applies where LOG says nothing else of the same target: h2 warns of what its peer sends, frame by frame.
const DEFAULTS: &str = "h2=error";

/// Starts logging to standard error: for people on a terminal, as JSON otherwise.
pub(crate) fn init(settings: &LogSettings) {
    let filter = EnvFilter::new(format!("{DEFAULTS},{}", settings.filter));
    let log = fmt()
        .with_env_filter(filter)
        .log_internal_errors(false)
        .with_writer(|| Stderr);
    let pretty = match settings.format {
        LogFormat::Pretty => true,
        LogFormat::Json => false,
        LogFormat::Auto => stderr().is_terminal(),
    };
    // A second call finds the log set up; that is as good.
    let _already = match pretty {
        true => log
            .with_target(false)
            .with_ansi(is_colored(stderr().is_terminal(), env::var_os("NO_COLOR")))
            .try_init(),
        false => log.json().flatten_event(true).with_current_span(false).try_init(),
    };
    output::write_errors_in_background(|dropped| {
        tracing::warn!(dropped, "lines of the log were dropped: standard error took no more")
    });
    // The standard one waits for the reader of standard error.
    std::panic::set_hook(Box::new(log_panic));
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(place, backtrace, "panicked: {}", panic_text(panic.payload()));
}

/// Colors are for terminals, unless <https://no-color.org> says no.
fn is_colored(is_terminal: bool, no_color: Option<OsString>) -> bool {
    is_terminal && no_color.is_none_or(|text| text.is_empty())
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write,
        panic::{catch_unwind, set_hook, take_hook},
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_panic_is_a_line_of_the_log_like_any_other() {
        let lines = Lines::default();
        let writer = lines.clone();
        let log = fmt().json().with_writer(move || writer.clone()).finish();
        let panicked = tracing::subscriber::with_default(log, || {
            set_hook(Box::new(log_panic));
            catch_unwind(|| panic!("at the disco"))
        });
        drop(take_hook());
        panicked.unwrap_err();
        let lines = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
        assert_eq!(lines.lines().count(), 1, "{lines}");
        for part in ["ERROR", "at the disco", "telemetry.rs:"] {
            assert!(lines.contains(part), "{part} in {lines}");
        }
    }

    #[test]
    fn colors_are_for_terminals_where_no_color_is_not_set() {
        assert!(is_colored(true, None));
        assert!(is_colored(true, Some("".into())));
        assert!(!is_colored(true, Some("1".into())));
        assert!(!is_colored(true, Some("0".into())));
        assert!(!is_colored(false, None));
    }
}
