//! Keeps secrets out of logs, errors and debug output. Invariant: the only ways to the value are [`Secret::expose`] and
//! [`Secret::into_exposed`]; `Debug` and `Display` print `***`.

#![warn(clippy::significant_drop_tightening)]

use std::fmt;

/// What is printed in place of a secret.
pub const REDACTED: &str = "***";

/// A value that must not be printed: a password, a private key, a URL with a password.
///
/// ```
/// use cenote_secret::Secret;
///
/// let password = Secret::new("hunter2".to_owned());
/// assert_eq!(format!("{password} {password:?}"), "*** ***");
/// assert_eq!(password.expose(), "hunter2");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Secret<T>(T);

impl<T> Secret<T> {
    /// Wraps a value that must not be printed.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself. Do not log what this returns.
    pub const fn expose(&self) -> &T {
        &self.0
    }

    /// The value itself, unwrapped. Do not log what this returns.
    pub fn into_exposed(self) -> T {
        self.0
    }
}

impl<T> From<T> for Secret<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

impl<T> fmt::Display for Secret<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(REDACTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_as_stars_however_it_is_formatted() {
        let secret = Secret::new("hunter2");
        assert_eq!(format!("{secret} {secret:?} {secret:#?}"), "*** *** ***");
        assert_eq!(*secret.expose(), "hunter2");
    }
}
