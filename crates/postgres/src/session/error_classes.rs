//! Counts failed commands by the class of their SQLSTATE. Invariant: there is a bounded number of classes, whatever servers
//! send.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::Error;

/// The classes of errors in PostgreSQL's documentation, appendix A, sorted. Then those that have none: `none` without an
/// SQLSTATE, such as a lost connection, and `other`.
const CLASSES: [&str; 43] = [
    "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "22", "23", "24", "25", "26", "27", "28",
    "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "40", "42", "44", "53", "54", "55", "57", "58", "72", "F0",
    "HV", "P0", "XX", "none", "other",
];
const NONE: usize = CLASSES.len() - 2;
const OTHER: usize = CLASSES.len() - 1;

/// The number of failed commands of each class.
#[derive(Debug)]
pub(crate) struct ErrorClasses([AtomicU64; CLASSES.len()]);

impl Default for ErrorClasses {
    fn default() -> Self {
        Self([const { AtomicU64::new(0) }; CLASSES.len()])
    }
}

impl ErrorClasses {
    pub(crate) fn count(&self, error: &Error) {
        let class = error.code().map_or(NONE, |code| class_of(code.code()));
        self.0[class].fetch_add(1, Relaxed);
    }

    /// Those of each class that has any.
    pub(crate) fn by_class(&self) -> Vec<(&'static str, u64)> {
        let counts = self.0.iter().map(|count| count.load(Relaxed));
        CLASSES
            .into_iter()
            .zip(counts)
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

fn class_of(code: &str) -> usize {
    let class = code.get(..2).unwrap_or_default();
    CLASSES[..NONE].binary_search(&class).unwrap_or(OTHER)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_of_the_class_of_its_first_two_characters() {
        for (code, class) in [
            ("40P01", "40"),
            ("03000", "03"),
            ("XX000", "XX"),
            ("ZZ000", "other"),
            ("", "other"),
        ] {
            assert_eq!(CLASSES[class_of(code)], class);
        }
        assert!(CLASSES[..NONE].is_sorted());
    }

    #[test]
    fn an_error_without_a_code_is_of_no_class() {
        let errors = ErrorClasses::default();
        errors.count(&Error::RolledBack);
        assert_eq!(errors.by_class(), [("none", 1)]);
    }
}
