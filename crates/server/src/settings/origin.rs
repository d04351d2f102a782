//! Where a value was written.
//!
//! Invariant: an origin holds names and places, never a value.

use std::fmt;

/// Where a value comes from. `Display` prints `default`, `environment PORT`, `.env line 3` and the like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// No source sets it.
    Default,
    /// No source sets it; the default follows from the setting named here.
    Follows(&'static str),
    /// A flag, with its dashes.
    CommandLine(String),
    /// An environment variable, as it is written: principal name or alias, perhaps with `_FILE`.
    Environment(String),
    /// A line of `.env` or of the TOML file.
    Line {
        /// The name as it is written.
        name: String,
        /// The file as it was named.
        file: String,
        /// Counted from 1.
        line: usize,
    },
}

impl Origin {
    pub(super) fn line(name: &str, file: &str, line: usize) -> Self {
        let (name, file) = (name.to_owned(), file.to_owned());
        Self::Line { name, file, line }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Follows(name) => write!(f, "default with {name}"),
            Self::CommandLine(_) => f.write_str("command line"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Line { file, line, .. } => write!(f, "{file} line {line}"),
        }
    }
}

impl serde::Serialize for Origin {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Names a value in a message: the name as the user wrote it, and where. The name given here is for defaults.
pub(super) struct Cited<'a>(pub(super) &'static str, pub(super) &'a Origin);

impl fmt::Display for Cited<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Origin::Default | Origin::Follows(_) => write!(f, "{} by default", self.0),
            Origin::CommandLine(flag) => write!(f, "{flag} from the command line"),
            Origin::Environment(name) => write!(f, "{name} from the environment"),
            Origin::Line { name, file, line } => write!(f, "{name} from {file} line {line}"),
        }
    }
}
