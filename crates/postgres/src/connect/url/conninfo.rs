//! Splits a connection string into its options, in both forms that libpq's `PQconninfoParse` accepts.
//!
//! Invariant: the result is libpq's, or the text is refused. More is refused than by libpq: a text that is probably a
//! password with an unescaped `@`, `/`, `?` or blank, because libpq would connect to a host made of a part of it.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::options::{self, Given, Result};
use crate::InvalidUrl;

/// Returns the options in libpq's order. If a name occurs twice, the last one counts.
pub(super) fn read(text: &str) -> Result<Vec<Given>> {
    if text.contains('\0') {
        return Err("holds a NUL character".into());
    }
    if let Some(rest) = without_scheme(text) {
        return read_url(rest);
    }
    if let Some(rest) = text.strip_prefix("jdbc:")
        && without_scheme(rest).is_some()
    {
        return Err("starts with jdbc:; remove that, and write user and password as \
                    postgresql://user:password@host/name"
            .into());
    }
    if is_url(text) || !text.contains('=') {
        return Err("must start with postgresql:// or postgres:// (in lower case), \
                    or be a list such as `host=… user=… dbname=…`"
            .into());
    }
    read_list(text)
}

/// Returns the text after `postgresql://`, `postgres://`, or either with a driver of SQLAlchemy, as in
/// `postgresql+asyncpg://`.
fn without_scheme(text: &str) -> Option<&str> {
    let (scheme, rest) = text.split_once("://")?;
    let (name, driver) = scheme.split_once('+').unwrap_or((scheme, "driver"));
    let is_driver = !driver.is_empty() && driver.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    (matches!(name, "postgresql" | "postgres") && is_driver).then_some(rest)
}

/// Whether the text starts with any scheme.
fn is_url(text: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '.' | '-' | ':');
    text.split_once("://")
        .is_some_and(|(scheme, _)| scheme.chars().all(plain))
}

/// `[user[:password]@][host[:port],…][/dbname][?name=value&…]`
fn read_url(text: &str) -> Result<Vec<Given>> {
    if text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
        return Err("holds a blank or a control character; in a URL it is percent-encoded, a blank as %20".into());
    }
    let mut given = Vec::new();
    let mut add = |name, value: &str| -> Result<()> {
        if !value.is_empty() {
            given.push(Given::new(name, decode(value)?));
        }
        Ok(())
    };
    // libpq looks for the `@` up to the first slash, even after a question mark.
    let head = &text[..text.find('/').unwrap_or(text.len())];
    let rest = match head.split_once('@') {
        None => text,
        Some((_, hosts)) if hosts.contains('@') => {
            return Err("has more than one @; write those in the user or the password as %40".into());
        }
        Some((credentials, _)) if credentials.contains('?') => {
            return Err(
                "has a ? before its @; in the user or the password write ? as %3F, in an option write @ as %40".into(),
            );
        }
        Some((credentials, _)) => {
            let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
            add("user", user)?;
            add("password", password)?;
            &text[credentials.len() + 1..]
        }
    };
    let Hosts { hosts, ports, rest } = hosts(rest)?;
    add("host", &hosts)?;
    add("port", &ports)?;
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    let path = path.strip_prefix('/').unwrap_or(path);
    if path.contains('@') {
        return Err(
            "has an @ behind its first /; write / in the user or the password as %2F, \
                    and @ in the name of the database as %40"
                .into(),
        );
    }
    add("dbname", path)?;
    read_query(query, &mut given)?;
    Ok(given)
}

/// The hosts and ports of a URL, as lists separated by commas.
struct Hosts<'a> {
    hosts: String,
    ports: String,
    rest: &'a str,
}

fn hosts(text: &str) -> Result<Hosts<'_>> {
    let mut read = Hosts {
        hosts: String::new(),
        ports: String::new(),
        rest: text,
    };
    loop {
        let end = match read.rest.strip_prefix('[') {
            Some(address) => {
                let end = address.find(']').ok_or("has a [ without ]")?;
                if end == 0 {
                    return Err("has nothing between [ and ]".into());
                }
                read.hosts += &address[..end];
                read.rest = &address[end + 1..];
                if !read.rest.is_empty() && !read.rest.starts_with([':', '/', '?', ',']) {
                    return Err("has text between the ] of a host and its port".into());
                }
                0
            }
            None => read.rest.find([':', '/', '?', ',']).unwrap_or(read.rest.len()),
        };
        read.hosts += &read.rest[..end];
        read.rest = &read.rest[end..];
        if let Some(port) = read.rest.strip_prefix(':') {
            let end = port.find(['/', '?', ',']).unwrap_or(port.len());
            read.ports += &port[..end];
            read.rest = &port[end..];
        }
        match read.rest.strip_prefix(',') {
            Some(rest) => read.rest = rest,
            None => return Ok(read),
        }
        read.hosts.push(',');
        read.ports.push(',');
    }
}

fn read_query(query: &str, given: &mut Vec<Given>) -> Result<()> {
    // An unescaped @ may end a password, and a part of it may look like an option.
    let mut printable = !query.contains('@');
    // libpq accepts one & at the end.
    let query = query.strip_suffix('&').filter(|rest| !rest.is_empty()).unwrap_or(query);
    if query.is_empty() {
        return Ok(());
    }
    for option in query.split('&') {
        let (name, value) = option.split_once('=').ok_or("has an option without = in its query")?;
        if value.contains('=') {
            return Err("has an option with two = in its query; write = in a value as %3D".into());
        }
        let mut one = Given {
            name: decode(name)?,
            value: decode(value)?,
            printable,
        };
        // The JDBC driver's spelling. libpq understands only this value.
        if one.name == "ssl" && one.value == "true" {
            one = Given::new("sslmode", "require".to_owned());
        }
        printable &= !options::is_secret(&one.name);
        given.push(one);
    }
    Ok(())
}

/// Decodes `%XX`. `percent_encoding` keeps a `%` that is not followed by two hexadecimal digits; libpq refuses it.
fn decode(text: &str) -> Result<String> {
    let hex = |digit: Option<&u8>| digit.is_some_and(u8::is_ascii_hexdigit);
    for (at, _) in text.match_indices('%') {
        let digits = &text.as_bytes()[at + 1..];
        if !hex(digits.first()) || !hex(digits.get(1)) {
            return Err("has a % that is not followed by two hexadecimal digits; write % itself as %25".into());
        }
        if digits.starts_with(b"00") {
            return Err("has a %00; no value may hold a NUL character".into());
        }
    }
    let decoded = percent_decode_str(text).decode_utf8();
    decoded
        .map(Cow::into_owned)
        .map_err(|_| "has a value that is not UTF-8".into())
}

/// `name = value name = 'value' …`
fn read_list(text: &str) -> Result<Vec<Given>> {
    // The set of C's isspace; Rust's is_ascii_whitespace lacks the vertical tab.
    let is_space = |c: char| matches!(c, ' ' | '\t'..='\r');
    let mut given = Vec::new();
    // The whole text may be a password.
    let mut printable = false;
    let mut rest = text.trim_start_matches(is_space);
    while !rest.is_empty() {
        let end = rest.find(|c| c == '=' || is_space(c)).unwrap_or(rest.len());
        let (name, after) = rest.split_at(end);
        let after = after.trim_start_matches(is_space).strip_prefix('=');
        let after = after.ok_or("is not a PostgreSQL connection string: it has a word without =")?;
        let after = after.trim_start_matches(is_space);
        let (value, after) = match after.strip_prefix('\'') {
            Some(quoted) => quoted_value(quoted)?,
            None => bare_value(after, is_space),
        };
        given.push(Given {
            name: name.to_owned(),
            value,
            printable,
        });
        // The word after a password may be a part of it.
        printable = (printable || given.len() == 1) && options::is_known(name) && !options::is_secret(name);
        rest = after.trim_start_matches(is_space);
    }
    Ok(given)
}

fn quoted_value(text: &str) -> Result<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.chars();
    while let Some(c) = characters.next() {
        match c {
            '\'' => return Ok((value, characters.as_str())),
            '\\' => value.extend(characters.next()),
            c => value.push(c),
        }
    }
    Err(InvalidUrl::from("has a quote that does not end"))
}

fn bare_value(text: &str, is_space: impl Fn(char) -> bool) -> (String, &str) {
    let mut value = String::new();
    let mut characters = text.chars();
    loop {
        let rest = characters.as_str();
        match characters.next() {
            Some(c) if is_space(c) => return (value, rest),
            Some('\\') => value.extend(characters.next()),
            Some(c) => value.push(c),
            None => return (value, rest),
        }
    }
}
