//! The error of a connection string. Invariant: it quotes no value of the text.

use std::borrow::Cow;

/// Why a text is not a connection string. Its text continues a sentence that starts with "the database URL", and quotes
/// no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidUrl(Cow<'static, str>);

impl From<&'static str> for InvalidUrl {
    fn from(problem: &'static str) -> Self {
        Self(Cow::Borrowed(problem))
    }
}

impl From<String> for InvalidUrl {
    fn from(problem: String) -> Self {
        Self(Cow::Owned(problem))
    }
}

pub(super) type Result<T> = std::result::Result<T, InvalidUrl>;
