//! Parses `.env` files as python-dotenv does; a test compares the two.
//!
//! Invariant: a complaint names the line and never quotes it, because the line may hold a password.

use std::{collections::HashMap, sync::LazyLock};

use regex::{Captures, Regex};

/// One `NAME=value`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) name: String,
    /// `None` if the line is only a name.
    pub(crate) value: Option<String>,
    /// Whether the value refers to a variable that is not set and has no fallback. It stands there as nothing.
    pub(crate) is_unresolved: bool,
    /// Where the assignment starts, counted from 1.
    pub(crate) line: usize,
}

/// A line that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) line: usize,
    /// What the line sets, as far as it can be told.
    pub(crate) name: Option<String>,
    pub(crate) message: &'static str,
}

/// A pattern in which `{s}` is Python's `\s`, which has four separators more than Unicode's white space, and `{b}` is the
/// same without the line break.
#[expect(
    clippy::expect_used,
    reason = "the patterns are constants, and the tests use each of them"
)]
fn pattern(text: &str) -> Regex {
    let text = text
        .replace("{s}", r"[\s\x1c-\x1f]")
        .replace("{b}", r"[\s\x1c-\x1f&&[^\n]]");
    Regex::new(&text).expect("a valid pattern")
}

type Pattern = LazyLock<Regex>;

static SPACE: Pattern = LazyLock::new(|| pattern("^({s}*)"));
static EXPORT: Pattern = LazyLock::new(|| pattern("^(export{b}+)"));
static NAME: Pattern = LazyLock::new(|| pattern(r"^([^=#\s\x1c-\x1f]+)"));
static QUOTED_NAME: Pattern = LazyLock::new(|| pattern("^'([^']+)'"));
static EQUALS: Pattern = LazyLock::new(|| pattern("^{b}*=({b}*)"));
static SINGLE_QUOTED: Pattern = LazyLock::new(|| pattern(r"(?s)^'((?:\\.|[^'\\])*)'"));
static DOUBLE_QUOTED: Pattern = LazyLock::new(|| pattern(r#"(?s)^"((?:\\.|[^"\\])*)""#));
static REST_OF_LINE: Pattern = LazyLock::new(|| pattern(r"^([^\n]*)"));
/// A value without quotes ends with the line, or where a `#` stands behind a blank; blanks at its end are dropped.
static BARE: Pattern = LazyLock::new(|| pattern(r"(?m)^([^\n]*?){b}*(?:{b}#[^\n]*)?$"));
static END_OF_LINE: Pattern = LazyLock::new(|| pattern(r"^({b}*(?:#[^\n]*)?)(?:\n|$)"));
static BROKEN_NAME: Pattern = LazyLock::new(|| pattern("^(?:export{b}+)?{b}*([A-Za-z0-9_]+)"));
/// In single quotes only these two mean something else. Others stay as written: Windows paths, regular expressions.
static SINGLE_QUOTED_ESCAPE: Pattern = LazyLock::new(|| pattern(r"\\([\\'])"));
static DOUBLE_QUOTED_ESCAPE: Pattern = LazyLock::new(|| pattern(r#"\\([\\'"abfnrtv])"#));
/// `${NAME}` or `${NAME:-fallback}`.
static REFERENCE: Pattern = LazyLock::new(|| pattern(r"\$\{([^}:]*)(?::-([^}]*))?\}"));

/// Parses a whole file. `environment` answers `${NAME}` before the file itself does.
pub(crate) fn parse(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> (Vec<Assignment>, Vec<SyntaxError>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // As Python opens a text file.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut reader = Reader { rest: &text, line: 1 };
    let mut seen = HashMap::new();
    let (mut assignments, mut errors) = (Vec::new(), Vec::new());
    loop {
        reader.take(&SPACE);
        let Reader { rest: start, line } = reader;
        if start.is_empty() {
            return (assignments, errors);
        }
        match reader.assignment() {
            Ok(Some((name, value))) => {
                let mut is_unresolved = false;
                let value = value.map(|value| expand(&value, environment, &seen, &mut is_unresolved));
                seen.insert(name.to_owned(), value.clone());
                assignments.push(Assignment {
                    name: name.to_owned(),
                    value,
                    is_unresolved,
                    line,
                });
            }
            Ok(None) => {}
            Err(message) => {
                let name = BROKEN_NAME.captures(start).map(|found| found[1].to_owned());
                errors.push(SyntaxError { line, name, message });
                reader.take(&REST_OF_LINE);
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl<'a> Reader<'a> {
    /// Moves behind the pattern, if the rest begins with it, and returns its first group.
    fn take(&mut self, pattern: &Regex) -> Option<&'a str> {
        let found = pattern.captures(self.rest)?;
        let (whole, group) = (found.get(0)?, found.get(1)?);
        self.line += whole.as_str().matches('\n').count();
        self.rest = &self.rest[whole.end()..];
        Some(group.as_str())
    }

    /// Reads a line: a name, perhaps with a value. `None` is a comment.
    fn assignment(&mut self) -> Result<Option<(&'a str, Option<String>)>, &'static str> {
        self.take(&EXPORT);
        let name = match self.rest.chars().next() {
            Some('#') => None,
            Some('\'') => {
                let name = self.take(&QUOTED_NAME);
                Some(name.ok_or("has a quote that is never closed, or nothing in it")?)
            }
            _ => Some(self.take(&NAME).ok_or("does not start with a name")?),
        };
        let value = match self.take(&EQUALS) {
            None => None,
            // Right behind the = it belongs to the value.
            Some(blanks) if !blanks.is_empty() && self.rest.starts_with('#') => Some(String::new()),
            Some(_) => Some(self.value()?),
        };
        match self.take(&END_OF_LINE) {
            Some(_) => Ok(name.map(|name| (name, value))),
            None if value.is_some() => Err("has text after the closing quote"),
            None => Err("has no = after the name"),
        }
    }

    fn value(&mut self) -> Result<String, &'static str> {
        let (quoted, escape) = match self.rest.chars().next() {
            Some('\'') => (&SINGLE_QUOTED, &SINGLE_QUOTED_ESCAPE),
            Some('"') => (&DOUBLE_QUOTED, &DOUBLE_QUOTED_ESCAPE),
            _ => return Ok(self.take(&BARE).unwrap_or_default().to_owned()),
        };
        let text = self.take(quoted).ok_or("opens a quote that is never closed")?;
        let unescaped = escape.replace_all(text, |found: &Captures<'_>| match &found[1] {
            "a" => "\u{7}".to_owned(),
            "b" => "\u{8}".to_owned(),
            "f" => "\u{c}".to_owned(),
            "n" => "\n".to_owned(),
            "r" => "\r".to_owned(),
            "t" => "\t".to_owned(),
            "v" => "\u{b}".to_owned(),
            itself => itself.to_owned(),
        });
        Ok(unescaped.into_owned())
    }
}

/// Replaces the references. Sets `is_unresolved` if some name is not set and has no fallback.
fn expand(
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
    seen: &HashMap<String, Option<String>>,
    is_unresolved: &mut bool,
) -> String {
    let replaced = REFERENCE.replace_all(text, |found: &Captures<'_>| {
        let known = environment(&found[1])
            .map(Some)
            .or_else(|| seen.get(&found[1]).cloned());
        match (known, found.get(2)) {
            (Some(value), _) => value.unwrap_or_default(),
            (None, Some(fallback)) => fallback.as_str().to_owned(),
            (None, None) => {
                *is_unresolved = true;
                String::new()
            }
        }
    });
    replaced.into_owned()
}

#[cfg(test)]
#[path = "dotenv_tests.rs"]
mod tests;
