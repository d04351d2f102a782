//! Reads `.env` files as python-dotenv does, which a test holds it against.
//!
//! Invariant: a complaint names the line and never quotes it, because the line may hold a password.
//!
//! The dotenvy crate is not used: it has another grammar, no line numbers, and quotes the line in its errors.

use std::collections::HashMap;

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

/// Reads a whole file. `environment` answers `${NAME}` before the file itself does.
pub(crate) fn parse(text: &str, environment: &dyn Fn(&str) -> Option<String>) -> (Vec<Assignment>, Vec<SyntaxError>) {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    // As Python opens a text file.
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut reader = Reader { rest: &text, line: 1 };
    let mut seen = HashMap::new();
    let (mut assignments, mut errors) = (Vec::new(), Vec::new());
    loop {
        reader.take_while(is_space);
        if reader.rest.is_empty() {
            return (assignments, errors);
        }
        let (line, start) = (reader.line, reader.rest);
        match reader.assignment() {
            Ok(Some((name, value))) => {
                let (value, is_unresolved) = match value {
                    Some(value) => {
                        let (value, is_unresolved) = expand(&value, environment, &seen);
                        (Some(value), is_unresolved)
                    }
                    None => (None, false),
                };
                seen.insert(name.clone(), value.clone());
                assignments.push(Assignment {
                    name,
                    value,
                    is_unresolved,
                    line,
                });
            }
            Ok(None) => {}
            Err(message) => {
                let name = name_of(start);
                errors.push(SyntaxError { line, name, message });
                reader.take_while(|c| c != '\n');
            }
        }
    }
}

/// Python's `\s`, which has four separators more than Unicode's white space.
fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

fn is_blank(c: char) -> bool {
    is_space(c) && c != '\n'
}

/// The name that a broken line seems to set.
fn name_of(line: &str) -> Option<String> {
    let line = line
        .strip_prefix("export")
        .filter(|rest| rest.starts_with(is_blank))
        .unwrap_or(line);
    let line = line.trim_start_matches(is_blank);
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name = &line[..line.find(|c| !is_part(c)).unwrap_or(line.len())];
    (!name.is_empty()).then(|| name.to_owned())
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

type Pair = (String, Option<String>);

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> &'a str {
        let (head, tail) = self.rest.split_at(length);
        self.line += head.matches('\n').count();
        self.rest = tail;
        head
    }

    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !keep(c)).unwrap_or(self.rest.len());
        self.take(end)
    }

    /// `None` is a comment.
    fn assignment(&mut self) -> Result<Option<Pair>, &'static str> {
        if let Some(after) = self.rest.strip_prefix("export")
            && after.starts_with(is_blank)
        {
            self.take("export".len());
            self.take_while(is_blank);
        }
        let name = match self.rest.chars().next() {
            Some('#') => None,
            Some('\'') => {
                let end = self.rest[1..].find('\'').filter(|end| *end > 0);
                let end = end.ok_or("has a quote that is never closed, or nothing in it")?;
                let name = &self.take(end + 2)[1..=end];
                Some(name)
            }
            _ => {
                let name = self.take_while(|c| c != '=' && c != '#' && !is_space(c));
                if name.is_empty() {
                    return Err("does not start with a name");
                }
                Some(name)
            }
        };
        self.take_while(is_blank);
        let has_value = self.rest.starts_with('=');
        let value = match has_value {
            true => {
                self.take(1);
                let blanks = self.take_while(is_blank);
                // Right behind the = it belongs to the value.
                let is_comment = !blanks.is_empty() && self.rest.starts_with('#');
                Some(if is_comment { String::new() } else { self.value()? })
            }
            false => None,
        };
        self.take_while(is_blank);
        if self.rest.starts_with('#') {
            self.take_while(|c| c != '\n');
        }
        if !self.rest.is_empty() && !self.rest.starts_with('\n') {
            return Err(match has_value {
                true => "has text after the closing quote",
                false => "has no = after the name",
            });
        }
        Ok(name.map(|name| (name.to_owned(), value)))
    }

    fn value(&mut self) -> Result<String, &'static str> {
        match self.rest.chars().next() {
            Some(quote @ ('\'' | '"')) => self.quoted(quote),
            _ => Ok(bare(self.take_while(|c| c != '\n')).to_owned()),
        }
    }

    /// Up to the first quote that no backslash escapes.
    fn quoted(&mut self, quote: char) -> Result<String, &'static str> {
        let mut is_escaped = false;
        let mut body = self.rest[1..].char_indices();
        let end = body.find(|(_, c)| {
            let ends = *c == quote && !is_escaped;
            is_escaped = *c == '\\' && !is_escaped;
            ends
        });
        let (end, _) = end.ok_or("opens a quote that is never closed")?;
        let value = &self.take(end + 2)[1..=end];
        Ok(unescape(value, quote))
    }
}

/// A value without quotes ends where a `#` stands behind a blank.
fn bare(line: &str) -> &str {
    let comment = line.match_indices('#').map(|(index, _)| index);
    let mut comment = comment.filter(|index| line[..*index].ends_with(is_space));
    let end = comment.next().unwrap_or(line.len());
    line[..end].trim_end_matches(is_space)
}

/// In single quotes only `\\` and `\'` mean something else.
fn unescape(text: &str, quote: char) -> String {
    let mut output = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        if c != '\\' {
            output.push(c);
            continue;
        }
        let escaped = characters.clone().next().and_then(|escaped| match escaped {
            '\\' | '\'' => Some(escaped),
            _ if quote == '\'' => None,
            '"' => Some('"'),
            'a' => Some('\u{7}'),
            'b' => Some('\u{8}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\u{b}'),
            _ => None,
        });
        match escaped {
            Some(meant) => {
                characters.next();
                output.push(meant);
            }
            // Others stay as written: Windows paths, regular expressions.
            None => output.push('\\'),
        }
    }
    output
}

/// Replaces `${NAME}` and `${NAME:-fallback}`, and says whether some name is not set and has no fallback.
fn expand(
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
    seen: &HashMap<String, Option<String>>,
) -> (String, bool) {
    let mut output = String::new();
    let mut is_unresolved = false;
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        output.push_str(before);
        let Some(reference) = Reference::read(after) else {
            output.push_str("${");
            rest = after;
            continue;
        };
        let known = environment(reference.name)
            .map(Some)
            .or_else(|| seen.get(reference.name).cloned());
        match (known, reference.fallback) {
            (Some(value), _) => output.push_str(&value.unwrap_or_default()),
            (None, Some(fallback)) => output.push_str(fallback),
            (None, None) => is_unresolved = true,
        }
        rest = reference.after;
    }
    output.push_str(rest);
    (output, is_unresolved)
}

/// What stands behind `${`.
struct Reference<'a> {
    name: &'a str,
    fallback: Option<&'a str>,
    after: &'a str,
}

impl<'a> Reference<'a> {
    fn read(text: &'a str) -> Option<Self> {
        let end = text.find(['}', ':'])?;
        let (name, rest) = text.split_at(end);
        if let Some(after) = rest.strip_prefix('}') {
            return Some(Self {
                name,
                fallback: None,
                after,
            });
        }
        let (fallback, after) = rest.strip_prefix(":-")?.split_once('}')?;
        Some(Self {
            name,
            fallback: Some(fallback),
            after,
        })
    }
}

#[cfg(test)]
#[path = "dotenv_tests.rs"]
mod tests;
