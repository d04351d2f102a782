//! Reads `.env` files.
//!
//! Invariant: a complaint names the line and never quotes it, because the line may hold a password.
//!
//! The format is that of python-dotenv and Docker Compose: a lone `$` in a password is a dollar sign, `${NAME}`
//! is replaced outside single quotes, and a quoted value may span lines. The dotenvy crate is not used: it
//! expands `$NAME` from the process's environment, has no line numbers, and quotes the line in its errors.

use std::collections::HashMap;

/// One `NAME=value`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Assignment {
    pub(crate) name: String,
    pub(crate) value: String,
    /// Where the assignment starts, counted from 1.
    pub(crate) line: usize,
}

/// A line that cannot be read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) line: usize,
    pub(crate) message: &'static str,
}

/// Reads a whole file. `environment` answers `${NAME}` before the file itself does.
pub(crate) fn parse(
    text: &str,
    environment: &dyn Fn(&str) -> Option<String>,
) -> (Vec<Assignment>, Vec<SyntaxError>) {
    let mut reader = Reader {
        rest: text.strip_prefix('\u{feff}').unwrap_or(text),
        line: 1,
        environment,
        seen: HashMap::new(),
    };
    let (mut assignments, mut errors) = (Vec::new(), Vec::new());
    while !reader.rest.is_empty() {
        let line = reader.line;
        match reader.assignment() {
            Ok(Some((name, value))) => {
                reader.seen.insert(name.clone(), value.clone());
                assignments.push(Assignment { name, value, line });
            }
            Ok(None) => {}
            Err(message) => errors.push(SyntaxError { line, message }),
        }
        reader.skip_line();
    }
    (assignments, errors)
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
    environment: &'a dyn Fn(&str) -> Option<String>,
    seen: HashMap<String, String>,
}

impl<'a> Reader<'a> {
    fn take_while(&mut self, keep: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !keep(c)).unwrap_or(self.rest.len());
        let (head, tail) = self.rest.split_at(end);
        self.rest = tail;
        head
    }

    fn skip_blanks(&mut self) {
        self.take_while(|c| c != '\n' && c.is_whitespace());
    }

    /// Leaves what remains of the line, also after an error in its middle.
    fn skip_line(&mut self) {
        self.take_while(|c| c != '\n');
        if let Some(rest) = self.rest.strip_prefix('\n') {
            self.rest = rest;
            self.line += 1;
        }
    }

    fn name(&mut self) -> Result<&'a str, &'static str> {
        if !self
            .rest
            .starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        {
            return Err("does not start with a name");
        }
        Ok(self.take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')))
    }

    fn assignment(&mut self) -> Result<Option<(String, String)>, &'static str> {
        self.skip_blanks();
        if self.rest.is_empty() || self.rest.starts_with(['#', '\n']) {
            return Ok(None);
        }
        let mut name = self.name()?;
        self.skip_blanks();
        if name == "export" && !self.rest.starts_with('=') {
            name = self.name()?;
            self.skip_blanks();
        }
        self.rest = self
            .rest
            .strip_prefix('=')
            .ok_or("has no = after the name")?;
        self.skip_blanks();
        let value = match self.rest.chars().next() {
            Some(quote @ ('\'' | '"')) => self.quoted(quote)?,
            _ => self.bare()?,
        };
        Ok(Some((name.to_owned(), value)))
    }

    /// Up to the end of the line or a `#` after a blank.
    fn bare(&mut self) -> Result<String, &'static str> {
        let line = self.take_while(|c| c != '\n');
        let mut previous = ' ';
        let mut end = line.len();
        for (index, c) in line.char_indices() {
            if c == '#' && previous.is_whitespace() {
                end = index;
                break;
            }
            previous = c;
        }
        self.expand(line[..end].trim_end())
    }

    fn quoted(&mut self, quote: char) -> Result<String, &'static str> {
        let body = &self.rest[1..];
        let mut value = String::new();
        let mut escaped = false;
        for (index, c) in body.char_indices() {
            if escaped {
                escaped = false;
                match c {
                    'n' => value.push('\n'),
                    'r' => value.push('\r'),
                    't' => value.push('\t'),
                    '\\' | '"' => value.push(c),
                    // Unknown escapes stay as written: Windows paths, regular expressions.
                    _ => value.extend(['\\', c]),
                }
            } else if c == '\\' && quote == '"' {
                escaped = true;
            } else if c == quote {
                self.line += body[..index].matches('\n').count();
                self.rest = &body[index + 1..];
                self.skip_blanks();
                if !(self.rest.is_empty() || self.rest.starts_with(['#', '\n'])) {
                    return Err("has text after the closing quote");
                }
                return if quote == '"' {
                    self.expand(&value)
                } else {
                    Ok(value)
                };
            } else {
                value.push(c);
            }
        }
        Err("opens a quote that is never closed")
    }

    /// Replaces `${NAME}` and `${NAME:-fallback}`.
    fn expand(&self, text: &str) -> Result<String, &'static str> {
        let mut output = String::new();
        let mut rest = text;
        while let Some((before, reference)) = rest.split_once("${") {
            let (reference, after) = reference
                .split_once('}')
                .ok_or("has a ${ without }; single quotes keep it as it is")?;
            let (name, fallback) = match reference.split_once(":-") {
                Some((name, fallback)) => (name, Some(fallback.to_owned())),
                None => (reference, None),
            };
            let value = (self.environment)(name)
                .or_else(|| self.seen.get(name).cloned())
                .filter(|value| !value.is_empty())
                .or(fallback)
                .ok_or("refers with ${…} to what is not set; single quotes keep it as it is")?;
            output.push_str(before);
            output.push_str(&value);
            rest = after;
        }
        output.push_str(rest);
        Ok(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> (Vec<(String, String, usize)>, Vec<SyntaxError>) {
        let environment = |name: &str| (name == "FROM_ENV").then(|| "outside".to_owned());
        let (assignments, errors) = parse(text, &environment);
        let assignments = assignments
            .into_iter()
            .map(|entry| (entry.name, entry.value, entry.line))
            .collect();
        (assignments, errors)
    }

    #[test]
    fn values_are_read_as_python_dotenv_reads_them() {
        for (line, value) in [
            ("A=1", "1"),
            ("A = 1 ", "1"),
            ("export A=1", "1"),
            ("A=", ""),
            ("A=  # nothing", ""),
            ("A=a b", "a b"),
            ("A=a # note", "a"),
            ("A=a#b", "a#b"),
            ("A='a # b' # note", "a # b"),
            (r#"A="a\"b\n\q""#, "a\"b\n\\q"),
            (r"A='a\n'", r"a\n"),
            ("A=pa$$w$rd", "pa$$w$rd"),
            ("A='${B}'", "${B}"),
            ("A=x${FROM_ENV}y", "xoutsidey"),
            ("A=\"${NONE:-other}\"", "other"),
            ("A=1\r", "1"),
            ("\u{feff}A=1", "1"),
        ] {
            let (assignments, errors) = read(line);
            assert_eq!(errors, [], "{line}");
            assert_eq!(assignments, [("A".into(), value.into(), 1)], "{line}");
        }
    }

    #[test]
    fn earlier_lines_can_be_referred_to() {
        let (assignments, _) = read("USER=me\nURL=x://${USER}@host\n");
        assert_eq!(assignments[1], ("URL".into(), "x://me@host".into(), 2));
    }

    #[test]
    fn lines_are_counted_across_comments_and_quoted_line_breaks() {
        let (assignments, errors) = read("# one\n\nA='x\ny'\nB=2\n");
        assert_eq!(errors, []);
        assert_eq!(assignments[0], ("A".into(), "x\ny".into(), 3));
        assert_eq!(assignments[1], ("B".into(), "2".into(), 5));
    }

    #[test]
    fn every_broken_line_is_named_and_the_others_still_count() {
        let (assignments, errors) =
            read("A=1\nno equals\n=x\nB=2\nC='x' y\nD=${NONE}\nE=${x\nF=\"open\n");
        assert_eq!(assignments.len(), 2);
        let lines: Vec<_> = errors.iter().map(|error| error.line).collect();
        assert_eq!(lines, [2, 3, 5, 6, 7, 8]);
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in "(\\PC|[A-Z=\"'$\\{\\}\\\\\n\r# ]){0,60}") {
            let _ = read(&text);
        }

        #[test]
        fn a_single_quoted_value_is_kept_as_it_is(value in "[^']{0,30}") {
            let (assignments, errors) = read(&format!("A='{value}'\n"));
            prop_assert_eq!(errors, []);
            prop_assert_eq!(&assignments[0].1, &value);
        }
    }
}
