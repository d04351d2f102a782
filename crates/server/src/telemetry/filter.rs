//! Checks filters of the log. Invariant: a filter that is accepted logs what its author meant, and its parser does not panic
//! on it.

use tracing_subscriber::EnvFilter;

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

#[cfg(test)]
mod tests {
    use super::*;

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
