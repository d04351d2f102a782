//! Texts: names, secrets, paths, and values that their own types parse.
//!
//! Invariant: blanks around a text are refused or dropped, never a part of the value; a password is taken as it is.

use std::fmt::Display;
use std::path::PathBuf;

use cenote_secret::Secret;

use super::{Form, Kind, kinds};

/// A value that the part of the service that uses it parses, and that prints itself: what stands for it in `--help`, the
/// description, and the parser, whose error continues a sentence that starts with the value.
pub(crate) struct Parsed<T>(
    pub(crate) &'static str,
    pub(crate) &'static str,
    pub(crate) fn(&str) -> Result<T, String>,
);

impl<T: Display + Clone + PartialEq> Kind for Parsed<T> {
    type Value = T;

    fn parse(&self, text: &str) -> Result<T, String> {
        self.2(text)
    }

    fn show(&self, value: &T) -> String {
        value.to_string()
    }

    fn form(&self) -> Form {
        Form(self.0, self.1.to_owned())
    }
}

kinds! {
    /// A name in the database.
    Text: String, "TEXT", "text", name, String::clone, { const QUOTED: bool = false; };

    /// A text that must not be printed.
    Password: Secret<String>, "SECRET", "text", password, Secret::to_string, {
        const SECRET: bool = true;

        fn allows(&self, c: char) -> bool {
            !c.is_control()
        }
    };

    /// A file or a directory.
    Location: PathBuf, "PATH", "path", |text| without_blanks_around(text).map(PathBuf::from),
        |path: &PathBuf| path.display().to_string();
}

fn not_empty(text: &str) -> Result<&str, String> {
    match text.is_empty() {
        true => Err("is empty".into()),
        false => Ok(text),
    }
}

fn without_blanks_around(text: &str) -> Result<&str, String> {
    match not_empty(text)?.trim() == text {
        true => Ok(text),
        false => Err("starts or ends with a blank".into()),
    }
}

fn name(text: &str) -> Result<String, String> {
    match without_blanks_around(text)?.contains("://") {
        true => Err("is a URL; set DATABASE_URL to it instead".into()),
        false => Ok(text.to_owned()),
    }
}

fn password(text: &str) -> Result<Secret<String>, String> {
    Ok(Secret::new(not_empty(text)?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_nobody_sees_is_not_part_of_a_value() {
        for c in ['\u{200b}', '\u{feff}', '\u{202e}', '\t', '\0', '\u{7f}'] {
            assert!(!Text.allows(c), "{c:?}");
        }
        for c in ['a', 'é', ' ', '語'] {
            assert!(Text.allows(c), "{c:?}");
        }
        assert!(Password.allows('\u{200b}') && !Password.allows('\n'));
    }
}
