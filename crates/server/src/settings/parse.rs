//! Reads and prints the kinds of value a setting can have.
//!
//! Invariant: for every kind `parse(show(value)) == value`, unless the kind is secret; no parser panics,
//! and no complaint quotes the text it complains about (the caller knows whether it may).

use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use cenote_postgres::check_host;
use cenote_secret::{REDACTED, Secret};

/// The kind of value a setting takes.
pub(crate) trait Kind: Sync {
    /// What the rest of the program sees.
    type Value: Clone + PartialEq;

    /// Whether the value may be printed.
    const SECRET: bool = false;
    /// Whether a complaint may quote the text. Where a URL is easily written by mistake, it may hold a password.
    const QUOTED: bool = true;
    /// What stands for the value in `--help`.
    const PLACEHOLDER: &'static str;
    /// Whether the value may come from the TOML file or from `NAME_FILE`.
    const INDIRECT: bool = true;
    /// Whether the bare flag means `true`.
    const SWITCH: bool = false;

    /// Reads the value. The error continues a sentence that starts with the value: "is not a whole number".
    fn parse(&self, text: &str) -> Result<Self::Value, String>;

    /// Whether a value may hold this character.
    fn allows(&self, c: char) -> bool {
        !c.is_control() && !is_invisible(c)
    }

    /// Prints the value, without its secrets.
    fn show(&self, value: &Self::Value) -> String;

    /// What the value may be, for the documentation.
    fn describe(&self) -> String;
}

/// Joins, spaces of no width, and marks of direction and of byte order: what is copied along unseen.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
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
            return Err("is not a whole number; Kubernetes sets such a variable for a Service, \
                 `enableServiceLinks: false` in the pod prevents it"
                .into());
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

/// A name in the database, or another text without a form of its own.
pub(crate) struct Text(pub(crate) &'static str);

impl Kind for Text {
    type Value = String;
    const QUOTED: bool = false;
    const PLACEHOLDER: &'static str = "TEXT";

    fn parse(&self, text: &str) -> Result<String, String> {
        not_empty(text)?;
        if text.trim() != text {
            return Err("starts or ends with a blank".into());
        }
        if text.contains("://") {
            return Err("is a URL; set DATABASE_URL to it instead".into());
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

fn not_empty(text: &str) -> Result<(), String> {
    match text.is_empty() {
        true => Err("is empty".into()),
        false => Ok(()),
    }
}

/// Where the database is: hosts, addresses or socket directories, separated by commas.
pub(crate) struct DatabaseHost;

impl Kind for DatabaseHost {
    type Value = String;
    const QUOTED: bool = false;
    const PLACEHOLDER: &'static str = "HOST";

    fn parse(&self, text: &str) -> Result<String, String> {
        not_empty(text)?;
        if text.contains("://") {
            return Err("is a URL; set DATABASE_URL to it instead, or give the host alone".into());
        }
        let hosts = text.split(',').map(|host| database_host(host.trim()));
        Ok(hosts.collect::<Result<Vec<_>, _>>()?.join(","))
    }

    fn show(&self, value: &String) -> String {
        value.clone()
    }

    fn describe(&self) -> String {
        "host name, address or socket directory".into()
    }
}

/// One of the hosts, without brackets.
fn database_host(host: &str) -> Result<&str, String> {
    if host.starts_with('/') {
        return Ok(host);
    }
    let bare = host
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .unwrap_or(host);
    match check_host(bare) {
        Ok(()) => Ok(bare),
        Err(_) if has_port(host) => Err("holds a port; that goes into DB_PORT".into()),
        Err(_) if host.contains('/') => Err("holds a path; the name of the database goes into DB_NAME".into()),
        Err(_) if host.contains('@') => Err("holds an @; user and password go into DB_USER and DB_PASS".into()),
        Err(complaint) => Err(complaint.into()),
    }
}

/// Whether the text is a host and a port.
fn has_port(text: &str) -> bool {
    let port = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:").map(|(_, port)| port),
        None => text.split_once(':').map(|(_, port)| port),
    };
    port.is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

/// Text that must not be printed.
pub(crate) struct Password;

impl Kind for Password {
    type Value = Secret<String>;
    const SECRET: bool = true;
    const PLACEHOLDER: &'static str = "SECRET";

    fn parse(&self, text: &str) -> Result<Self::Value, String> {
        not_empty(text)?;
        Ok(Secret::new(text.to_owned()))
    }

    fn allows(&self, c: char) -> bool {
        !c.is_control()
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
        if text == "*" {
            return Err("is not an address; 0.0.0.0 means every IPv4 address, :: every address".into());
        }
        if text.contains("://") {
            return Err("is a URL; give the address alone, and the port in PORT".into());
        }
        let bare = text
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
            .unwrap_or(text);
        // A link-local address names its interface.
        let address = bare.split_once('%').map_or(bare, |(address, _)| address);
        let name = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
        if address.parse::<std::net::IpAddr>().is_ok()
            || (!bare.is_empty() && bare.len() < 254 && bare.bytes().all(name))
        {
            Ok(bare.to_owned())
        } else if has_port(text) {
            Err("holds a port; that goes into PORT".into())
        } else {
            Err("is not an IP address or a host name".into())
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
        not_empty(text)?;
        match text.trim() == text {
            true => Ok(PathBuf::from(text)),
            false => Err("starts or ends with a blank".into()),
        }
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

const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];

/// A word alone is a level here. To tracing another one is a module of which everything is logged, and nothing else is:
/// a misspelt level would switch the log off.
fn check_directive(directive: &str) -> Result<(), String> {
    let is_level = |word: &str| {
        let is_number = word.len() == 1 && ('0'..='5').contains(&word.chars().next().unwrap_or_default());
        is_number || LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word))
    };
    // A filter by spans and their fields, which may hold commas, is left to tracing.
    if directive.contains(['[', ']', '{', '}']) {
        return Ok(());
    }
    match directive.split_once('=') {
        _ if is_level(directive) => Ok(()),
        None if directive.contains("::") || directive == "cenote" || directive.starts_with("cenote_") => Ok(()),
        None => Err(format!(
            "holds {directive:?}, which is no level ({}); for a module write its level too, as in cenote=debug",
            LEVELS.join(", ")
        )),
        Some((module, level)) if module.is_empty() || !is_level(level) => Err(format!(
            "holds {directive:?}, which is not a filter such as info or cenote=debug; levels are {}",
            LEVELS.join(", ")
        )),
        Some(_) => Ok(()),
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
        let directives: Vec<_> = text.split(',').map(str::trim).collect();
        for directive in &directives {
            check_directive(directive)?;
        }
        let text = directives.join(",");
        match tracing_subscriber::EnvFilter::builder().parse(&text) {
            Ok(_) => Ok(text),
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
            assert_eq!(kind.parse(text), Err("is not a whole number".into()), "{text}");
        }
        for text in ["0", "101", "-1", "99999999999999999999999"] {
            assert_eq!(kind.parse(text), Err("is not within 1 to 100".into()), "{text}");
        }
    }

    #[test]
    fn a_size_takes_k_and_m() {
        let kind = Bytes(1..=10 << 20);
        for (text, bytes) in [("7", 7), ("64k", 65_536), ("1m", 1_048_576), ("1 M", 1_048_576)] {
            assert_eq!(kind.parse(text), Ok(bytes), "{text}");
        }
        for text in ["0", "11m", "1g", "m", "", "-1", "1.5m", "99999999999999999999m"] {
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
        for text in ["", "a b", "a,b", "/run/x"] {
            assert!(ListenHost.parse(text).is_err(), "{text}");
        }
        for (text, cure) in [
            ("localhost:80", "PORT"),
            ("0.0.0.0:8000", "PORT"),
            ("[::1]:80", "PORT"),
            ("http://x:80", "PORT"),
            ("*", "0.0.0.0"),
        ] {
            let complaint = ListenHost.parse(text).unwrap_err();
            assert!(complaint.contains(cure), "{text}: {complaint}");
        }
    }

    #[test]
    fn a_database_host_is_a_name_an_address_or_a_directory_without_port() {
        for (text, hosts) in [
            ("localhost", "localhost"),
            (" a , b ", "a,b"),
            ("[::1]", "::1"),
            ("fe80::1%eth0", "fe80::1%eth0"),
            ("/run/postgresql", "/run/postgresql"),
        ] {
            assert_eq!(DatabaseHost.parse(text), Ok(hosts.into()), "{text}");
        }
        for (text, cure) in [
            ("localhost:5432", "DB_PORT"),
            ("[::1]:5432", "DB_PORT"),
            ("a,b:5432", "DB_PORT"),
            ("localhost:", "DB_PORT"),
            ("postgres://u:p@h/d", "DATABASE_URL"),
            ("tcp://172.17.0.2:5432", "DATABASE_URL"),
            ("localhost/shop", "DB_NAME"),
            ("u:p@h", "DB_USER"),
            ("my host", "character"),
            ("a,,b", "empty"),
            ("*", "character"),
            ("", "empty"),
        ] {
            let complaint = DatabaseHost.parse(text).unwrap_err();
            assert!(complaint.contains(cure), "{text}: {complaint}");
        }
    }

    #[test]
    fn a_log_filter_with_a_misspelt_level_is_refused_by_that_level() {
        for (text, named) in [
            ("debgu", "\"debgu\""),
            ("info,debgu", "\"debgu\""),
            ("cenote=debgu", "\"cenote=debgu\""),
            ("info,cenote=", "\"cenote=\""),
            ("=info", "\"=info\""),
            ("verbose", "\"verbose\""),
            ("6", "\"6\""),
            ("", "\"\""),
            ("info,,warn", "\"\""),
        ] {
            let complaint = LogFilter.parse(text).unwrap_err();
            assert!(complaint.contains(named), "{text}: {complaint}");
        }
        for text in [
            "info",
            "WARN",
            "off",
            "3",
            "info, cenote=debug",
            "cenote",
            "cenote::http",
            "hyper=off,warn",
            "cenote[request{method=GET}]=debug",
        ] {
            assert_eq!(LogFilter.parse(text), Ok(text.replace(", ", ",")), "{text}");
        }
    }

    #[test]
    fn what_nobody_sees_is_not_part_of_a_value() {
        for c in ['\u{200b}', '\u{feff}', '\u{202e}', '\t', '\0', '\u{7f}'] {
            assert!(!Text("").allows(c), "{c:?}");
        }
        for c in ['a', 'é', ' ', '語'] {
            assert!(Text("").allows(c), "{c:?}");
        }
        assert!(Password.allows('\u{200b}') && !Password.allows('\n'));
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
            let _ = DatabaseHost.parse(&text);
            let _ = LogFilter.parse(&text);
        }
    }
}
