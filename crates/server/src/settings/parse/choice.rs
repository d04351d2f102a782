//! Words of which a setting takes one.
//!
//! Invariant: upper and lower case mean the same.

use super::{Form, Kind, kinds};

/// One of a few words, each of which stands for a value.
pub(crate) struct OneOf<T: 'static>(pub(crate) &'static [(&'static str, T)]);

impl<T: Copy + PartialEq + Sync> Kind for OneOf<T> {
    type Value = T;

    fn parse(&self, text: &str) -> Result<T, String> {
        let found = self.0.iter().find(|(word, _)| text.trim().eq_ignore_ascii_case(word));
        found
            .map(|(_, value)| *value)
            .ok_or_else(|| format!("is not one of {}", self.form().1))
    }

    fn show(&self, value: &T) -> String {
        let found = self.0.iter().find(|(_, other)| other == value);
        found.map_or_else(String::new, |(word, _)| (*word).to_owned())
    }

    fn form(&self) -> Form {
        let words: Vec<_> = self.0.iter().map(|(word, _)| *word).collect();
        Form("WORD", words.join(", "))
    }
}

kinds! {
    /// A boolean.
    Switch: bool, "BOOL", "true or false", switch, bool::to_string, { const SWITCH: bool = true; };
}

fn switch(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("is not true, false, 1, 0, yes, no, on or off".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_switch_knows_eight_words_in_any_case() {
        for text in ["true", "1", "yes", "on", "TRUE", "Yes"] {
            assert_eq!(Switch.parse(text), Ok(true), "{text}");
        }
        for text in ["false", "0", "no", "off", "OFF"] {
            assert_eq!(Switch.parse(text), Ok(false), "{text}");
        }
        assert!(Switch.parse("maybe").is_err());
        assert!(Switch.parse("2").is_err());
    }
}
