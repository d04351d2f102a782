//! Explains to the caller why a body or a query is not valid: it finds every wrong field, not only the first.
//!
//! Invariant: the explanation repeats nothing of the input but the names of fields, shortened. Its work is bounded for
//! every input.
//!
//! serde stops at the first error. To find the next one, the wrong part is replaced by a value that fits, and the rest is
//! deserialized again.

use std::borrow::Cow;
use std::fmt;

use garde::Validate;
use serde::de::DeserializeOwned;
use serde_json::Value;
use serde_json::error::Category;

use super::rules::broken_rules;
use crate::http::problem::Problem;

/// Most fields named in one response.
pub(in crate::http) const MAX_FIELDS: usize = 32;
/// Most characters of a field's path in a response.
const LONGEST_PATH: usize = 128;
/// Most bytes deserialized, over all attempts, to find further wrong fields.
const MAX_WORK: usize = 1024 * 1024;

/// A wrong field.
#[derive(Debug)]
struct WrongField {
    path: Vec<Segment>,
    detail: Cow<'static, str>,
    /// Whether the field is required and absent.
    missing: bool,
}

/// One segment of a field's path.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Key(String),
    Index(usize),
}

/// Returns the problem with a body that is not a valid `T`, as `error` says.
#[cold]
pub(in crate::http) fn explain_json<T>(body: &[u8], error: &serde_json::Error) -> Problem
where
    T: DeserializeOwned + Validate<Context = ()>,
{
    if error.classify() != Category::Data {
        return malformed(body, error);
    }
    if !is_object(body) {
        return not_an_object();
    }
    // Behind the first wrong field the text may not even be JSON.
    let mut value = match serde_json::from_slice::<Value>(body) {
        Ok(value) => value,
        Err(error) => return malformed(body, &error),
    };
    let mut all = Vec::new();
    // A duplicate field is visible only in the text, not in the value.
    let mut text = serde_json::Deserializer::from_slice(body);
    match first_wrong::<T, _>(&mut text) {
        Err(first) if first.detail == TWICE => all.push(first),
        _ => {}
    }
    let mut left = MAX_WORK / body.len().max(1);
    let fitted = loop {
        match first_wrong::<T, _>(&value) {
            Ok(fitted) => break Some(fitted),
            Err(wrong) => {
                let fits = all.len() < MAX_FIELDS && replace::<T>(&mut value, &wrong, &mut left);
                all.push(wrong);
                if !fits {
                    break None;
                }
            }
        }
    };
    let found = all.iter().map(|wrong| (shown(&wrong.path), wrong.detail.clone()));
    let mut found: Vec<_> = found.collect();
    if let Some(fitted) = fitted {
        // A replaced value is named already; that the replacement breaks a rule says nothing.
        let is_replaced = |path: &str| all.iter().any(|wrong| is_within(path, &shown(&wrong.path)));
        let broken = broken_rules(&fitted).into_iter();
        found.extend(broken.filter(|(path, _)| !is_replaced(path)));
    }
    fields_problem(found)
}

/// Returns the 422 that names these fields.
pub(in crate::http) fn fields_problem(wrong: impl IntoIterator<Item = (String, Cow<'static, str>)>) -> Problem {
    let wrong = wrong.into_iter().take(MAX_FIELDS);
    wrong.fold(Problem::unprocessable(), |problem, (path, detail)| {
        problem.field(shorten(path), detail)
    })
}

fn malformed(body: &[u8], error: &serde_json::Error) -> Problem {
    if body.trim_ascii().is_empty() {
        return Problem::malformed_json("the body is empty");
    }
    if body.starts_with(b"\xef\xbb\xbf") {
        return Problem::malformed_json("the body begins with a byte order mark; remove it");
    }
    let (line, column) = (error.line(), error.column());
    // serde_json's messages about syntax repeat nothing of the text.
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    Problem::malformed_json(format!("line {line}, column {column}: {what}"))
}

/// Whether the body is a JSON object. serde also reads a struct from an array of its fields, which no caller intends.
pub(in crate::http) fn is_object(body: &[u8]) -> bool {
    body.trim_ascii_start().first() == Some(&b'{')
}

pub(in crate::http) fn not_an_object() -> Problem {
    Problem::unprocessable().field("", "must be an object")
}

/// Deserializes a `T`, or returns the first wrong field.
fn first_wrong<'de, T, D>(deserializer: D) -> Result<T, WrongField>
where
    T: DeserializeOwned,
    D: serde::Deserializer<'de, Error: fmt::Display>,
{
    serde_path_to_error::deserialize(deserializer).map_err(|error| {
        let segments = error.path().iter().map_while(|segment| match segment {
            serde_path_to_error::Segment::Map { key } => Some(Segment::Key(key.clone())),
            serde_path_to_error::Segment::Seq { index } => Some(Segment::Index(*index)),
            _ => None,
        });
        let (name, detail) = describe(&error.inner().to_string());
        let missing = detail == REQUIRED;
        WrongField {
            path: segments.chain(name.map(Segment::Key)).collect(),
            detail,
            missing,
        }
    })
}

/// Replaces a wrong or missing field by a value that fits. Returns false if no candidate fits, or if fewer than the
/// needed attempts are `left`.
fn replace<T: DeserializeOwned>(value: &mut Value, wrong: &WrongField, left: &mut usize) -> bool {
    let Some((last, parents)) = wrong.path.split_last() else {
        return false;
    };
    let candidates = [
        Value::from(""),
        Value::Array(Vec::new()),
        Value::from(0),
        Value::from(false),
        Value::Object(serde_json::Map::new()),
        Value::Null,
    ];
    for candidate in candidates {
        *left = left.saturating_sub(1);
        let parent = parents.iter().try_fold(&mut *value, |value, segment| match segment {
            Segment::Key(name) => value.get_mut(name.as_str()),
            Segment::Index(index) => value.get_mut(*index),
        });
        let Some(parent) = parent else {
            return false;
        };
        match (last, parent) {
            (Segment::Key(name), Value::Object(fields)) if wrong.missing || fields.contains_key(name) => {
                fields.insert(name.clone(), candidate);
            }
            (Segment::Index(index), Value::Array(items)) if *index < items.len() => items[*index] = candidate,
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

const REQUIRED: &str = "is required";
const TWICE: &str = "is given twice";

/// Rewrites one of serde's messages for callers. Returns the name of the field too, where the message has it.
///
/// serde's messages may repeat the value, so only the parts that come from the type are used.
pub(in crate::http) fn describe(message: &str) -> (Option<String>, Cow<'static, str>) {
    let named = |prefix: &str| Some(message.strip_prefix(prefix)?.split('`').next()?.to_owned());
    if let Some(name) = named("missing field `") {
        return (Some(name), REQUIRED.into());
    }
    if let Some(name) = named("duplicate field `") {
        return (Some(name), TWICE.into());
    }
    let expected = message.rsplit_once(", expected ").map_or("", |(_, after)| after);
    let expected = expected.split(" at line ").next().unwrap_or_default();
    let detail = match expected {
        _ if message.starts_with("unknown field ") => "is not known".into(),
        _ if !message.starts_with("invalid ") && !message.starts_with("unknown ") => "is not valid".into(),
        "" => "is not valid".into(),
        "a sequence" => "must be a list".into(),
        "a boolean" => "must be true or false".into(),
        "a map" => "must be an object".into(),
        expected if expected.starts_with("struct ") => "must be an object".into(),
        expected => expected_number(expected).map_or_else(|| format!("must be {expected}").into(), Cow::Borrowed),
    };
    (None, detail)
}

/// Says what a value of one of Rust's number types must be; `None` for other types.
pub(in crate::http) fn expected_number(kind: &str) -> Option<&'static str> {
    match kind {
        "i8" | "i16" | "i32" | "i64" | "i128" | "isize" => Some("must be a whole number"),
        "u8" | "u16" | "u32" | "u64" | "u128" | "usize" => Some("must be a whole number, not below 0"),
        "f32" | "f64" => Some("must be a number"),
        _ => None,
    }
}

/// Formats a path the way callers write it: `more[1].email`.
fn shown(path: &[Segment]) -> String {
    path.iter().fold(String::new(), |path, step| match step {
        Segment::Index(index) => format!("{path}[{index}]"),
        Segment::Key(name) if path.is_empty() => name.clone(),
        Segment::Key(name) => format!("{path}.{name}"),
    })
}

/// Whether the field at `path` is the field at `of`, or a part of it.
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
