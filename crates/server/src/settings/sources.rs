//! Collects what was written where: command line, environment, `.env`, TOML file.
//!
//! Invariant: only syntax and names are judged here. Each text keeps the place it came from, and none is printed.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use cenote_secret::Secret;
use clap::parser::ArgMatches;
use clap::{Arg, ArgAction};
use toml::de::{DeTable, DeValue};

use super::foreign;
use super::names::{self, Named};
use super::origin::{Cited, Origin};
use super::resolve::{About, Entry, Fallback, Resolver};
use super::suggest;
use crate::dotenv::{self, SyntaxError};

/// The flags for every name of every setting.
///
/// Each alias is an argument of its own, not a clap alias: clap does not tell which alias was used, and a conflict must
/// name both. Aliases and `--NAME-file` are hidden; the help of the principal flag lists them.
pub fn args() -> Vec<Arg> {
    let argument = |(order, named): (usize, Named)| {
        let about = named.row.about();
        let arg = Arg::new(&named.name)
            .long(named.flag())
            .action(ArgAction::Append)
            .allow_negative_numbers(true)
            .help_heading(about.group)
            .display_order(order)
            .hide(named.name != about.name());
        if named.is_file {
            return arg.value_name("FILE");
        }
        let arg = arg.value_name(named.row.form().0).help(help(about));
        match about.is_switch {
            true => arg.num_args(0..=1).default_missing_value("true"),
            false => arg,
        }
    };
    names::all_names().enumerate().map(argument).collect()
}

fn help(about: &About) -> String {
    let (Fallback::Is(default) | Fallback::Else(default)) = about.fallback;
    format!("{} [default: {default}] [env: {}]", about.help, about.names.join(", "))
}

impl Resolver {
    /// Reads the command line.
    pub(super) fn add_command_line(&mut self, matches: &ArgMatches) {
        for named in names::all_names() {
            // Not every command has every flag.
            let Ok(Some(texts)) = matches.try_get_many::<String>(&named.name) else {
                continue;
            };
            for text in texts {
                let flag = format!("--{}", named.flag());
                self.add(0, &named, text, Origin::CommandLine(flag));
            }
        }
    }

    /// Reads environment variables. Empty ones count as unset.
    pub(super) fn add_environment(&mut self, variables: &[(OsString, OsString)]) {
        for (name, text) in variables {
            let Some(name) = name.to_str() else { continue };
            let origin = Origin::Environment(name.to_owned());
            match (names::find(name), text.to_str()) {
                (_, Some("")) => {}
                (Some(named), Some(text)) => self.add(1, &named, text, origin),
                (Some(_), None) => self.problem(Cited("", &origin), "is not UTF-8"),
                (None, _) => self.add_unknown(name, &text.to_string_lossy(), origin),
            }
        }
    }

    /// Reads `.env`, if there is one. `variables` answer its `${NAME}` references.
    pub(super) fn add_dotenv(&mut self, path: &Path, variables: &[(OsString, OsString)]) {
        let text = match fs::read(path).map(String::from_utf8) {
            Ok(Ok(text)) => text,
            Ok(Err(_)) => return self.problem(".env", "is not UTF-8"),
            // A directory of this name is a Python virtual environment.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) => return,
            Err(error) => return self.problem(".env", format!("cannot be read: {error}")),
        };
        let lookup = |name: &str| {
            let (_, text) = variables.iter().find(|(other, _)| other == name)?;
            text.to_str().map(str::to_owned)
        };
        let (assignments, errors) = dotenv::parse(&text, &lookup);
        for SyntaxError { line, name, message } in errors {
            match name.as_deref().and_then(names::find) {
                Some(named) => self.problem(
                    Cited("", &Origin::line(&named.name, ".env", line)),
                    format!("the line {message}"),
                ),
                // Other programs read this file too.
                None => self.warn(format!(".env line {line} is not read: it {message}")),
            }
        }
        for assignment in assignments {
            let (name, value) = (assignment.name, assignment.value.unwrap_or_default());
            let origin = Origin::line(&name, ".env", assignment.line);
            match names::find(&name) {
                Some(_) if assignment.is_unresolved => {
                    self.problem(Cited("", &origin), "refers with ${…} to a variable that is not set");
                }
                Some(_) if value.is_empty() => {}
                Some(named) => self.add(2, &named, &value, origin),
                None => self.add_unknown(&name, &value, origin),
            }
        }
    }

    /// Reads the text of the TOML file. `file` is its name in messages.
    pub(super) fn add_toml(&mut self, text: &str, file: &str) {
        // Editors on Windows begin a file with a byte order mark.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text);
        let line_of = |offset: usize| text.bytes().take(offset).filter(|byte| *byte == b'\n').count() + 1;
        let (keys, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let line = error.span().map_or(1, |span| line_of(span.start));
            // The error's Display would quote the line, and with it perhaps a password.
            self.problem(format!("{file} line {line}"), error.message().escape_debug());
        }
        for (key, value) in keys.get_ref() {
            let line = line_of(key.span().start);
            let (key, value) = (key.get_ref().as_ref(), value.get_ref());
            let origin = Origin::line(&key.escape_debug().to_string(), file, line);
            let known = names::all_names()
                .find(|named| named.row.about().may_be_in_file() && named.name.to_ascii_lowercase() == key);
            match (known, scalar(value)) {
                (Some(named), Some(text)) => self.add(3, &named, &text, origin),
                (Some(_), None) => self.problem(Cited("", &origin), "is not a text, a number or a boolean"),
                (None, _) if errors.is_empty() => self.problem(Cited("", &origin), unknown_key(key, value)),
                // After a syntax error what looks like a key may be a piece of a value.
                (None, _) => {}
            }
        }
    }

    /// Adds a text that the source of this rank, 0 the highest, has for a setting.
    fn add(&mut self, source: usize, named: &Named, text: &str, origin: Origin) {
        self.entries.push(Entry {
            setting: named.row.about().name(),
            is_file: named.is_file,
            text: Secret::new(text.to_owned()),
            origin,
            source,
        });
    }

    /// Takes note of a name of no setting in the environment or in `.env`, which hold names of other programs too.
    fn add_unknown(&mut self, name: &str, value: &str, origin: Origin) {
        if let Some(warning) = suggest::warning(name) {
            let cited = Cited("", &origin).to_string();
            self.warn(format!("{} {warning}", cited.escape_debug()));
        }
        self.foreign.extend(foreign::recognize(name, value, origin));
    }
}

fn unknown_key(key: &str, value: &DeValue<'_>) -> String {
    if key == "cenote_config" {
        return "cannot be set in the file it names".into();
    }
    match suggest::closest(key) {
        Some(known) => format!("is not a setting; did you mean {}?", known.to_ascii_lowercase()),
        None if value.is_table() => "is not a setting; settings are not grouped in tables".into(),
        None => "is not a setting".into(),
    }
}

/// The text that would stand for the value in an environment variable.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => {
            let decimal = i128::from_str_radix(number.as_str(), number.radix());
            Some(decimal.map_or_else(|_| number.as_str().to_owned(), |number| number.to_string()))
        }
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}
