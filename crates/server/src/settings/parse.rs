//! Parses and prints the kinds of value that a setting can have.
//!
//! Invariant: for every kind `parse(show(value)) == value`, unless the kind is secret. No parser panics, and no
//! complaint quotes the text: the caller knows whether it may.

use std::fmt;
use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use cenote_cache::RedisUrl;
use cenote_postgres::{ConnectionString, InvalidUrl, check_host};
use cenote_secret::Secret;

use crate::store::SchemaName;
use crate::telemetry;

/// A kind of value.
pub(super) trait Kind: Sync {
    /// The value after parsing.
    type Value: Clone + PartialEq;

    /// Whether the value is secret.
    const SECRET: bool = false;
    /// Whether a complaint may quote the text. A URL with a password is easily written in place of a host or a name.
    const QUOTED: bool = true;
    /// Whether the bare flag means `true`.
    const SWITCH: bool = false;
    /// What stands for the value in `--help`.
    const PLACEHOLDER: &'static str;

    /// Parses the value. The error continues a sentence that starts with the value: "is not a whole number".
    fn parse(&self, text: &str) -> Result<Self::Value, String>;

    /// Prints the value, without its secrets.
    fn show(&self, value: &Self::Value) -> String;

    /// What the value may be, for the documentation.
    fn describe(&self) -> String;

    /// Whether a value may hold this character.
    fn allows(&self, c: char) -> bool {
        !c.is_control() && !is_invisible(c)
    }
}

/// Kinds whose values have no bounds: `Name: Value, "PLACEHOLDER", "description", parse, show;`
macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident: $value:ty, $placeholder:literal, $description:literal, $parse:expr, $show:expr
        $(, { $($overruled:item)* })?;)*) => { $(
        $(#[$doc])*
        pub(super) struct $name;

        impl $crate::settings::parse::Kind for $name {
            type Value = $value;
            const PLACEHOLDER: &'static str = $placeholder;
            $($($overruled)*)?

            fn parse(&self, text: &str) -> Result<$value, String> {
                $parse(text)
            }

            fn show(&self, value: &$value) -> String {
                $show(value)
            }

            fn describe(&self) -> String {
                $description.to_owned()
            }
        }
    )* };
}
pub(super) use kinds;

/// Joiners, spaces of no width, marks of direction and of byte order: they are copied along with a text, unseen.
fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// A whole number within a range.
pub(super) struct Whole<T>(pub(super) RangeInclusive<T>);

impl<T: TryFrom<u64> + PartialOrd + Copy + fmt::Display + Sync> Kind for Whole<T> {
    type Value = T;
    const PLACEHOLDER: &'static str = "N";

    fn parse(&self, text: &str) -> Result<T, String> {
        let text = text.trim();
        if text.starts_with("tcp://") {
            return Err("is not a whole number; Kubernetes sets such a variable for a Service, \
                 `enableServiceLinks: false` in the pod prevents it"
                .into());
        }
        if !is_digits(text.strip_prefix(['-', '+']).unwrap_or(text)) {
            return Err("is not a whole number".into());
        }
        let number = text.parse::<u64>().ok().and_then(|number| T::try_from(number).ok());
        within(&self.0, number)
    }

    fn show(&self, value: &T) -> String {
        value.to_string()
    }

    fn describe(&self) -> String {
        format!("whole number, {} to {}", self.0.start(), self.0.end())
    }
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The number, unless it is too large for its type or outside the range.
fn within<T: PartialOrd + fmt::Display>(range: &RangeInclusive<T>, number: Option<T>) -> Result<T, String> {
    number
        .filter(|number| range.contains(number))
        .ok_or_else(|| format!("is not within {} to {}", range.start(), range.end()))
}

/// A size in bytes.
pub(super) struct Bytes(pub(super) RangeInclusive<usize>);

impl Kind for Bytes {
    type Value = usize;
    const PLACEHOLDER: &'static str = "BYTES";

    fn parse(&self, text: &str) -> Result<usize, String> {
        let text = text.trim().to_ascii_lowercase();
        let units = [('k', 1 << 10), ('m', 1 << 20)];
        let with_unit = units
            .iter()
            .find_map(|(unit, bytes)| Some((text.strip_suffix(*unit)?, *bytes)));
        let (number, unit) = with_unit.unwrap_or((&text, 1));
        let number = number.trim_end();
        if !is_digits(number) {
            return Err("is not a number of bytes such as 65536, 64k or 1m".into());
        }
        within(
            &self.0,
            number.parse::<usize>().ok().and_then(|it| it.checked_mul(unit)),
        )
    }

    fn show(&self, value: &usize) -> String {
        value.to_string()
    }

    fn describe(&self) -> String {
        format!("bytes, {} to {}", self.0.start(), self.0.end())
    }
}

/// One of a few words, each of which stands for a value.
pub(super) struct OneOf<T: 'static>(pub(super) &'static [(&'static str, T)]);

impl<T: Copy + PartialEq + Sync> Kind for OneOf<T> {
    type Value = T;
    const PLACEHOLDER: &'static str = "WORD";

    fn parse(&self, text: &str) -> Result<T, String> {
        let found = self.0.iter().find(|(word, _)| text.trim().eq_ignore_ascii_case(word));
        found
            .map(|(_, value)| *value)
            .ok_or_else(|| format!("is not one of {}", self.describe()))
    }

    fn show(&self, value: &T) -> String {
        let found = self.0.iter().find(|(_, other)| other == value);
        found.map_or_else(String::new, |(word, _)| (*word).to_owned())
    }

    fn describe(&self) -> String {
        let words: Vec<_> = self.0.iter().map(|(word, _)| *word).collect();
        words.join(", ")
    }
}

kinds! {
    /// A boolean.
    Switch: bool, "BOOL", "true or false", switch, bool::to_string, { const SWITCH: bool = true; };

    /// A name in the database.
    Text: String, "TEXT", "text", text, String::clone, { const QUOTED: bool = false; };

    /// A text that must not be printed.
    Password: Secret<String>, "SECRET", "text", password, Secret::to_string, {
        const SECRET: bool = true;

        fn allows(&self, c: char) -> bool {
            !c.is_control()
        }
    };

    /// A file or a directory.
    Location: PathBuf, "PATH", "path", location, |path: &PathBuf| path.display().to_string();

    /// Where Redis is: a server, or several nodes of a cluster. The cache's own parser reads it.
    RedisServers: Vec<RedisUrl>, "URL", "URL of Redis, or a comma-separated list of those of a cluster's nodes",
        |text| RedisUrl::parse_list(text).map_err(|invalid| invalid.to_string()),
        |servers: &Vec<RedisUrl>| servers.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        { const SECRET: bool = true; };

    /// A connection string. The library parses it.
    DatabaseUrl: ConnectionString, "URL", "postgresql:// URL, or libpq key=value list", database_url,
        ConnectionString::to_string, {
        const SECRET: bool = true;

        fn allows(&self, c: char) -> bool {
            // White space of every kind separates the options of a list.
            c.is_ascii_whitespace() || Text.allows(c)
        }
    };

    /// The name of a schema.
    SchemaIdentifier: SchemaName, "NAME", "name of a schema; taken as it is written, upper and lower case included",
        str::parse, SchemaName::to_string;

    /// Where the database is: hosts, addresses or socket directories, separated by commas.
    DatabaseHost: String, "HOST", "host name, address or socket directory", database_hosts, String::clone,
        { const QUOTED: bool = false; };

    /// An address or a host name to listen on.
    ListenHost: String, "HOST", "IP address or host name", listen_host, String::clone;

    /// Directives of a tracing filter.
    LogFilter: String, "FILTER", "tracing filter directives", telemetry::parse_filter, String::clone;
}

fn switch(text: &str) -> Result<bool, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(true),
        "false" | "0" | "no" | "off" => Ok(false),
        _ => Err("is not true, false, 1, 0, yes, no, on or off".into()),
    }
}

fn not_empty(text: &str) -> Result<(), String> {
    match text.is_empty() {
        true => Err("is empty".into()),
        false => Ok(()),
    }
}

fn without_blanks_around(text: &str) -> Result<(), String> {
    not_empty(text)?;
    match text.trim() == text {
        true => Ok(()),
        false => Err("starts or ends with a blank".into()),
    }
}

fn text(text: &str) -> Result<String, String> {
    without_blanks_around(text)?;
    match text.contains("://") {
        true => Err("is a URL; set DATABASE_URL to it instead".into()),
        false => Ok(text.to_owned()),
    }
}

fn password(text: &str) -> Result<Secret<String>, String> {
    not_empty(text)?;
    Ok(Secret::new(text.to_owned()))
}

fn location(text: &str) -> Result<PathBuf, String> {
    without_blanks_around(text)?;
    Ok(PathBuf::from(text))
}

fn database_url(text: &str) -> Result<ConnectionString, String> {
    let parsed: Result<ConnectionString, InvalidUrl> = text.trim().parse();
    let checked = parsed.and_then(|parsed| parsed.config().map(|_| parsed));
    checked.map_err(|problem| problem.to_string())
}

/// Whether a connection string has a port, for each host or for all.
pub(super) fn has_port(text: &ConnectionString) -> bool {
    // Ports left open beside hosts leave commas.
    text.get("port").is_some_and(|ports| ports.contains(|c| c != ','))
}

fn database_hosts(text: &str) -> Result<String, String> {
    not_empty(text)?;
    if text.contains("://") {
        return Err("is a URL; set DATABASE_URL to it instead, or give the host alone".into());
    }
    let hosts = text.split(',').map(|host| database_host(host.trim()));
    Ok(hosts.collect::<Result<Vec<_>, _>>()?.join(","))
}

/// One of the hosts, without brackets.
fn database_host(host: &str) -> Result<&str, String> {
    if host.starts_with('/') {
        return Ok(host);
    }
    let bare = without_brackets(host);
    match check_host(bare) {
        Ok(()) => Ok(bare),
        Err(_) if ends_with_port(host) => Err("holds a port; that goes into DB_PORT".into()),
        Err(_) if host.contains('/') => Err("holds a path; the name of the database goes into DB_NAME".into()),
        Err(_) if host.contains('@') => Err("holds an @; user and password go into DB_USER and DB_PASS".into()),
        Err(complaint) => Err(complaint.into()),
    }
}

/// An IPv6 address is written in brackets where a port may follow.
fn without_brackets(host: &str) -> &str {
    let inside = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    inside.unwrap_or(host)
}

/// Whether the text is a host and a port.
fn ends_with_port(text: &str) -> bool {
    let port = match text.strip_prefix('[') {
        Some(rest) => rest.split_once("]:"),
        None => text.split_once(':'),
    };
    port.is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()))
}

fn listen_host(text: &str) -> Result<String, String> {
    let text = text.trim();
    if text == "*" {
        return Err("is not an address; 0.0.0.0 means every IPv4 address, :: every address".into());
    }
    if text.contains("://") {
        return Err("is a URL; give the address alone, and the port in PORT".into());
    }
    let bare = without_brackets(text);
    // A link-local address names its interface.
    let address = bare.split_once('%').map_or(bare, |(address, _)| address);
    let in_names = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    // A name in DNS has 253 bytes at most.
    let is_name = !bare.is_empty() && bare.len() < 254 && bare.bytes().all(in_names);
    match address.parse::<IpAddr>().is_ok() || is_name {
        true => Ok(bare.to_owned()),
        false if ends_with_port(text) => Err("holds a port; that goes into PORT".into()),
        false => Err("is not an IP address or a host name".into()),
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
            assert!(!Text.allows(c), "{c:?}");
        }
        for c in ['a', 'é', ' ', '語'] {
            assert!(Text.allows(c), "{c:?}");
        }
        assert!(Password.allows('\u{200b}') && !Password.allows('\n'));
    }

    #[test]
    fn a_log_filter_that_would_make_its_parser_panic_is_refused() {
        assert!(LogFilter.parse(" ቚ=").is_err());
        assert!(LogFilter.parse("info,cenote=debug").is_ok());
    }

    #[test]
    fn urls_of_postgresql_sqlalchemy_and_libpq_are_read_alike() {
        for text in [
            "postgresql://u:p@h:5433/d",
            "postgres://u:p@h:5433/d",
            "postgresql+asyncpg://u:p@h:5433/d",
            "postgresql+psycopg://u:p@h:5433/d",
            "postgres+psycopg2://u:p@h:5433/d",
            "  postgresql://u:p@h:5433/d\n",
            "host=h port=5433 user=u password=p dbname=d",
        ] {
            let dsn = DatabaseUrl.parse(text).unwrap();
            assert_eq!(dsn.config().unwrap().server.get_user(), Some("u"), "{text}");
            assert_eq!(dsn.config().unwrap().server.get_password(), Some(&b"p"[..]), "{text}");
            assert_eq!(DatabaseUrl.show(&dsn), "postgresql://u:***@h:5433/d", "{text}");
            assert!(has_port(&dsn), "{text}");
        }
    }

    #[test]
    fn complaints_continue_a_sentence_and_quote_no_secret() {
        for (text, expected) in [
            ("mysql://u:hunter2@h/d", "must start with"),
            ("postgresql+asyncpg://u:hun@ter2@h/d", "%40"),
            ("postgresql://h/d?sslmode=hunter2", "verify-full"),
            ("host=h password=oh hunter2=x", "unknown option"),
            ("jdbc:postgresql://h/d?password=hunter2", "remove that"),
        ] {
            let complaint = DatabaseUrl.parse(text).unwrap_err();
            assert!(complaint.contains(expected), "{text}: {complaint}");
            assert!(!complaint.contains("ter2"), "{text}: {complaint}");
        }
    }

    #[test]
    fn what_is_shown_says_how_far_the_server_is_trusted_and_which_one_will_do() {
        for (options, shown) in [
            ("", ""),
            ("?sslmode=require", "?sslmode=require"),
            ("?sslmode=allow", "?sslmode=allow"),
            (
                "?sslrootcert=system&target_session_attrs=primary",
                "?sslmode=verify-full&target_session_attrs=primary",
            ),
            ("?sslmode=verify-ca&sslrootcert=/ca", "?sslmode=verify-ca"),
        ] {
            let dsn = DatabaseUrl.parse(&format!("postgresql://h{options}"));
            let expected = format!("postgresql://h:5432{shown}");
            assert_eq!(DatabaseUrl.show(&dsn.unwrap()), expected);
        }
    }

    #[test]
    fn what_is_shown_is_a_url_whose_parts_cannot_be_taken_for_others() {
        for (text, shown) in [
            (
                "postgresql://db.example.org:5432/shop?password=hunter2&user=svc@corp.example",
                "postgresql://svc%40corp.example:***@db.example.org:5432/shop",
            ),
            (
                "postgresql://u%3Ahunter%40x@h/a%2Fb",
                "postgresql://u%3Ahunter%40x@h:5432/a%2Fb",
            ),
            ("postgresql://[::1]/d", "postgresql://[::1]:5432/d"),
            ("hostaddr=::1 user=u", "postgresql://u@[::1]:5432"),
            ("postgresql://%2Frun%2Fpg/d", "postgresql://%2Frun%2Fpg:5432/d"),
        ] {
            assert_eq!(DatabaseUrl.show(&DatabaseUrl.parse(text).unwrap()), shown);
        }
    }

    #[test]
    fn a_port_is_filled_in_only_where_the_text_leaves_it_open() {
        for (text, shown) in [
            ("postgresql://u:p@h/d", "postgresql://u:***@h:7/d"),
            (
                "postgresql://a,b/d?sslmode=require",
                "postgresql://a:7,b:7/d?sslmode=require",
            ),
            ("postgresql://[::1]", "postgresql://[::1]:7"),
            ("postgresql:///d?host=h", "postgresql://h:7/d"),
            ("host=h", "postgresql://h:7"),
        ] {
            let mut dsn = DatabaseUrl.parse(text).unwrap();
            assert!(!has_port(&dsn), "{text}");
            dsn.set("port", "7");
            assert!(has_port(&dsn), "{text}");
            assert_eq!(DatabaseUrl.show(&dsn), shown);
        }
        for text in ["postgresql://h:1", "postgresql://[::1]:1", "host=h port=1"] {
            assert!(has_port(&DatabaseUrl.parse(text).unwrap()), "{text}");
        }
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
