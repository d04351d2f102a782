//! Collects what was written where: command line, environment, `.env`, TOML file.
//!
//! Invariant: nothing is judged here but syntax and names; each text keeps the place it came from, and none is
//! printed.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

use clap::parser::ArgMatches;
use clap::{Arg, ArgAction};
use toml::de::{DeTable, DeValue};

use super::dotenv;
use super::error::Problem;
use super::foreign::{self, ForeignName};
use super::near;
use super::table::{self, Fallback, Named};
use cenote_secret::Secret;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Nobody set it.
    Default,
    /// Nobody set it; its default follows from the setting named here.
    Follows(&'static str),
    /// A flag.
    CommandLine {
        /// With its dashes.
        flag: String,
    },
    /// An environment variable.
    Environment {
        /// As written: principal name or alias, perhaps with `_FILE`.
        name: String,
    },
    /// The `.env` file.
    DotEnv {
        /// As written.
        name: String,
        /// Counted from 1.
        line: usize,
    },
    /// The TOML file.
    Toml {
        /// As written.
        key: String,
        /// As given, or `cenote.toml`.
        file: String,
        /// Counted from 1.
        line: usize,
    },
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Follows(name) => write!(f, "default with {name}"),
            Self::CommandLine { .. } => f.write_str("command line"),
            Self::Environment { name } => write!(f, "environment {name}"),
            Self::DotEnv { line, .. } => write!(f, ".env line {line}"),
            Self::Toml { file, line, .. } => write!(f, "{file} line {line}"),
        }
    }
}

/// Names a value for a message: the name as the user wrote it, and where.
pub(crate) struct Cited<'a>(pub(crate) &'static str, pub(crate) &'a Origin);

impl fmt::Display for Cited<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Origin::Default | Origin::Follows(_) => write!(f, "{} by default", self.0),
            Origin::CommandLine { flag } => write!(f, "{flag} from the command line"),
            Origin::Environment { name } => write!(f, "{name} from the environment"),
            Origin::DotEnv { name, line } => write!(f, "{name} from .env line {line}"),
            Origin::Toml { key, file, line } => write!(f, "{key} from {file} line {line}"),
        }
    }
}

/// One text somebody wrote for a setting.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    /// The setting's principal name.
    pub(crate) setting: &'static str,
    /// Whether `text` names the file that holds the value.
    pub(crate) file: bool,
    /// Secret because it is not known here whether it is.
    pub(crate) text: Secret<String>,
    pub(crate) origin: Origin,
}

impl Entry {
    fn new(named: Named, text: String, origin: Origin) -> Self {
        Self {
            setting: named.row.about().name(),
            file: named.file,
            text: Secret::new(text),
            origin,
        }
    }
}

/// What one source says.
#[derive(Default)]
pub(crate) struct Layer {
    pub(crate) entries: Vec<Entry>,
    pub(crate) warnings: Vec<String>,
    pub(crate) problems: Vec<Problem>,
    /// Names by which other programs know their database.
    pub(crate) foreign: Vec<ForeignName>,
}

/// The flags for every name of every setting.
///
/// Each alias is an argument of its own rather than a clap alias: clap does not tell which alias was used, and a
/// conflict must name both. Aliases and `--NAME-file` are hidden, the help of the principal flag lists them.
pub fn args() -> Vec<Arg> {
    let mut order = 0;
    table::all_names()
        .map(|named| {
            let about = named.row.about();
            let principal = named.name == about.name() && !named.file;
            let arg = Arg::new(named.full())
                .long(table::flag(&named.full()))
                .action(ArgAction::Append)
                .allow_negative_numbers(true)
                .help_heading(about.group)
                .display_order(order)
                .hide(!principal);
            order += 1;
            if named.file {
                return arg.value_name("FILE");
            }
            let arg = arg.value_name(named.row.placeholder()).help(help(named));
            if named.row.switch() {
                arg.num_args(0..=1).default_missing_value("true")
            } else {
                arg
            }
        })
        .collect()
}

fn help(named: Named) -> String {
    let about = named.row.about();
    let default = match about.fallback {
        Fallback::Is(text) | Fallback::Else(text) => text,
    };
    let mut help = format!("{} [default: {default}] [env: {}", about.help, about.name());
    for alias in about.names.iter().skip(1) {
        help += &format!(", {alias}");
    }
    help.push(']');
    help
}

/// Reads the command line.
pub(crate) fn command_line(matches: &ArgMatches) -> Layer {
    let mut layer = Layer::default();
    for named in table::all_names() {
        let full = named.full();
        // Not every subcommand needs to have every flag.
        let Ok(Some(texts)) = matches.try_get_many::<String>(&full) else {
            continue;
        };
        for text in texts {
            let flag = format!("--{}", table::flag(&full));
            let origin = Origin::CommandLine { flag };
            layer.entries.push(Entry::new(named, text.clone(), origin));
        }
    }
    layer
}

/// Reads environment variables. Empty ones count as unset.
pub(crate) fn environment(variables: &[(OsString, OsString)]) -> Layer {
    let mut layer = Layer::default();
    for (name, text) in variables {
        let Some(name) = name.to_str() else { continue };
        let origin = Origin::Environment { name: name.into() };
        let Some(named) = table::find(name) else {
            if let Some(warning) = near::warning(name).filter(|_| !text.is_empty()) {
                let warning = format!("{} from the environment {warning}", name.escape_debug());
                layer.warnings.push(warning);
            }
            let found = foreign::recognize(name, &text.to_string_lossy(), origin);
            layer.foreign.extend(found);
            continue;
        };
        match text.to_str() {
            Some("") => {}
            Some(text) => layer.entries.push(Entry::new(named, text.into(), origin)),
            None => {
                let subject = Cited(named.name, &origin);
                layer.problems.push(Problem::new(subject, "is not UTF-8"));
            }
        }
    }
    layer
}

/// Reads `.env` if there is one. `variables` answer its `${NAME}` references.
pub(crate) fn dotenv(path: &Path, variables: &[(OsString, OsString)]) -> Layer {
    let mut layer = Layer::default();
    let text = match fs::read(path) {
        Ok(bytes) => match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(_) => {
                layer.problems.push(Problem::new(".env", "is not UTF-8"));
                return layer;
            }
        },
        // A directory of this name is a Python virtual environment.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::IsADirectory) => {
            return layer;
        }
        Err(error) => {
            let message = format!("cannot be read: {error}");
            layer.problems.push(Problem::new(".env", message));
            return layer;
        }
    };
    let lookup = |name: &str| {
        let (_, text) = variables.iter().find(|(other, _)| other == name)?;
        text.to_str().map(str::to_owned)
    };
    let (assignments, errors) = dotenv::parse(&text, &lookup);
    for error in errors {
        let dotenv::SyntaxError { line, name, message } = error;
        match name.as_deref().and_then(table::find) {
            Some(named) => {
                let origin = Origin::DotEnv {
                    name: named.full(),
                    line,
                };
                layer
                    .problems
                    .push(Problem::new(Cited("", &origin), format!("the line {message}")));
            }
            // Other programs read this file too.
            None => layer
                .warnings
                .push(format!(".env line {line} is not read: it {message}")),
        }
    }
    for assignment in assignments {
        let dotenv::Assignment {
            name,
            value,
            is_unresolved,
            line,
        } = assignment;
        let origin = Origin::DotEnv {
            name: name.clone(),
            line,
        };
        let value = value.unwrap_or_default();
        match table::find(&name) {
            Some(_) if is_unresolved => {
                let problem = "refers with ${…} to a variable that is not set";
                layer.problems.push(Problem::new(Cited("", &origin), problem));
            }
            Some(_) if value.is_empty() => {}
            Some(named) => layer.entries.push(Entry::new(named, value, origin)),
            None => {
                if let Some(warning) = near::warning(&name) {
                    let name = name.escape_debug();
                    layer.warnings.push(format!("{name} from .env line {line} {warning}"));
                }
                layer.foreign.extend(foreign::recognize(&name, &value, origin));
            }
        }
    }
    layer
}

/// Reads the TOML file's text; `file` is what messages call it.
pub(crate) fn toml(text: &str, file: &str) -> Layer {
    let mut layer = Layer::default();
    // Editors on Windows write one.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let line_of = |offset: usize| {
        let before = text.as_bytes().get(..offset).unwrap_or(text.as_bytes());
        before.iter().filter(|byte| **byte == b'\n').count() + 1
    };
    let (table, errors) = DeTable::parse_recoverable(text);
    let broken = !errors.is_empty();
    for error in errors {
        let line = error.span().map_or(1, |span| line_of(span.start));
        // The error's Display would quote the line, and with it perhaps a password.
        let message = error.message().escape_debug().to_string();
        let subject = format!("{file} line {line}");
        layer.problems.push(Problem::new(subject, message));
    }
    for (key, value) in table.get_ref() {
        let line = line_of(key.span().start);
        let key = key.get_ref().as_ref();
        let origin = Origin::Toml {
            key: key.escape_debug().to_string(),
            file: file.to_owned(),
            line,
        };
        let mut refuse = |message: String| {
            layer.problems.push(Problem::new(Cited("", &origin), message));
        };
        let known = table::all_names()
            .filter(|named| named.row.indirect())
            .find(|named| table::toml_key(&named.full()) == key);
        let Some(named) = known else {
            // After a syntax error what looks like a key may be a piece of a value.
            if !broken {
                refuse(unknown_key(key, value.get_ref()));
            }
            continue;
        };
        match scalar(value.get_ref()) {
            Some(text) => layer.entries.push(Entry::new(named, text, origin)),
            None => refuse("is not a text, a number or a boolean".into()),
        }
    }
    layer
}

fn unknown_key(key: &str, value: &DeValue<'_>) -> String {
    if key == "cenote_config" {
        return "cannot be set in the file it names".into();
    }
    let advice = match near::closest(key) {
        Some(known) => format!("; did you mean {}?", table::toml_key(&known)),
        None if value.is_table() => "; settings are not grouped in tables".into(),
        None => String::new(),
    };
    format!("is not a setting{advice}")
}

/// The text that would stand for the value in an environment variable.
fn scalar(value: &DeValue<'_>) -> Option<String> {
    match value {
        DeValue::String(text) => Some(text.to_string()),
        DeValue::Integer(number) => Some(
            i128::from_str_radix(number.as_str(), number.radix())
                .map_or_else(|_| number.as_str().to_owned(), |number| number.to_string()),
        ),
        DeValue::Float(number) => Some(number.as_str().to_owned()),
        DeValue::Boolean(value) => Some(value.to_string()),
        DeValue::Datetime(_) | DeValue::Array(_) | DeValue::Table(_) => None,
    }
}
