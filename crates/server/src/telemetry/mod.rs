//! Sets up the log.
//!
//! Invariant: a task that logs neither waits for the reader of standard error nor fails if there is none. The filter may
//! change later. A line that is written while a request is served names the request.

mod filter;
mod request_fields;

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    env,
    ffi::OsString,
    io::{IsTerminal, stderr},
    panic::PanicHookInfo,
    sync::{OnceLock, PoisonError, RwLock},
};

use cenote_trace::SPANS;
use tracing_subscriber::{
    EnvFilter, Layer, Registry, fmt, layer::SubscriberExt, registry, reload, util::SubscriberInitExt,
};

pub(crate) use self::filter::parse_filter;
use self::request_fields::{JsonWithRequest, TextWithRequest};
use crate::{
    http::panic_text,
    output::{self, Stderr},
    spans::Spans,
};

/// Directives that LOG may override. Without this one, h2 would warn of every malformed frame of a peer.
const DEFAULTS: &str = "h2=error";

/// The filter in force.
struct ActiveFilter {
    text: RwLock<String>,
    handle: reload::Handle<EnvFilter, Registry>,
}

static ACTIVE: OnceLock<ActiveFilter> = OnceLock::new();

/// Starts logging to standard error: for people on a terminal, as JSON otherwise.
///
/// Spans go to `spans`. `filter` is what [`parse_filter`] returns. Without `is_pretty` the form depends on whether standard error is a terminal.
pub(crate) fn init(filter: &str, is_pretty: Option<bool>, spans: &Spans) {
    let (lines_filter, handle) = reload::Layer::new(with_defaults(filter));
    let _first = ACTIVE.get_or_init(|| ActiveFilter {
        text: RwLock::new(filter.to_owned()),
        handle,
    });
    let lines = lines(is_pretty.unwrap_or_else(|| stderr().is_terminal()));
    // Fails on a second call; the log of the first one stays.
    let log = registry().with(lines.with_filter(lines_filter)).with(spans.layer());
    let _already = log.try_init();
    output::write_errors_in_background(|dropped| {
        tracing::warn!(dropped, "lines of the log were dropped: standard error was blocked")
    });
    // The default hook writes to standard error directly and would wait for its reader.
    std::panic::set_hook(Box::new(log_panic));
}

/// Writes events to standard error as lines.
fn lines(is_pretty: bool) -> Box<dyn Layer<Registry> + Send + Sync> {
    let lines = fmt::layer().log_internal_errors(false).with_writer(|| Stderr);
    match is_pretty {
        true => lines
            .with_target(false)
            .with_ansi(is_colored(stderr().is_terminal(), env::var_os("NO_COLOR")))
            .fmt_fields(TextWithRequest::default())
            .boxed(),
        false => lines
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_span_list(false)
            .map_event_format(JsonWithRequest)
            .boxed(),
    }
}

fn with_defaults(filter: &str) -> EnvFilter {
    // Spans are exported, not logged.
    EnvFilter::new(format!("{DEFAULTS},{filter},{SPANS}=off"))
}

/// The filter in force; empty before [`init`].
pub(crate) fn filter() -> String {
    let active = ACTIVE.get();
    active.map_or_else(String::new, |active| {
        active.text.read().unwrap_or_else(PoisonError::into_inner).clone()
    })
}

/// Changes the filter, from the next line on.
///
/// # Errors
///
/// What is wrong with it, as a continuation of a sentence that starts with the filter. Nothing changes then.
pub(crate) fn set_filter(text: &str) -> Result<(), String> {
    let text = parse_filter(text)?;
    let active = ACTIVE.get().ok_or("cannot be used: there is no log yet")?;
    let changed = active.handle.reload(with_defaults(&text));
    changed.map_err(|error| format!("cannot be used: {error}"))?;
    *active.text.write().unwrap_or_else(PoisonError::into_inner) = text;
    Ok(())
}

fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    let backtrace = Backtrace::capture();
    let backtrace = (backtrace.status() == BacktraceStatus::Captured).then(|| backtrace.to_string());
    tracing::error!(place, backtrace, "panicked: {}", panic_text(panic.payload()));
}

/// Whether to use colors: on terminals, unless NO_COLOR is set (<https://no-color.org>).
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
        for part in ["ERROR", "at the disco", "telemetry/mod.rs:"] {
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
