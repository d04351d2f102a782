//! Decides which of the texts written for a setting is in force, and reads it.
//!
//! Invariant: of the layers that mention a setting only the highest counts, and within it all texts must agree;
//! whatever is wrong becomes a [`Problem`], so that all problems are found in one run.

use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::error::Problem;
use super::foreign::ForeignName;
use super::parse::Kind;
use super::sources::{Cited, Entry, Layer, Origin};
use super::table::{Fallback, Setting};
use cenote_secret::Secret;

/// What a search for a setting found.
#[derive(Clone, Debug)]
pub(crate) enum Found<T> {
    /// Nobody wrote anything.
    Nothing,
    /// Somebody wrote what cannot be read; the problem is noted.
    Unreadable,
    /// A value.
    Value(T, Origin),
}

impl<T> Found<T> {
    pub(crate) fn value(self) -> Option<T> {
        match self {
            Self::Value(value, _) => Some(value),
            _ => None,
        }
    }

    pub(crate) fn is_nothing(&self) -> bool {
        matches!(self, Self::Nothing)
    }
}

/// The state of one run over all settings.
pub(crate) struct Resolver<'a> {
    /// Highest first.
    layers: Vec<Vec<Entry>>,
    pub(crate) directory: &'a Path,
    pub(crate) problems: Vec<Problem>,
    pub(crate) warnings: Vec<String>,
    /// Names by which other programs know their database.
    pub(crate) foreign: Vec<ForeignName>,
    /// What is in force, as it may be shown, by principal name.
    pub(crate) shown: HashMap<&'static str, (Option<String>, Origin)>,
}

impl<'a> Resolver<'a> {
    pub(crate) fn new(directory: &'a Path) -> Self {
        Self {
            layers: Vec::new(),
            directory,
            problems: Vec::new(),
            warnings: Vec::new(),
            foreign: Vec::new(),
            shown: HashMap::new(),
        }
    }

    /// Adds a layer below those that are there.
    pub(crate) fn push(&mut self, layer: Layer) {
        self.layers.push(layer.entries);
        self.warnings.extend(layer.warnings);
        self.problems.extend(layer.problems);
        self.foreign.extend(layer.foreign);
    }

    pub(crate) fn problem(&mut self, subject: Cited<'_>, message: impl std::fmt::Display) {
        self.problems.push(Problem::new(subject, message));
    }

    /// All layers, for [`Resolver::search`].
    pub(crate) fn everywhere(&self) -> Range<usize> {
        0..self.layers.len()
    }

    /// The highest layer that mentions the setting.
    pub(crate) fn layer_of<K: Kind>(&self, setting: &Setting<K>) -> Option<usize> {
        let name = setting.about.name();
        self.layers
            .iter()
            .position(|layer| layer.iter().any(|entry| entry.setting == name))
    }

    /// Where a layer mentions the setting first.
    pub(crate) fn origin_in<K: Kind>(&self, setting: &Setting<K>, layer: usize) -> Option<Origin> {
        let name = setting.about.name();
        let mut entries = self.layers.get(layer)?.iter();
        let entry = entries.find(|entry| entry.setting == name)?;
        Some(entry.origin.clone())
    }

    /// Reads a setting from the highest of some layers that mentions it. Defaults do not count.
    pub(crate) fn search<K: Kind>(&mut self, setting: &Setting<K>, layers: Range<usize>) -> Found<K::Value> {
        let name = setting.about.name();
        let entries: Vec<Entry> = self
            .layers
            .get(layers)
            .unwrap_or_default()
            .iter()
            .map(|layer| layer.iter().filter(|entry| entry.setting == name))
            .find_map(|entries| {
                let entries: Vec<_> = entries.cloned().collect();
                (!entries.is_empty()).then_some(entries)
            })
            .unwrap_or_default();
        let mut first: Option<(K::Value, Origin)> = None;
        let mut readable = true;
        for entry in &entries {
            let Some(value) = self.read(setting, entry) else {
                readable = false;
                continue;
            };
            match &first {
                None => first = Some((value, entry.origin.clone())),
                Some((other, origin)) if *other != value => {
                    self.conflict(setting, (other, origin), (&value, &entry.origin));
                    readable = false;
                }
                Some(_) => {}
            }
        }
        match first {
            _ if !readable => Found::Unreadable,
            Some((value, origin)) => Found::Value(value, origin),
            None => Found::Nothing,
        }
    }

    /// The file that the value [`search`](Self::search) finds is in, if it is in one.
    pub(crate) fn file_of<K: Kind>(&self, setting: &Setting<K>, layers: Range<usize>) -> Option<PathBuf> {
        let layers = self.layers.get(layers)?;
        let entries = layers.iter().map(|layer| {
            let name = setting.about.name();
            layer.iter().filter(move |entry| entry.setting == name)
        });
        let mut highest = entries.into_iter().find(|entries| entries.clone().next().is_some())?;
        let entry = highest.find(|entry| entry.file)?;
        Some(self.directory.join(entry.text.expose()))
    }

    fn conflict<K: Kind>(
        &mut self,
        setting: &Setting<K>,
        (one, one_origin): (&K::Value, &Origin),
        (two, two_origin): (&K::Value, &Origin),
    ) {
        let name = setting.about.name();
        let (one_cited, two_cited) = (Cited(name, one_origin), Cited(name, two_origin));
        let message = if K::SECRET {
            format!("differs from {two_cited}; they name one setting")
        } else {
            let (one, two) = (setting.kind.show(one), setting.kind.show(two));
            format!("{one:?} differs from {two:?} in {two_cited}; they name one setting")
        };
        self.problem(one_cited, message);
    }

    fn read<K: Kind>(&mut self, setting: &Setting<K>, entry: &Entry) -> Option<K::Value> {
        let cited = Cited(setting.about.name(), &entry.origin);
        let text = match self.content(entry) {
            Ok(text) => text,
            Err(message) => {
                self.problem(cited, message);
                return None;
            }
        };
        let text = text.expose();
        let parsed = setting
            .kind
            .parse(text)
            .and_then(|value| match visible(&setting.kind, text) {
                None => Ok(value),
                Some(complaint) => Err(complaint),
            });
        match parsed {
            Ok(value) => Some(value),
            // A file may hold a secret even where the setting is none: the wrong file was named.
            Err(complaint) if K::SECRET || !K::QUOTED || entry.file => {
                self.problem(cited, format!("the value {complaint}"));
                None
            }
            Err(complaint) => {
                self.problem(cited, format!("{text:?} {complaint}"));
                None
            }
        }
    }

    /// The text, without the line breaks that `echo` and editors leave at its end.
    fn content(&self, entry: &Entry) -> Result<Secret<String>, String> {
        let without_break = |text: &str| text.trim_end_matches(['\n', '\r']).to_owned();
        if !entry.file {
            return Ok(Secret::new(without_break(entry.text.expose())));
        }
        let path = self.directory.join(entry.text.expose());
        // Debug keeps a strange path on one line.
        let bytes = std::fs::read(&path).map_err(|error| format!("cannot read {path:?}: {error}"))?;
        let text = String::from_utf8(bytes).map_err(|_| format!("{path:?} is not UTF-8"))?;
        let text = without_break(text.strip_prefix('\u{feff}').unwrap_or(&text));
        if text.is_empty() {
            return Err(format!("{path:?} is empty"));
        }
        Ok(Secret::new(text))
    }

    /// Records what is in force for the report.
    pub(crate) fn show<K: Kind>(&mut self, setting: &Setting<K>, value: &K::Value, origin: Origin) {
        let text = setting.kind.show(value);
        self.shown.insert(setting.about.name(), (Some(text), origin));
    }

    /// Records that nothing is in force.
    pub(crate) fn show_nothing<K: Kind>(&mut self, setting: &Setting<K>) {
        self.shown.insert(setting.about.name(), (None, Origin::Default));
    }

    /// The value somebody wrote, if any.
    pub(crate) fn optional<K: Kind>(&mut self, setting: &Setting<K>) -> Option<K::Value> {
        let found = self.search(setting, self.everywhere());
        self.show_found(setting, &found);
        found.value()
    }

    pub(crate) fn show_found<K: Kind>(&mut self, setting: &Setting<K>, found: &Found<K::Value>) {
        match found {
            Found::Value(value, origin) => self.show(setting, value, origin.clone()),
            _ => self.show_nothing(setting),
        }
    }

    /// The value somebody wrote, else the table's default.
    ///
    /// After a problem this is a placeholder, which never leaves the module: problems turn the run into an error.
    pub(crate) fn value<K: Kind>(&mut self, setting: &Setting<K>) -> K::Value
    where
        K::Value: Default,
    {
        let (value, origin) = match self.search(setting, self.everywhere()) {
            Found::Value(value, origin) => (value, origin),
            Found::Unreadable => (Default::default(), Origin::Default),
            Found::Nothing => (self.default_of(setting), Origin::Default),
        };
        self.show(setting, &value, origin);
        value
    }

    /// The table's default.
    pub(crate) fn default_of<K: Kind>(&mut self, setting: &Setting<K>) -> K::Value
    where
        K::Value: Default,
    {
        let parsed = match setting.about.fallback {
            Fallback::Is(text) => setting.kind.parse(text),
            Fallback::Else(_) => Err("is in words only".into()),
        };
        parsed.unwrap_or_else(|complaint| {
            // A test of the table keeps this from happening.
            self.problem(Cited(setting.about.name(), &Origin::Default), complaint);
            Default::default()
        })
    }
}

/// Complains of a character that nobody sees and that would be sent as it is.
fn visible<K: Kind>(kind: &K, text: &str) -> Option<String> {
    let hidden = text.chars().find(|c| !kind.allows(*c))?;
    let what = if hidden.is_control() {
        "a control"
    } else {
        "an invisible"
    };
    Some(format!("holds {what} character, U+{:04X}", u32::from(hidden)))
}
