//! Decides which of the texts written for a setting is in force, and parses it.
//!
//! Invariant: of the sources that mention a setting only the highest counts, and within it all texts must agree.
//! Whatever is wrong becomes a line of `problems`, so that one run finds all problems.

use std::collections::HashMap;
use std::fmt::Display;
use std::fs;
use std::path::{Path, PathBuf};

use cenote_secret::Secret;

use super::foreign::ForeignName;
use super::origin::{Cited, Origin};
use super::parse::{Form, Kind};
use super::problem::SettingProblem;
use super::typed::Settings;

/// What is in force when no source sets a setting.
#[derive(Clone, Copy)]
pub(super) enum Fallback {
    /// This value.
    Is(&'static str),
    /// No value, or one that follows from other settings; in words.
    Else(&'static str),
}

/// How a running service takes over a new value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reload {
    /// A reload does it.
    Live,
    /// A reload does it if nothing but the password of a URL is new.
    Password,
    /// It needs a restart.
    Restart,
}

impl Reload {
    /// As the documentation calls it.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Password => "restart; the password live",
            Self::Restart => "restart",
        }
    }
}

/// All of a setting that does not depend on the type of its value.
pub(super) struct About {
    pub(super) group: &'static str,
    /// The principal name, then the aliases.
    pub(super) names: &'static [&'static str],
    pub(super) fallback: Fallback,
    pub(super) help: &'static str,
    pub(super) is_secret: bool,
    pub(super) is_switch: bool,
    pub(super) reload: Reload,
}

impl About {
    pub(super) fn name(&self) -> &'static str {
        self.names[0]
    }

    /// Whether the value may be in the TOML file or in one of its own. `CENOTE_CONFIG` names the TOML file, and other
    /// names of files end in `_FILE` already.
    pub(super) fn may_be_in_file(&self) -> bool {
        self.name() != "CENOTE_CONFIG" && !self.name().ends_with("_FILE")
    }
}

/// A row of the table.
pub(super) struct Setting<K: Kind> {
    pub(super) about: About,
    pub(super) kind: K,
    /// Where the value goes. `None`: a rule reads the setting together with others.
    pub(super) set: Option<fn(&mut Settings, K::Value)>,
}

/// A row, whatever the type of its value.
pub(super) trait Row: Sync {
    fn about(&self) -> &About;

    /// What the value may be, for the documentation.
    fn form(&self) -> Form;

    /// Stores the value in force, if there is one and the row knows where it goes.
    fn apply(&self, resolver: &mut Resolver, settings: &mut Settings);
}

impl<K: Kind> Row for Setting<K> {
    fn about(&self) -> &About {
        &self.about
    }

    fn form(&self) -> Form {
        self.kind.form()
    }

    fn apply(&self, resolver: &mut Resolver, settings: &mut Settings) {
        if let Some(set) = self.set
            && let Some(value) = resolver.get(self)
        {
            set(settings, value);
        }
    }
}

/// A text that a source has for a setting.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    /// The setting's principal name.
    pub(super) setting: &'static str,
    /// Whether `text` names the file that holds the value.
    pub(super) is_file: bool,
    /// A secret, because any setting may be one.
    pub(super) text: Secret<String>,
    pub(super) origin: Origin,
    /// The rank of the source; 0 is the highest.
    pub(super) source: usize,
}

/// A value in force.
pub(super) struct Shown {
    /// The value without secrets.
    pub(super) value: String,
    pub(super) origin: Origin,
    /// The text of a secret, to compare it with another.
    pub(super) secret: Option<Secret<String>>,
}

/// The state of one run over all settings.
#[derive(Default)]
pub(super) struct Resolver {
    pub(super) entries: Vec<Entry>,
    /// Where relative paths start.
    pub(super) directory: PathBuf,
    pub(super) problems: Vec<SettingProblem>,
    pub(super) warnings: Vec<String>,
    /// Names by which other programs know their database.
    pub(super) foreign: Vec<ForeignName>,
    /// What is in force, by principal name.
    pub(super) shown: HashMap<&'static str, Shown>,
}

impl Resolver {
    pub(super) fn problem(&mut self, subject: impl Display, message: impl Display) {
        self.problems.push(SettingProblem {
            subject: subject.to_string(),
            message: message.to_string(),
        });
    }

    pub(super) fn warn(&mut self, warning: String) {
        self.warnings.push(warning);
    }

    /// Adds a problem with the value of this setting that is in force.
    pub(super) fn problem_with(&mut self, row: &dyn Row, message: impl Display) {
        self.problem(self.cite(row), message);
    }

    /// Returns the setting as it is called in a message: by the name that was written, and where.
    pub(super) fn cite(&self, row: &dyn Row) -> String {
        Cited(row.about().name(), &self.origin(row)).to_string()
    }

    /// The rank of the highest source that mentions the setting.
    pub(super) fn source_of(&self, row: &dyn Row) -> Option<usize> {
        let of_setting = self.entries.iter().filter(|entry| entry.setting == row.about().name());
        of_setting.map(|entry| entry.source).min()
    }

    /// Whether a source mentions the setting, readable or not.
    pub(super) fn is_set(&self, row: &dyn Row) -> bool {
        self.source_of(row).is_some()
    }

    /// The entries of the highest source that mentions the setting.
    fn in_force(&self, row: &dyn Row) -> impl Iterator<Item = &Entry> {
        let (name, highest) = (row.about().name(), self.source_of(row));
        let is_in_force = move |entry: &&Entry| entry.setting == name && Some(entry.source) == highest;
        self.entries.iter().filter(is_in_force)
    }

    /// Where the value comes from: as it is shown, else as it is written.
    pub(super) fn origin(&self, row: &dyn Row) -> Origin {
        let shown = self.shown.get(row.about().name()).map(|shown| &shown.origin);
        let written = || self.in_force(row).next().map(|entry| &entry.origin);
        shown.or_else(written).cloned().unwrap_or(Origin::Default)
    }

    /// The file that holds the value, if the value is in one.
    pub(super) fn file_of(&self, row: &dyn Row) -> Option<PathBuf> {
        let entry = self.in_force(row).find(|entry| entry.is_file)?;
        Some(self.directory.join(entry.text.expose()))
    }

    /// Parses the value in force, or else the default of the table, and records it for the report. `None` if there is
    /// neither, or a problem.
    pub(super) fn get<K: Kind>(&mut self, setting: &Setting<K>) -> Option<K::Value> {
        let mut entries: Vec<Entry> = self.in_force(setting).cloned().collect();
        if let (true, Fallback::Is(text)) = (entries.is_empty(), setting.about.fallback) {
            entries.push(Entry {
                setting: setting.about.name(),
                is_file: false,
                text: Secret::new(text.to_owned()),
                origin: Origin::Default,
                source: usize::MAX,
            });
        }
        let parsed = |entry| {
            let (value, text) = self.parse(setting, entry)?;
            Some((entry, value, text))
        };
        let parsed: Vec<(&Entry, K::Value, Secret<String>)> = entries.iter().filter_map(parsed).collect();
        let (first, value, text) = parsed.first()?;
        let conflicts: Vec<_> = parsed.iter().filter(|(_, other, _)| other != value).collect();
        for (entry, other, _) in &conflicts {
            let message = match K::SECRET {
                true => format!("differs from {}", entry.cited()),
                false => {
                    let (value, other) = (setting.kind.show(value), setting.kind.show(other));
                    format!("{value:?} differs from {other:?} in {}", entry.cited())
                }
            };
            self.problem(first.cited(), message + "; they name one setting");
        }
        if !conflicts.is_empty() || parsed.len() < entries.len() {
            return None;
        }
        let shown = Shown {
            value: setting.kind.show(value),
            origin: first.origin.clone(),
            secret: K::SECRET.then(|| text.clone()),
        };
        self.shown.insert(setting.about.name(), shown);
        Some(value.clone())
    }

    /// Returns the value and its text.
    fn parse<K: Kind>(&mut self, setting: &Setting<K>, entry: &Entry) -> Option<(K::Value, Secret<String>)> {
        let secret = match entry.content(&self.directory) {
            Ok(text) => text,
            Err(message) => {
                self.problem(entry.cited(), message);
                return None;
            }
        };
        let text = secret.expose();
        let hidden = text.chars().find(|c| !setting.kind.allows(*c));
        let complaint = match (setting.kind.parse(text), hidden) {
            (Ok(value), None) => return Some((value, secret)),
            // Nobody sees the character, and it would be sent as it is.
            (Ok(_), Some(hidden)) => {
                let what = if hidden.is_control() {
                    "a control"
                } else {
                    "an invisible"
                };
                format!("holds {what} character, U+{:04X}", u32::from(hidden))
            }
            (Err(complaint), _) => complaint,
        };
        // A file may hold a secret even where the setting is none: the wrong file was named. So may a URL with a user.
        match K::SECRET || !K::QUOTED || entry.is_file || text.contains('@') {
            true => self.problem(entry.cited(), format!("the value {complaint}")),
            false => self.problem(entry.cited(), format!("{text:?} {complaint}")),
        }
        None
    }

    /// Records for the report what is in force without having been written for the setting.
    pub(super) fn show<K: Kind>(&mut self, setting: &Setting<K>, value: &K::Value, origin: Origin) {
        let shown = Shown {
            value: setting.kind.show(value),
            origin,
            secret: None,
        };
        self.shown.insert(setting.about.name(), shown);
    }

    /// Whether a value or a default of the setting is in force.
    pub(super) fn has_value(&self, row: &dyn Row) -> bool {
        self.shown.contains_key(row.about().name())
    }

    /// Sets a value that follows from the setting `from`.
    pub(super) fn follow<K: Kind>(&mut self, setting: &Setting<K>, value: K::Value, from: &dyn Row, to: &mut Settings) {
        self.show(setting, &value, Origin::Follows(from.about().name()));
        if let Some(set) = setting.set {
            set(to, value);
        }
    }
}

impl Entry {
    fn cited(&self) -> Cited<'_> {
        Cited(self.setting, &self.origin)
    }

    /// Reads the text, without the line breaks that `echo` and editors leave at its end.
    fn content(&self, directory: &Path) -> Result<Secret<String>, String> {
        let without_break = |text: &str| text.trim_end_matches(['\n', '\r']).to_owned();
        if !self.is_file {
            return Ok(Secret::new(without_break(self.text.expose())));
        }
        let path = directory.join(self.text.expose());
        // Debug keeps a strange path on one line.
        let bytes = fs::read(&path).map_err(|error| format!("cannot read {path:?}: {error}"))?;
        let text = String::from_utf8(bytes).map_err(|_| format!("{path:?} is not UTF-8"))?;
        // Editors on Windows begin a file with a byte order mark.
        let text = without_break(text.strip_prefix('\u{feff}').unwrap_or(&text));
        match text.is_empty() {
            true => Err(format!("{path:?} is empty")),
            false => Ok(Secret::new(text)),
        }
    }
}
