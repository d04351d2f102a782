//! Sets up the log.
//!
//! Invariant: a task that logs neither waits for the reader of standard error nor fails if there is none. The filter may
//! change later.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    env,
    ffi::OsString,
    io::{IsTerminal, stderr},
    panic::PanicHookInfo,
    sync::{OnceLock, PoisonError, RwLock},
};

use tracing_subscriber::{EnvFilter, fmt, reload};

use crate::{
    http::panic_text,
    output::{self, Stderr},
};

/// Directives that LOG may override. Without this one, h2 would warn of every malformed frame of a peer.
const DEFAULTS: &str = "h2=error";

/// The filter in force.
struct ActiveFilter {
    text: RwLock<String>,
    set: Box<dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync>,
}

static ACTIVE: OnceLock<ActiveFilter> = OnceLock::new();

/// Starts logging to standard error: for people on a terminal, as JSON otherwise.
///
/// `filter` is what [`parse_filter`] returns. Without `is_pretty` the form depends on whether standard error is a terminal.
pub(crate) fn init(filter: &str, is_pretty: Option<bool>) {
    let log = fmt()
        .with_env_filter(with_defaults(filter))
        .log_internal_errors(false)
        .with_writer(|| Stderr);
    let pretty = is_pretty.unwrap_or_else(|| stderr().is_terminal());
    // Fails on a second call; the log of the first one stays.
    match pretty {
        true => {
            let log = log
                .with_target(false)
                .with_ansi(is_colored(stderr().is_terminal(), env::var_os("NO_COLOR")))
                .with_filter_reloading();
            let handle = log.reload_handle();
            remember(filter, move |filter| handle.reload(filter));
            let _already = log.try_init();
        }
        false => {
            let log = log
                .json()
                .flatten_event(true)
                .with_current_span(false)
                .with_filter_reloading();
            let handle = log.reload_handle();
            remember(filter, move |filter| handle.reload(filter));
            let _already = log.try_init();
        }
    }
    output::write_errors_in_background(|dropped| {
        tracing::warn!(dropped, "lines of the log were dropped: standard error was blocked")
    });
    // The default hook writes to standard error directly and would wait for its reader.
    std::panic::set_hook(Box::new(log_panic));
}

fn with_defaults(filter: &str) -> EnvFilter {
    EnvFilter::new(format!("{DEFAULTS},{filter}"))
}

fn remember(filter: &str, set: impl Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync + 'static) {
    let _first = ACTIVE.get_or_init(|| ActiveFilter {
        text: RwLock::new(filter.to_owned()),
        set: Box::new(set),
    });
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
    (active.set)(with_defaults(&text)).map_err(|error| format!("cannot be used: {error}"))?;
    *active.text.write().unwrap_or_else(PoisonError::into_inner) = text;
    Ok(())
}

/// Checks the directives of a filter, and returns them without blanks. A complaint continues a sentence that starts with
/// the text.
pub(crate) fn parse_filter(text: &str) -> Result<String, String> {
    // tracing-subscriber 0.3.23 panics on such a text: it splits it inside a character.
    if !text.is_ascii() {
        return Err("holds a character that is not ASCII".into());
    }
    let directives: Vec<_> = text.split(',').map(str::trim).collect();
    directives.iter().try_for_each(|it| check_directive(it))?;
    let text = directives.join(",");
    match EnvFilter::builder().parse(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err("is not a filter such as info or info,cenote=debug".into()),
    }
}

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// Refuses a misspelt level. tracing would take it for a module, log everything of that module, and nothing else.
fn check_directive(directive: &str) -> Result<(), String> {
    let is_level = |word: &str| {
        matches!(word.as_bytes(), [b'0'..=b'5']) || LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
    };
    let is_module = |word: &str| word.contains("::") || word == "cenote" || word.starts_with("cenote_");
    // Filters by spans and fields may contain commas; tracing checks them.
    if directive.contains(['[', ']', '{', '}']) || is_level(directive) {
        return Ok(());
    }
    let levels = LEVELS.join(", ");
    match directive.split_once('=') {
        Some((module, level)) if !module.is_empty() && is_level(level) => Ok(()),
        Some(_) => Err(format!(
            "holds {directive:?}, which is not a filter such as info or cenote=debug; levels are {levels}"
        )),
        None if is_module(directive) => Ok(()),
        None => Err(format!(
            "holds {directive:?}, which is not a level ({levels}); for a module write its level too, as in cenote=debug"
        )),
    }
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

    #[test]
    fn a_log_filter_with_a_misspelt_level_is_refused_by_that_level() {
        for (text, named) in [
            ("debgu", "\"debgu\""),
            ("info,debgu", "\"debgu\""),
            ("cenote=debgu", "\"cenote=debgu\""),
            ("info,cenote=", "\"cenote=\""),
            ("=info", "\"=info\""),
            ("verbose", "\"verbose\""),
            ("6", "\"6\""),
            ("", "\"\""),
            ("info,,warn", "\"\""),
        ] {
            let complaint = parse_filter(text).unwrap_err();
            assert!(complaint.contains(named), "{text}: {complaint}");
        }
        for text in [
            "info",
            "WARN",
            "off",
            "3",
            "info, cenote=debug",
            "cenote",
            "cenote::http",
            "hyper=off,warn",
            "cenote[request{method=GET}]=debug",
        ] {
            assert_eq!(parse_filter(text), Ok(text.replace(", ", ",")), "{text}");
        }
    }

    #[test]
    fn a_log_filter_that_would_make_its_parser_panic_is_refused() {
        assert!(parse_filter(" ቚ=").is_err());
        assert!(parse_filter("info,cenote=debug").is_ok());
    }
}
