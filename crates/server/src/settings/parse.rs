//! Reads and prints the kinds of value a setting can have.
//!
//! Invariant: for every kind `parse(show(value)) == value`, unless the kind is secret; no parser panics,
//! and no complaint quotes the text it complains about (the caller knows whether it may).

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use cenote_secret::{REDACTED, Secret};

/// The kind of value a setting takes.
pub(crate) trait Kind: Sync {
    /// What the rest of the program sees.
    type Value: Clone + PartialEq;

    /// Whether the value may be printed.
    const SECRET: bool = false;
    /// What stands for the value in `--help`.
    const PLACEHOLDER: &'static str;
    /// Whether the value may come from the TOML file or from `NAME_FILE`.
    const INDIRECT: bool = true;
    /// Whether the bare flag means `true`.
    const SWITCH: bool = false;

    /// Reads the value. The error continues a sentence that starts with the value: "is not a whole number".
    fn parse(&self, text: &str) -> Result<Self::Value, String>;

    /// Prints the value, without its secrets.
    fn show(&self, value: &Self::Value) -> String;

    /// What the value may be, for the documentation.
    fn describe(&self) -> String;
}

/// A whole number within a range.
pub(crate) struct Whole<T>(pub(crate) RangeInclusive<T>);

impl<T> Kind for Whole<T>
where
    T: TryFrom<u64> + PartialOrd + Copy + fmt::Display + Sync,
{
    type Value = T;
    const PLACEHOLDER: &'static str = "N";

    fn parse(&self, text: &str) -> Result<T, String> {
        let text = text.trim();
        if text.starts_with("tcp://") {
            return Err(
                "is not a whole number; Kubernetes sets such a variable for a Service, \
                 `enableServiceLinks: false` in the pod prevents it"
                    .into(),
            );
        }
        let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("is not a whole number".into());
        }
        text.parse::<u64>()
            .ok()
            .and_then(|number| T::try_from(number).ok())
            .filter(|number| self.0.contains(number))
            .ok_or_else(|| format!("is not within {} to {}", self.0.start(), self.0.end()))
    }

    fn show(&self, value: &T) -> String {
        value.to_string()
    }

    fn describe(&self) -> String {
        format!("whole number, {} to {}", self.0.start(), self.0.end())
    }
}

/// Yes or no.
pub(crate) struct Switch;

impl Kind for Switch {
    type Value = bool;
    const PLACEHOLDER: &'static str = "BOOL";
    const SWITCH: bool = true;

    fn parse(&self, text: &str) -> Result<bool, String> {
        match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" | "yes" | "on" => Ok(true),
            "false" | "0" | "no" | "off" => Ok(false),
            _ => Err("is not true, false, 1, 0, yes, no, on or off".into()),
        }
    }

    fn show(&self, value: &bool) -> String {
        value.to_string()
    }

    fn describe(&self) -> String {
        "true or false".into()
    }
}

/// A size in bytes.
pub(crate) struct Bytes(pub(crate) RangeInclusive<usize>);

impl Kind for Bytes {
    type Value = usize;
    const PLACEHOLDER: &'static str = "BYTES";

    fn parse(&self, text: &str) -> Result<usize, String> {
        let text = text.trim().to_ascii_lowercase();
        let (number, unit) = if let Some(number) = text.strip_suffix('k') {
            (number, 1 << 10)
        } else if let Some(number) = text.strip_suffix('m') {
            (number, 1 << 20)
        } else {
            (text.as_str(), 1)
        };
        let number = number.trim_end();
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err("is not a number of bytes such as 65536, 64k or 1m".into());
        }
        number
            .parse::<usize>()
            .ok()
            .and_then(|number| number.checked_mul(unit))
            .filter(|bytes| self.0.contains(bytes))
            .ok_or_else(|| format!("is not within {} to {}", self.0.start(), self.0.end()))
    }

    fn show(&self, value: &usize) -> String {
        value.to_string()
    }

    fn describe(&self) -> String {
        format!("bytes, {} to {}", self.0.start(), self.0.end())
    }
}

/// One of a few words.
pub(crate) struct OneOf<T: 'static>(pub(crate) &'static [(&'static str, T)]);

impl<T> OneOf<T> {
    fn words(&self) -> String {
        let words: Vec<_> = self.0.iter().map(|(word, _)| *word).collect();
        words.join(", ")
    }
}

impl<T: Copy + PartialEq + Sync> Kind for OneOf<T> {
    type Value = T;
    const PLACEHOLDER: &'static str = "WORD";

    fn parse(&self, text: &str) -> Result<T, String> {
        self.0
            .iter()
            .find(|(word, _)| text.trim().eq_ignore_ascii_case(word))
            .map(|(_, value)| *value)
            .ok_or_else(|| format!("is not one of {}", self.words()))
    }

    fn show(&self, value: &T) -> String {
        let found = self.0.iter().find(|(_, other)| other == value);
        found.map_or_else(String::new, |(word, _)| (*word).to_owned())
    }

    fn describe(&self) -> String {
        self.words()
    }
}

/// Text without a form of its own.
pub(crate) struct Text(pub(crate) &'static str);

impl Kind for Text {
    type Value = String;
    const PLACEHOLDER: &'static str = "TEXT";

    fn parse(&self, text: &str) -> Result<String, String> {
        if text.is_empty() {
            return Err("is empty".into());
        }
        // PostgreSQL and the operating system end a text at NUL.
        if text.contains('\0') {
            return Err("holds a NUL character".into());
        }
        Ok(text.to_owned())
    }

    fn show(&self, value: &String) -> String {
        value.clone()
    }

    fn describe(&self) -> String {
        self.0.into()
    }
}

/// Text that must not be printed.
pub(crate) struct Password;

impl Kind for Password {
    type Value = Secret<String>;
    const SECRET: bool = true;
    const PLACEHOLDER: &'static str = "SECRET";

    fn parse(&self, text: &str) -> Result<Self::Value, String> {
        Text("").parse(text).map(Secret::new)
    }

    fn show(&self, _: &Self::Value) -> String {
        REDACTED.into()
    }

    fn describe(&self) -> String {
        "text".into()
    }
}

/// An address or a host name to listen on.
pub(crate) struct ListenHost;

impl Kind for ListenHost {
    type Value = String;
    const PLACEHOLDER: &'static str = "HOST";

    fn parse(&self, text: &str) -> Result<String, String> {
        let text = text.trim();
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        let name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if bare.parse::<std::net::IpAddr>().is_ok()
            || (!bare.is_empty() && bare.len() < 254 && bare.bytes().all(name))
        {
            Ok(bare.to_owned())
        } else {
            Err("is not an IP address or a host name (the port goes into PORT)".into())
        }
    }

    fn show(&self, value: &String) -> String {
        value.clone()
    }

    fn describe(&self) -> String {
        "IP address or host name".into()
    }
}

/// A file or a directory.
pub(crate) struct Location;

impl Kind for Location {
    type Value = PathBuf;
    const PLACEHOLDER: &'static str = "PATH";

    fn parse(&self, text: &str) -> Result<PathBuf, String> {
        Text("").parse(text).map(PathBuf::from)
    }

    fn show(&self, value: &PathBuf) -> String {
        value.display().to_string()
    }

    fn describe(&self) -> String {
        "path".into()
    }
}

/// The TOML file, which therefore cannot be named in the TOML file.
pub(crate) struct ConfigFile;

impl Kind for ConfigFile {
    type Value = PathBuf;
    const PLACEHOLDER: &'static str = "FILE";
    const INDIRECT: bool = false;

    fn parse(&self, text: &str) -> Result<PathBuf, String> {
        Location.parse(text)
    }

    fn show(&self, value: &PathBuf) -> String {
        Location.show(value)
    }

    fn describe(&self) -> String {
        "path".into()
    }
}

/// Directives of a tracing filter.
pub(crate) struct LogFilter;

impl Kind for LogFilter {
    type Value = String;
    const PLACEHOLDER: &'static str = "FILTER";

    fn parse(&self, text: &str) -> Result<String, String> {
        // tracing-subscriber 0.3.23 cuts such a text between the bytes of a character, and panics.
        if !text.is_ascii() {
            return Err("holds a character that is not ASCII".into());
        }
        match tracing_subscriber::EnvFilter::builder().parse(text) {
            Ok(_) => Ok(text.to_owned()),
            Err(_) => Err("is not a filter such as info or info,cenote=debug".into()),
        }
    }

    fn show(&self, value: &String) -> String {
        value.clone()
    }

    fn describe(&self) -> String {
        "tracing filter directives".into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    #[test]
    fn a_whole_number_says_whether_it_is_malformed_or_out_of_range() {
        let kind = Whole::<u16>(1..=100);
        assert_eq!(kind.parse(" 7 "), Ok(7));
        for text in ["ten", "", "1.5", "0x1", "1_0", "-"] {
            assert_eq!(
                kind.parse(text),
                Err("is not a whole number".into()),
                "{text}"
            );
        }
        for text in ["0", "101", "-1", "99999999999999999999999"] {
            assert_eq!(
                kind.parse(text),
                Err("is not within 1 to 100".into()),
                "{text}"
            );
        }
    }

    #[test]
    fn a_size_takes_k_and_m() {
        let kind = Bytes(1..=10 << 20);
        for (text, bytes) in [
            ("7", 7),
            ("64k", 65_536),
            ("1m", 1_048_576),
            ("1 M", 1_048_576),
        ] {
            assert_eq!(kind.parse(text), Ok(bytes), "{text}");
        }
        for text in [
            "0",
            "11m",
            "1g",
            "m",
            "",
            "-1",
            "1.5m",
            "99999999999999999999m",
        ] {
            assert!(kind.parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_listen_host_is_an_address_or_a_name_without_port() {
        for (text, host) in [
            ("127.0.0.1", "127.0.0.1"),
            ("::", "::"),
            ("[::1]", "::1"),
            ("localhost", "localhost"),
        ] {
            assert_eq!(ListenHost.parse(text), Ok(host.into()), "{text}");
        }
        for text in ["", "localhost:80", "http://x", "a b", "[::1]:80"] {
            assert!(ListenHost.parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_log_filter_that_would_make_its_parser_panic_is_refused() {
        assert!(LogFilter.parse(" ቚ=").is_err());
        assert!(LogFilter.parse("info,cenote=debug").is_ok());
    }

    proptest! {
        #[test]
        fn no_text_makes_a_parser_panic(text in "\\PC{0,12}|[-+0-9.eE]{0,12}[km]?") {
            let _ = Whole::<u16>(0..=u16::MAX).parse(&text);
            let _ = Bytes(0..=usize::MAX).parse(&text);
            let _ = Switch.parse(&text);
            let _ = ListenHost.parse(&text);
            let _ = LogFilter.parse(&text);
        }
    }
}
