//! Rules for garde, and a check of a value against its rules. Invariant: a rule's message says what the value must be, and
//! repeats nothing of it.

use std::borrow::Cow;
use std::fmt::Display;

use garde::Validate;

/// Checks a value against its own garde rules; returns each field that breaks one, with what it must be.
pub(in crate::http) fn broken_rules<T: Validate<Context = ()>>(value: &T) -> Vec<(String, Cow<'static, str>)> {
    let Err(report) = value.validate() else {
        return Vec::new();
    };
    let broken = report.into_inner().into_iter();
    broken
        .map(|(path, error)| (path.to_string(), Cow::Owned(error.message().to_owned())))
        .collect()
}

/// A garde rule, `#[garde(custom(no_nul))]`: the text has no NUL character, which PostgreSQL cannot store.
///
/// # Errors
///
/// If it has one.
pub fn no_nul(text: &str, _context: &()) -> garde::Result {
    if text.as_bytes().contains(&0) {
        return Err(garde::Error::new("must not contain the NUL character"));
    }
    Ok(())
}

/// A garde rule, `#[garde(custom(characters(1, 200)))]`: the text has `min` to `max` characters.
pub fn characters(min: usize, max: usize) -> impl FnOnce(&str, &()) -> garde::Result {
    move |text, ()| match (min..=max).contains(&text.chars().count()) {
        true => Ok(()),
        false => Err(wrong_count("characters", min, max)),
    }
}

/// A garde rule, `#[garde(custom(entries(1, 1000)))]`: the list has `min` to `max` entries.
pub fn entries<T>(min: usize, max: usize) -> impl FnOnce(&[T], &()) -> garde::Result {
    move |list, ()| match (min..=max).contains(&list.len()) {
        true => Ok(()),
        false => Err(wrong_count("entries", min, max)),
    }
}

/// A garde rule, `#[garde(custom(between(1, 1000)))]`: the number is `min` to `max`.
pub fn between<T: PartialOrd + Display>(min: T, max: T) -> impl FnOnce(&T, &()) -> garde::Result {
    move |number, ()| match (&min..=&max).contains(&number) {
        true => Ok(()),
        false => Err(garde::Error::new(format!("must be {min} to {max}"))),
    }
}

fn wrong_count(what: &str, min: usize, max: usize) -> garde::Error {
    garde::Error::new(match min {
        0 => format!("must have at most {max} {what}"),
        _ => format!("must have {min} to {max} {what}"),
    })
}
