//! Why a body or a query makes no value: every field that is wrong, in words for callers.
//!
//! Invariant: nothing of what was sent is repeated but names of fields, shortened; and the work is bounded, whatever was
//! sent.
//!
//! serde ends at the first error. To find the next, what is wrong is replaced by something that fits, and the rest is
//! looked at again.

use std::borrow::Cow;
use std::fmt;

use garde::Validate;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::error::Category;
use serde_path_to_error::Segment;

use super::problem::Problem;

/// Fields named in one answer.
pub(super) const MOST_FIELDS: usize = 32;
/// Characters of a field's path that are repeated.
const LONGEST_PATH: usize = 128;
/// Bytes that may be looked at again and again to find more than the first field that is wrong.
const MOST_WORK: usize = 1024 * 1024;

/// A field, and what is wrong with it.
#[derive(Debug)]
pub(super) struct Wrong {
    path: Vec<Step>,
    detail: Cow<'static, str>,
    /// Whether it is not there at all.
    missing: bool,
}

/// A step on the way to a field.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Step {
    Key(String),
    Index(usize),
}

/// What is wrong with a body that `error` says is no `T`.
#[cold]
pub(super) fn body<T>(body: &[u8], error: &serde_json::Error) -> Problem
where
    T: DeserializeOwned + Validate<Context = ()>,
{
    if error.classify() != Category::Data {
        return malformed(body, error);
    }
    if !is_object(body) {
        return not_an_object();
    }
    // The text may be wrong further on.
    let mut value = match serde_json::from_slice::<Value>(body) {
        Ok(value) => value,
        Err(error) => return malformed(body, &error),
    };
    let mut all = Vec::new();
    // A field that is given twice is no longer seen in the value.
    let mut text = serde_json::Deserializer::from_slice(body);
    match first_wrong::<T, _>(&mut text) {
        Err(first) if first.detail == TWICE => all.push(first),
        _ => {}
    }
    let mut left = MOST_WORK / body.len().max(1);
    let fitted = loop {
        match first_wrong::<T, _>(&value) {
            Ok(fitted) => break Some(fitted),
            Err(wrong) => {
                let fits = all.len() < MOST_FIELDS && replace::<T>(&mut value, &wrong, &mut left);
                all.push(wrong);
                if !fits {
                    break None;
                }
            }
        }
    };
    let found = all.iter().map(|wrong| (shown(&wrong.path), wrong.detail.clone()));
    let mut found: Vec<_> = found.collect();
    if let Some(Err(report)) = fitted.map(|fitted| fitted.validate()) {
        // What was replaced is named already.
        let own = |path: &str| all.iter().any(|wrong| is_within(path, &shown(&wrong.path)));
        let broken = report.into_inner().into_iter();
        let broken = broken.map(|(path, error)| named(&path, &error));
        found.extend(broken.filter(|(path, _)| !own(path)));
    }
    problem(found)
}

/// The 422 for these fields.
pub(super) fn problem(wrong: impl IntoIterator<Item = (String, Cow<'static, str>)>) -> Problem {
    let wrong = wrong.into_iter().take(MOST_FIELDS);
    wrong.fold(Problem::unprocessable(), |problem, (path, detail)| {
        problem.field(shorten(path), detail)
    })
}

/// Asks the value's own rules.
pub(super) fn broken_rules<T: Validate<Context = ()>>(value: &T) -> Vec<(String, Cow<'static, str>)> {
    let Err(report) = value.validate() else {
        return Vec::new();
    };
    let broken = report.into_inner().into_iter();
    broken.map(|(path, error)| named(&path, &error)).collect()
}

fn named(path: &garde::Path, error: &garde::Error) -> (String, Cow<'static, str>) {
    (path.to_string(), Cow::Owned(error.message().to_owned()))
}

fn malformed(body: &[u8], error: &serde_json::Error) -> Problem {
    if body.trim_ascii().is_empty() {
        return Problem::malformed_json("the body is empty");
    }
    if body.starts_with(b"\xef\xbb\xbf") {
        return Problem::malformed_json("the body begins with a byte order mark; remove it");
    }
    let (line, column) = (error.line(), error.column());
    // serde_json's own words for syntax repeat nothing of the text.
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    Problem::malformed_json(format!("line {line}, column {column}: {what}"))
}

/// serde also reads a struct from an array of its fields, which nobody means.
pub(super) fn is_object(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'{')
}

pub(super) fn not_an_object() -> Problem {
    Problem::unprocessable().field("", "must be an object")
}

/// Reads a `T`, or tells the first field that is wrong.
fn first_wrong<'de, T, D>(deserializer: D) -> Result<T, Wrong>
where
    T: DeserializeOwned,
    D: serde::Deserializer<'de, Error: fmt::Display>,
{
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let steps = error.path().iter().map_while(|segment| match segment {
            Segment::Map { key } => Some(Step::Key(key.clone())),
            Segment::Seq { index } => Some(Step::Index(*index)),
            _ => None,
        });
        let (name, detail) = words(&error.inner().to_string());
        let missing = detail == REQUIRED;
        Wrong {
            path: steps.chain(name.map(Step::Key)).collect(),
            detail,
            missing,
        }
    })
}

/// Puts something that fits in the place of what is wrong, or of what is missing. False if nothing does, or if that
/// would take more than what is `left` of the work.
fn replace<T: DeserializeOwned>(value: &mut Value, wrong: &Wrong, left: &mut usize) -> bool {
    let Some((last, way)) = wrong.path.split_last() else {
        return false;
    };
    let all = [
        Value::from(""),
        Value::Array(Vec::new()),
        Value::from(0),
        Value::from(false),
        Value::Object(serde_json::Map::new()),
        Value::Null,
    ];
    for fitting in all {
        *left = left.saturating_sub(1);
        let place = way.iter().try_fold(&mut *value, |at, step| at.step(step));
        let Some(place) = place else {
            return false;
        };
        match (last, place) {
            (Step::Key(name), Value::Object(fields)) if wrong.missing || fields.contains_key(name) => {
                fields.insert(name.clone(), fitting);
            }
            (Step::Index(index), Value::Array(items)) if *index < items.len() => items[*index] = fitting,
            _ => return false,
        }
        match first_wrong::<T, _>(&*value) {
            Ok(_) => return true,
            Err(next) if !next.path.starts_with(&wrong.path) => return true,
            Err(_) if *left == 0 => return false,
            Err(_) => {}
        }
    }
    false
}

trait Walk {
    fn step(&mut self, step: &Step) -> Option<&mut Self>;
}

impl Walk for Value {
    fn step(&mut self, step: &Step) -> Option<&mut Self> {
        match step {
            Step::Key(name) => self.get_mut(name.as_str()),
            Step::Index(index) => self.get_mut(*index),
        }
    }
}

const REQUIRED: &str = "is required";
const TWICE: &str = "is given twice";

/// serde's words about a value, for callers; and the name of the field, where the words have it. They may repeat the
/// value, so only what stands in the type is taken from them.
pub(super) fn words(words: &str) -> (Option<String>, Cow<'static, str>) {
    let named = |prefix: &str| Some(words.strip_prefix(prefix)?.split('`').next()?.to_owned());
    if let Some(name) = named("missing field `") {
        return (Some(name), REQUIRED.into());
    }
    if let Some(name) = named("duplicate field `") {
        return (Some(name), TWICE.into());
    }
    let expected = words.rsplit_once(", expected ").map_or("", |(_, after)| after);
    let expected = expected.split(" at line ").next().unwrap_or_default();
    let detail = match expected {
        _ if words.starts_with("unknown field ") => "is not known".into(),
        _ if !words.starts_with("invalid ") && !words.starts_with("unknown ") => "is not valid".into(),
        "" => "is not valid".into(),
        "a sequence" => "must be a list".into(),
        "a boolean" => "must be true or false".into(),
        "a map" => "must be an object".into(),
        expected if expected.starts_with("struct ") => "must be an object".into(),
        expected => number(expected).map_or_else(|| format!("must be {expected}").into(), Cow::Borrowed),
    };
    (None, detail)
}

/// What must stand for one of Rust's types of numbers.
pub(super) fn number(kind: &str) -> Option<&'static str> {
    match kind {
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => Some("must be a whole number"),
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => Some("must be a whole number, not below 0"),
        "f32" | "f64" => Some("must be a number"),
        _ => None,
    }
}

/// A path as callers write it: `more[1].email`.
fn shown(path: &[Step]) -> String {
    path.iter().fold(String::new(), |path, step| match step {
        Step::Index(index) => format!("{path}[{index}]"),
        Step::Key(name) if path.is_empty() => name.clone(),
        Step::Key(name) => format!("{path}.{name}"),
    })
}

/// Whether the field is the other, or a part of it.
fn is_within(path: &str, of: &str) -> bool {
    let rest = path.strip_prefix(of);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['.', '[']))
}

fn shorten(path: String) -> String {
    match path.char_indices().nth(LONGEST_PATH) {
        Some((end, _)) => format!("{}…", &path[..end]),
        None => path,
    }
}
